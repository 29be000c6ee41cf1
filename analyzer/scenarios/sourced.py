"""Rows of a table whose operators other sources than the rates were asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from analyzer.predict import predict
from analyzer.scenarios.groups import Group
from analyzer.sources.credit import credit, doubts, factors
from analyzer.workload import Workload

_FORMS = {"single": "static", "static": "static", "burst": "static", "closed_loop": "closed_loop"}
"""Arrivals that are one prediction a row; the others mix several."""


class Asked(NamedTuple):
    """What sources add to a row."""

    notes: list[str]
    bounds: dict[str, tuple[Any, Any]]
    """Per metric, what its value is multiplied by for the ends of its interval."""


def asked(group: Group, load: Workload) -> Asked:
    """Who stood for each row's time, and how sure."""
    ladder, rows = group.basis.ladder, np.size(load.batch)
    if ladder is None:
        return Asked([""] * rows, {})
    form = _FORMS.get(group.arrival)
    if form is None or group.pools is not None:
        return Asked([f"operators' times by {ladder.spec}, shares not known"] * rows, {})
    on, rates = group.basis.on(group.system), group.basis.rates
    found = predict(group.model, group.system, group.plan, load, rates, form, on=on, strict=False)
    first, later = credit(found.prefill, ladder), credit(found.decode, ladder)
    weight = found.ttft_s / found.e2e_s
    shares = {
        name: np.broadcast_to(weight * share + (1.0 - weight) * later.shares[name], (rows,))
        for name, share in first.shares.items()
    }
    notes = [
        "operators' times: " + ", ".join(f"{name} {by[row]:.0%}" for name, by in shares.items())
        for row in range(rows)
    ]
    sure = doubts(found, first, later)
    return Asked(notes, {name: factors(doubt) for name, doubt in sure.items()})
