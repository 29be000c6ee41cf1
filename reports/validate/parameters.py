"""The fitted rates: value, interval, and how much of each the data decided."""

from __future__ import annotations

from calibration.export import digest, fitted_rates
from calibration.run import Everything
from reports.validate.table import Cell, Section, table

TEXT = (
    "Data share: 1 where the measurements alone decided, 0 where the prior did. A rate that is not "
    "identified stands at what other systems taught; one at a bound would beat the hardware and "
    "is reported as such rather than believed. Condition: largest over smallest singular value of "
    "the data's own Jacobian in units of the priors.",
)


def parameters(found: Everything) -> Section:
    """Every rate of every group, and the fits' conditions."""
    lines: list[list[Cell]] = []
    fits: list[list[Cell]] = []
    for key, done in sorted(found.fitted.items()):
        rates = fitted_rates(done.fit)
        for name, rate in rates.items():
            state = "at bound" if rate.at_bound else "yes" if rate.identified else "no"
            lines.append([*key, name, rate.value, rate.low, rate.high, rate.data_share, state])
        known = sum(rate.identified for rate in rates.values())
        records = found.collected.groups[key].records
        fits.append(
            [*key, len(records), len(rates), known, done.fit.condition, digest(records)[:12]]
        )
    columns = (
        "system",
        "engine",
        "rate",
        "value:number",
        "5 %:number",
        "95 %:number",
        "data share:number",
        "identified",
    )
    about = (
        "system",
        "engine",
        "rows:count",
        "rates:count",
        "identified:count",
        "condition:number",
        "data sha256",
    )
    tables = (table("fits", about, fits), table("rates", columns, lines))
    return Section("parameters", "Fitted rates", TEXT, tables, page="parameters")
