"""Sensitivities against calculus."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analyzer import basis
from analyzer.errors import ConfigError
from analyzer.explain import lines
from analyzer.models_catalog import load
from analyzer.plan import Plan
from analyzer.sensitivity import Sensitivity, sensitivity
from analyzer.systems_catalog import load_system
from analyzer.workload import Workload


def shaken(eff: float = 0.6, spread: float = 0.1, **plan: int) -> Sensitivity:
    asked = Workload(batch=1, input_tokens=1024, output_tokens=64)
    model, system = load("llama-3-8b"), load_system("H100-SXM")
    return sensitivity(model, system, Plan(**plan), asked, basis.single(eff), spread=spread)


@pytest.mark.parametrize("spread", [0.01, 0.1, 0.5])
def test_a_memory_bound_decode_goes_with_one_over_bandwidth(spread: float) -> None:
    """t = B/W: dt/t at W(1+s) is 1/(1+s) - 1, and the elasticity is -1."""
    effect = next(e for e in shaken(spread=spread).effects if e.name == "memory_bandwidth")
    assert math.isclose(effect.at_high["tpot_s"], 1 / (1 + spread) - 1, rel_tol=1e-6)
    assert math.isclose(effect.at_low["tpot_s"], 1 / (1 - spread) - 1, rel_tol=1e-6)
    assert math.isclose(effect.elasticity["tpot_s"], -1.0, rel_tol=1e-6)


def test_where_part_of_a_step_is_memory_bound_the_elasticity_is_that_part() -> None:
    """t = a + B/W: d ln t / d ln W = -(B/W)/t."""
    found = shaken(tp=2)
    effect = next(e for e in found.effects if e.name == "memory_bandwidth")
    decode = [line for line in lines(found.base) if line.phase == "decode"]
    bound_s = sum(line.time_s for line in decode if line.bound == "memory")
    network_s = sum(line.time_s for line in decode if line.bound == "network")
    assert network_s > 0
    share = bound_s / float(found.base.prediction.tpot_s)
    assert 0.5 < share < 1.0
    assert math.isclose(effect.elasticity["tpot_s"], -share, rel_tol=1e-3)


def test_all_peaks_and_links_together_are_worth_what_time_they_take() -> None:
    """Every second lies under one figure: elasticities of a time without fixed costs add up to 1,
    latencies counted up and speeds down."""
    found = shaken(tp=4)
    for metric in ("ttft_s", "tpot_s"):
        total = sum(e.elasticity[metric] for e in found.effects if e.kind == "figure")
        latencies = sum(e.elasticity[metric] for e in found.effects if e.name.endswith("latency"))
        assert math.isclose(total - 2 * latencies, -1.0, rel_tol=1e-4)


def test_rates_stop_at_their_bounds_and_say_so() -> None:
    found = shaken(eff=0.95)
    effect = next(e for e in found.effects if e.name == "mem_eff")
    assert effect.limited
    assert math.isclose(effect.high, 1 / 0.95)
    assert math.isclose(effect.low, 0.9)
    assert not next(e for e in found.effects if e.name == "memory_bandwidth").limited


def test_the_tornado_is_sorted_and_leaves_out_what_moves_nothing() -> None:
    found = shaken()
    listed = found.tornado("tpot_s")
    widths = [effect.width("tpot_s") for effect in listed]
    assert widths == sorted(widths, reverse=True)
    assert {"memory_bandwidth", "mem_eff"} <= {effect.name for effect in listed}
    assert "network_bandwidth" not in {effect.name for effect in listed}, "one node has no network"
    with pytest.raises(ConfigError, match="speed"):
        found.tornado("speed")


def test_less_memory_than_the_model_needs_has_no_figures() -> None:
    model, system = load("llama-3-8b"), load_system("H100-SXM")
    asked = Workload(batch=1, input_tokens=1024, output_tokens=64)
    found = sensitivity(model, system, Plan(), asked, basis.uncalibrated(), spread=0.9)
    effect = next(e for e in found.effects if e.name == "memory")
    assert np.isnan(effect.at_low["tpot_s"])
    assert effect.at_high["max_batch"] > 0
    with pytest.raises(ConfigError, match="spread"):
        shaken(spread=1.5)
