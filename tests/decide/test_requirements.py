"""Requirements lead back to their promise: exactly the figures keep it, 1 % less does not."""

from __future__ import annotations

import math

import msgspec
import pytest

from analyzer import basis
from analyzer.errors import ConfigError
from analyzer.models_catalog import load
from analyzer.plan import Plan
from analyzer.predict import Prediction, predict
from analyzer.requirements import Required, require
from analyzer.system import System
from analyzer.systems_catalog import load_system
from analyzer.use_cases import USE_CASES, use_case
from analyzer.workload import SLO, Workload

LIKE = load_system("H100-SXM")
ASKED = {
    "seven on one device": ("llama-2-7b", Plan(), "chat", 1),
    "seventy on eight": ("llama-3.1-70b", Plan(tp=8), "rag", 1),
    "a pipeline": ("llama-3.1-70b", Plan(tp=4, pp=2), "summarization", 4),
    "a mixture": ("mixtral-8x7b", Plan(tp=4, ep=4), "code", 2),
    "latent attention in fp8": ("deepseek-v3", Plan(tp=8, weights="fp8"), "reasoning", 8),
    "a cached context": ("qwen3-32b", Plan(tp=2), "agents", 8),
}


def required(name: str) -> Required:
    model, plan, case, batch = ASKED[name]
    return require(load(model), plan, use_case(case).workload(batch), basis.uncalibrated(), LIKE)


def changed(system: System, figure: str, factor: float) -> System:
    """The system with one figure times a factor."""
    device, link = system.device, system.intra_node
    replace = msgspec.structs.replace
    if figure == "compute":
        peaks = {name: peak * factor for name, peak in device.peak_flops.items()}
        device = replace(device, peak_flops=peaks, vector_flops=device.vector_peak * factor)
    elif figure == "memory_bandwidth":
        device = replace(device, memory_bandwidth_Bps=device.memory_bandwidth_Bps * factor)
    elif figure == "memory":
        device = replace(device, memory_B=device.memory_B * factor)
    elif link is not None:
        fields = {"link_bandwidth": "bandwidth_Bps", "link_latency": "latency_s"}
        name = fields[figure]
        link = replace(link, **{name: getattr(link, name) * factor})
    return replace(system, device=device, intra_node=link)


def keeps(asked: Required, system: System) -> bool:
    """Asked of `predict` as anybody would."""
    load_, slo = asked.workload, asked.workload.slo
    found: Prediction = predict(
        asked.model, system, asked.plan, load_, asked.basis.rates, asked.arrival, strict=False
    )
    assert slo is not None
    promised = msgspec.structs.asdict(slo).items()
    in_time = all(p is None or float(getattr(found, name)) <= p for name, p in promised)
    room = float(found.memory.total_B) <= system.device.memory_B
    return in_time and room and float(found.running) >= load_.batch


@pytest.mark.parametrize("name", ASKED)
def test_exactly_the_figures_keep_the_promise_and_less_does_not(name: str) -> None:
    asked = required(name)
    # A figure is a float: the last digits that bisection leaves are not worth a promise.
    exactly = asked.system
    for need in asked.needs:
        if need.value is not None:
            hair = 1 - 1e-9 if need.at_most else 1 + 1e-9
            exactly = changed(exactly, need.figure, hair)
    assert keeps(asked, exactly)
    binding = asked.need(asked.binding)
    assert binding.binds
    for need in asked.needs:
        if need.binds:
            factor = 1 / 0.99 if need.at_most else 0.99
            assert not keeps(asked, changed(exactly, need.figure, factor)), need.figure
        elif need.value is not None:
            factor = 1 / 0.99 if need.at_most else 0.99
            assert keeps(asked, changed(exactly, need.figure, factor)), need.figure


@pytest.mark.parametrize("name", ASKED)
def test_no_machine_can_have_less_than_a_figure_needs_alone(name: str) -> None:
    for need in required(name).needs:
        if need.value is None or need.alone is None:
            assert need.value is need.alone is None
        elif need.at_most:
            assert need.value <= need.alone * (1 + 1e-9)
        else:
            assert need.value >= need.alone * (1 - 1e-9)


def test_a_lone_decode_needs_its_weights_in_every_token() -> None:
    """Memory bandwidth alone: weights and cache over the promised time, at the rate's share."""
    model, load_ = load("llama-2-7b"), Workload(batch=1, input_tokens=64, output_tokens=2)
    promised = msgspec.structs.replace(load_, slo=SLO(tpot_s=0.01))
    need = require(model, Plan(), promised, basis.ideal(), LIKE).need("memory_bandwidth")
    read_B = 2 * (6_738_415_616 - 32_000 * 4096) + 65 * 524_288
    assert need.alone is not None
    assert math.isclose(need.alone, read_B / 0.01, rel_tol=0.003)


def test_a_promise_that_links_do_not_touch_needs_no_links() -> None:
    asked = required("seven on one device")
    assert asked.need("link_bandwidth").value is None
    assert asked.need("link_latency").value is None
    assert asked.system.intra_node is None


def test_what_fixed_costs_take_no_machine_gives_back() -> None:
    rates = basis.uncalibrated().rates.with_values(step_s=0.05)
    slow = basis.uncalibrated()._replace(rates=rates)
    with pytest.raises(ConfigError, match=r"no machine keeps this.*TPOT is still 50 ms"):
        require(load("llama-2-7b"), Plan(), use_case("chat").workload(), slow, LIKE)


def test_a_promise_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="needs a promise"):
        require(load("llama-2-7b"), Plan(), Workload(), basis.uncalibrated(), LIKE)


def test_a_real_system_is_held_against_what_is_needed() -> None:
    asked = required("seventy on eight")
    share = asked.share(asked.system)
    assert set(share) == {need.figure for need in asked.needs if need.value is not None}
    assert all(math.isclose(value, 1.0) for value in share.values())
    faster = changed(asked.system, "link_latency", 0.5)
    assert math.isclose(asked.share(faster)["link_latency"], 2.0)


def test_use_cases_are_the_published_ones_and_say_so() -> None:
    assert {name for name, case in USE_CASES.items() if case.source.startswith("published")} == {
        "qa",
        "chat",
        "rag",
        "summarization",
        "code",
    }
    with pytest.raises(ConfigError, match="did you mean"):
        use_case("chatt")
