"""What the report was made from, and what its figures mean."""

from __future__ import annotations

import hashlib

from calibration.export import digest
from calibration.run import Everything
from calibration.tally import DEFINITIONS
from reports.validate.excluded import left_out_counts
from reports.validate.table import Cell, Section, table

COMMAND = "plumbline validate"


def header(found: Everything) -> Section:
    """Command, data, counts."""
    groups = found.collected.groups
    records = [record for group in groups.values() for record in group.records]
    left, impossible = left_out_counts(found)
    models = {name for group in groups.values() for name in group.problem.groups.tolist()}
    facts: list[list[Cell]] = [
        ["command", COMMAND],
        ["rows used", f"{len(records):,}"],
        ["(system, engine) groups", str(len(groups))],
        ["systems", str(len({key[0] for key in groups}))],
        ["models", str(len(models))],
        ["rows left out, each with its reason", f"{left:,}"],
        ["of these, beating the hardware", str(impossible)],
        ["sha256 of the used rows", digest(records)],
        ["sha256 of the fitted rates", rates_digest(found)],
    ]
    return Section(
        "data",
        "What this was made from",
        (),
        (table("facts", ("what", "value"), facts),),
    )


def rates_digest(found: Everything) -> str:
    """Hash of all rates to four digits: tells two fits apart."""
    joined = "\n".join(
        f"{'/'.join(key)} {entry.name} {getattr(done.fit.rates, entry.name):.4g}"
        for key, done in sorted(found.fitted.items())
        for entry in done.fit.priors
    )
    return hashlib.sha256(joined.encode()).hexdigest()


def definitions() -> Section:
    """What every statistic means, and what is measured."""
    lines: list[list[Cell]] = [[name, meaning] for name, meaning in DEFINITIONS.items()]
    lines += [
        ["TTFT", "request to first token; of a static batch: until every sequence has one"],
        ["TPOT", "(E2E − TTFT) / (output tokens − 1) of one sequence"],
        ["E2E", "request to last token; of a static batch: until all are done"],
        ["held out", "predicted by a fit that saw no row of the model, not through priors either"],
        ["group", "one (system, engine class); models are left out whole, never single rows"],
    ]
    return Section(
        "definitions", "Definitions", (), (table("definitions", ("term", "meaning"), lines),)
    )
