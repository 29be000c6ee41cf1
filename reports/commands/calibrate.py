"""Fit a system's rates to measurements, and say how far they can be trusted.

  plumbline calibrate --system RTX3090
  plumbline calibrate --system RTX3090 --perf-dir mine/ --model llama-2-7b
  plumbline calibrate --system auto
  plumbline calibrate --system RTX3090 --suggest 8 --model llama-3-8b

With measurements of one's own, the shipped calibration is the prior and they alone are fitted;
--with-published fits them together with the published rows. `--system auto` is this machine: what
`plumbline profile` left in ./plumbline-records is taken unless --records names another store, and
where no data sheet of the machine is known, the ceilings that it reached become its system file.

The calibration is written to --out, else to the folder that PLUMBLINE_RATES names, else to
./plumbline-rates. `plumbline predict --system auto` uses what lies there; for a system by its name,
what lies in the folder that PLUMBLINE_RATES names goes before what is shipped.
"""

from __future__ import annotations

import os
import tempfile
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import CalibrationError, ConfigError
from analyzer.records import Record, Scalar
from analyzer.system import System
from reports.commands.stores import DEFAULT_STORE, choose_system
from reports.console import complain, show, write, write_json

if TYPE_CHECKING:
    from calibration.collect import Group, LeftOut
    from calibration.parameters import Prior
    from calibration.run import Outcome


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--system", default="", help="catalog name, a .toml file, or auto")
    parser.add_argument("--engine", default="", help="only this engine")
    own = parser.add_argument_group("your own measurements")
    own.add_argument("--perf-dir", metavar="DIR", help="folder or file of CSVs, as they are")
    own.add_argument("--mapping", metavar="FILE", help="what their columns mean, as TOML")
    own.add_argument("--records", metavar="STORE", help="a profiler's store, or its JSON lines")
    own.add_argument("--doubtful", action="store_true", help="noisy and disturbed records too")
    own.add_argument("--model", default="", help="the model, where no column says it")
    own.add_argument("--tp", type=int, metavar="N", help="ranks, where no column says them")
    own.add_argument("--weights", default="", metavar="FORMAT", help="where no column says it")
    own.add_argument("--with-published", action="store_true", help="fit published rows as well")
    plan = parser.add_argument_group("what to measure next")
    plan.add_argument("--suggest", type=int, metavar="N", help="choose N measurements")
    plan.add_argument("--devices", type=int, metavar="N", help="at most so many devices")
    result = parser.add_argument_group("result")
    result.add_argument("--out", metavar="DIR", help="default: plumbline-rates")
    result.add_argument("--json", action="store_true", help="one JSON document on one line")
    shipped = parser.add_argument_group("the shipped catalog (for developers)")
    shipped.add_argument("--all", action="store_true", help="fit every system anew and ship it")
    shipped.add_argument(
        "--operators", nargs="?", const="", metavar="DEVICE",
        help="fit kernels anew, of all devices or of one",
    )  # fmt: skip
    shipped.add_argument("--check", action="store_true", help="does it still follow the data?")


def run(options: Namespace) -> None:
    """Fit, suggest or check."""
    if options.check:
        _check(options)
    elif options.all:
        _all(options)
    elif options.operators is not None:
        _operators(options.operators)
    elif not options.system:
        raise ConfigError("--system is missing: a catalog name, a .toml file, or auto")
    elif options.suggest is not None:
        from reports.commands.suggest import suggest

        suggest(options, out_folder(options))
    else:
        _one(options)


def out_folder(options: Namespace) -> Path:
    """Where results go; never among the shipped calibrations."""
    from analyzer.calibrated import FOLDER, own_folder

    folder = Path(options.out) if options.out else own_folder()
    if folder.resolve() == FOLDER.resolve():
        raise ConfigError(f"--out {folder}: these are the shipped calibrations; choose another")
    return folder


def _one(options: Namespace) -> None:
    from analyzer.records_engine import engine_class
    from calibration.corpus import PERF_DIR
    from calibration.machine_fit import at_pace
    from calibration.run import calibrate_collected, gathered

    folder = out_folder(options)
    measured = _measured(options)
    chosen = choose_system(options.system, measured, folder)
    for remark in chosen.remarks:
        complain(remark)
    engine = engine_class(options.engine) if options.engine else ""
    with tempfile.TemporaryDirectory() as models:
        own = _own(options, chosen.reference, measured, Path(models))
        alone = bool(own) and not options.with_published
        data = Path(models) / "none" if alone else PERF_DIR
        collected = gathered(chosen.reference, own, data)
    around = _around(measured, chosen.system) if alone else None
    done = calibrate_collected(chosen.system.name, collected, engine, priors_of=around)
    done = at_pace(done, measured)
    written = _write(done, folder)
    if options.json:
        from reports.calibrate_text import as_document

        out = collected.left_out
        left = [{"place": e.record.provenance.place, "reason": e.reason} for e in out]
        engines = [as_document(one, path) for one, path in zip(done, written, strict=True)]
        write_json({"system": chosen.system.name, "left_out": left, "engines": engines})
        return
    _print(chosen.system.name, done, collected.left_out, written, folder)


def _write(done: Sequence[Outcome], folder: Path) -> list[Path]:
    from calibration.export import write as write_rates

    try:
        return [write_rates(one.calibration, folder) for one in done]
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written: {error.strerror}") from None


def _around(measured: Sequence[Record], system: System) -> Callable[[Group], list[Prior]]:
    """Priors for one's own points alone: what the machine's operators say, where enough were
    measured; else the calibration that served so far."""
    from analyzer.timing.machine import machine
    from calibration.machine_operators import learn, priors_for_models
    from calibration.own import priors_around

    learnt = learn(measured, machine(system))
    if learnt is None:
        return lambda group: priors_around(group.system.name, group.engine, group.problem)
    complain(
        f"priors from {learnt.records} operators, which their forms describe within "
        f"{learnt.error:.1%} (geomean)"
    )
    return lambda group: priors_for_models(learnt, group)


def _print(
    system: str,
    done: Sequence[Outcome],
    left_out: Sequence[LeftOut],
    written: list[Path],
    folder: Path,
) -> None:
    from reports.calibrate_text import opening, section

    used = sum(one.calibration.rows for one in done)
    show(*opening(system, used, left_out))
    disturbed = sum("disturbed" in entry.reason for entry in left_out)
    if disturbed > used:
        complain(
            f"{disturbed} were taken while others were on the machine: take them anew when it is "
            "quiet (profile ... --retry-noisy), or fit them as they are (--doubtful)"
        )
    for one, path in zip(done, written, strict=True):
        show(*section(one, path))
    _how_to_use(system, folder)


def _how_to_use(system: str, folder: Path) -> None:
    """What to type next."""
    from analyzer.calibrated import FOLDER, own_folder

    if folder.resolve() != own_folder().resolve():
        write(f"To predict with these: PLUMBLINE_RATES={folder} plumbline predict ...")
    elif not any(FOLDER.glob(f"{system}__*.toml")):
        write("To predict with these, from this folder: plumbline predict --system auto ...")
    elif "PLUMBLINE_RATES" not in os.environ:
        write(
            f"To predict with these, from this folder: plumbline predict --system auto ..., or "
            f"PLUMBLINE_RATES={folder} plumbline predict --system {system} ..."
        )


def _measured(options: Namespace) -> Sequence[Record]:
    """The profilers' records: of the store that is named, or of this machine's own."""
    if options.records:
        return read_records(Path(options.records))
    if options.system != "auto" or options.perf_dir:
        return ()
    store = Path(DEFAULT_STORE)
    if not store.is_dir():
        raise CalibrationError(
            f"nothing was measured on this machine yet: there is no {store} here; run "
            f"`plumbline profile all --budget 10m` first, or name a store with --records"
        )
    found = read_records(store)
    counts = Counter(record.kind for record in found)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    complain(f"{len(found)} records from {store}: {told}")
    return found


def _own(options: Namespace, system: str, measured: Sequence[Record], models: Path) -> list[Record]:
    """The user's records, whatever they came as."""
    own: list[Record] = []
    if options.perf_dir:
        from calibration.corpus import read_perf_dir

        found = read_perf_dir(options.perf_dir, _constants(options), mapping_path=options.mapping)
        own += found.records
        for file in found.skipped:
            complain(f"not read: {file.path}: {file.reason}")
        for remark in found.assumed:
            complain(f"assumed: {remark}")
    elif options.mapping:
        raise ConfigError("--mapping needs --perf-dir")
    if measured:
        from calibration.intake import as_measured_here
        from calibration.machine_fit import PARTS
        from calibration.visits import joined

        # Operators give the priors; links and collectives the system; none is a row to fit.
        whole = [record for record in measured if record.kind not in PARTS]
        ready = joined(whole or measured)
        own += as_measured_here(ready, system, models, options.doubtful)
    return own


def _constants(options: Namespace) -> dict[str, Scalar]:
    given: dict[str, Scalar | None] = {
        "hardware": options.system,
        "model": options.model or None,
        "tp": options.tp,
        "weight_precision": options.weights or None,
        "engine": options.engine or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def read_records(place: Path) -> Sequence[Record]:
    """Records of a store, or of an exported file."""
    if place.is_dir():
        from profilers.reading import load_records

        return load_records(place)
    from calibration.intake import read_json_lines

    return read_json_lines(place)


def _all(options: Namespace) -> None:
    from analyzer.calibrated import FOLDER
    from calibration.run import calibrate_all, write_catalog

    folder = Path(options.out) if options.out else FOLDER
    found = calibrate_all(progress=_progress)
    written = write_catalog(found, folder)
    write(f"{len(written)} calibrations written to {folder}")


def _operators(device: str) -> None:
    from analyzer.sources.operator_fit import CATALOG
    from calibration.corpus import PERF_DIR
    from calibration.operators import refit_catalog

    done = refit_catalog(PERF_DIR / "operators", CATALOG, device)
    for fit in done.fits:
        better = fit.held_out_residual
        beside = "" if better is None else f", {better:.1%} with residual"
        write(f"{fit.name}: {fit.held_out_form:.1%} on shapes left out{beside}")
    write(f"{len(done.fits)} classes written to {CATALOG}, {len(done.skipped)} without a fit")


def _progress(stage: str, done: int, whole: int) -> None:
    complain(f"{done}/{whole} {stage}")


def _check(options: Namespace) -> None:
    from calibration.check import check

    drifts = check()
    if options.json:
        write_json({"drifts": [drift._asdict() for drift in drifts]})
    for drift in drifts:
        if not options.json:
            write(f"{drift.what}: {drift.found}")
    if drifts:
        raise CalibrationError(
            f"the shipped calibrations do not follow the data any more ({len(drifts)} drifts); "
            "run plumbline calibrate --all"
        )
    if not options.json:
        write("the shipped calibrations follow the data")
