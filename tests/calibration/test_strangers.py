"""Bands for what nobody measured: they hold for systems that had no part in them."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.relatives import Belief, relative
from calibration.strangers import (
    ENGINE,
    LEFT_OUT,
    MAKER,
    STRANGER,
    SYSTEM,
    Unit,
    band,
    coverage,
    pooled_error,
)

BETWEEN, WITHIN = 0.3, 0.1


def drawn(count: int, seed: int, rows: int = 20) -> list[Unit]:
    random = np.random.default_rng(seed)
    return [
        Unit(f"s{at}", random.normal(0, BETWEEN) + WITHIN * random.standard_normal(rows))
        for at in range(count)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_nine_tenths_of_new_systems_lie_inside(seed: int) -> None:
    made = band("tpot_s", drawn(60, seed))
    low, high = np.log(made.low), np.log(made.high)
    new = np.concatenate([unit.values for unit in drawn(4000, 100 + seed)])
    assert 0.84 < np.mean((new >= low) & (new <= high)) < 0.97
    assert made.coverage == pytest.approx(0.9, abs=0.06)
    assert made.groups == 60


def test_one_system_of_many_rows_does_not_narrow_the_band() -> None:
    few = drawn(30, 7)
    crowd = Unit("crowd", 0.01 * np.random.default_rng(0).standard_normal(20_000))
    alone, together = band("e2e_s", few), band("e2e_s", [*few, crowd])
    assert together.low < 1.1 * alone.low
    assert together.high > alone.high / 1.1


def test_two_engines_of_a_system_are_left_out_together() -> None:
    """Engines of one system err alike: it must not be held against a band of its own making."""
    calm = [Unit(f"s{at}", np.full(8, 0.01 * (at % 3 - 1))) for at in range(12)]
    odd = [Unit("odd", np.full(8, 2.0)), Unit("odd", np.full(8, 2.0))]
    assert coverage([*calm, *odd]).units <= 12 / 14
    apart = [Unit("odd", odd[0].values), Unit("other", odd[1].values)]
    assert coverage([*calm, *apart]).units > 12 / 14


def test_few_rows_count_for_less() -> None:
    whole = [Unit("a", np.full(8, 0.1)), Unit("b", np.full(8, 0.1))]
    crumb = Unit("c", np.full(1, 3.0))
    mean = (0.1 + 0.1 + 3.0 / 8) / (2 + 1 / 8)
    assert pooled_error([*whole, crumb]) == pytest.approx(np.expm1(mean))


def test_what_goes_together() -> None:
    told = {"mem_eff": Belief(0.0, 0.1, 0.9)}
    one = relative(("H100-SXM", "vllm-v1"), told)
    others = {
        "same": relative(("H100-SXM", "sglang"), told),
        "older": relative(("A100-SXM-80GB", "vllm-v0"), told),
        "amd": relative(("MI300X", "sglang"), told),
    }
    left = {
        kind: {name for name, other in others.items() if together(one, other)}
        for kind, together in LEFT_OUT.items()
    }
    assert left == {
        SYSTEM: {"same"},
        MAKER: {"same", "older"},
        ENGINE: {"same", "older"},
        STRANGER: {"same", "older"},
    }
    amd = relative(("MI300X", "vllm-v0"), told)
    assert LEFT_OUT[ENGINE](one, amd)
    assert not LEFT_OUT[MAKER](one, amd)
