"""Known habits of sources whose layouts do not mean what the columns say.

Each entry turns a scenario as its source writes it into what ran. The same repair serves records
that are fitted and tables that are predicted, so that a quirk is known in one place.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from analyzer.records import Scenario

Repair = Callable[[Scenario], Scenario]


def _product_of_both(scenario: Scenario) -> Scenario:
    """Tensor and expert parallelism multiplied although they share the same devices.

    Rows of 64 ranks with 8-way experts repeat the very figures of 8-rank rows: the product was
    stored as the tensor parallelism, and the true one is left in `moe_tp`.
    """
    moe_tp, moe_ep = scenario.moe_tp or 1, scenario.moe_ep or 1
    ranks = (scenario.tp or 1) * (scenario.attention_dp or 1)
    if moe_tp == 1 or moe_ep == 1 or ranks != moe_tp * moe_ep or moe_tp % moe_ep:
        return scenario
    attention_dp = moe_tp if (scenario.attention_dp or 1) > 1 else 1
    return msgspec.structs.replace(
        scenario,
        gpus=moe_tp,
        tp=moe_tp // attention_dp,
        attention_dp=attention_dp,
        moe_tp=moe_tp // moe_ep,
    )


REPAIRS: dict[str, Repair] = {"silicon_sample": _product_of_both}
"""By source name."""


def repaired(scenario: Scenario, source: str) -> Scenario:
    """The scenario with its source's habits undone."""
    repair = REPAIRS.get(source)
    return scenario if repair is None else repair(scenario)
