"""One machine's own records to calibrations: operators give the priors, generations the fit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from analyzer.records import Record
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from calibration.export import rounded
from calibration.intake import as_measured_here
from calibration.machine_operators import learn, priors_for_models
from calibration.pace import pace_of
from calibration.run import Outcome, calibrate_collected, gathered
from calibration.visits import is_disturbed, joined

PARTS = frozenset({"operator", "link", "collective", "layer", "memory"})
"""Kinds of record that are no rows to fit: operators give priors, links and collectives the system,
layers and memory are there to be compared with."""


def fit_records(records: Sequence[Record], reference: str, doubtful: bool = False) -> list[Outcome]:
    """Every engine that the records ran on the system that `reference` loads."""
    system = load_system(reference)
    learnt = learn(records, machine(system))
    whole = [record for record in records if record.kind not in PARTS]
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        own = as_measured_here(joined(whole), reference, models, doubtful)
        collected = gathered(reference, own, models / "none")
    around = None if learnt is None else lambda group: priors_for_models(learnt, group)
    done = calibrate_collected(system.name, collected, priors_of=around)
    return at_pace(done, records)


def at_pace(done: Sequence[Outcome], records: Sequence[Record]) -> list[Outcome]:
    """The outcomes, with the machine's pace while the records were taken."""
    pace = {piece: rounded(seconds) for piece, seconds in pace_of(records).items()}
    return [
        one._replace(calibration=msgspec.structs.replace(one.calibration, pace=pace))
        for one in done
    ]


def mostly_disturbed(records: Sequence[Record]) -> bool:
    """Whether others were on the machine for most of its whole runs, so that what is left over
    would say less than all of it does."""
    whole = joined(record for record in records if record.kind == "e2e" and record.metrics)
    disturbed = sum(is_disturbed(record) for record in whole)
    return 2 * disturbed > len(whole)
