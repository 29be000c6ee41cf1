"""What engines do by themselves, by class, version and device, as their sources have it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from analyzer.basis import uncalibrated
from analyzer.errors import ConfigError
from analyzer.models_catalog import load as load_model
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.serving import AffineTimer, EngineOptions, SimOptions, StepLoad, simulate
from analyzer.serving.deployment import Limits, deploy
from analyzer.serving.habits import NEWEST, habits, version_of
from analyzer.serving.steps import ExactSteps, step_timer
from analyzer.serving.tables import StepArrays
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from analyzer.workload_arrivals import AllAtOnce, Constant, Fixed, Load


@pytest.mark.parametrize(
    ("system", "version", "tokens", "sequences"),
    [
        ("RTX4090", NEWEST, 2048, 256),
        ("A100-SXM-80GB", NEWEST, 2048, 256),
        ("H100-SXM", (0, 9), 8192, 1024),
        ("H200-SXM", NEWEST, 8192, 1024),
        ("B200-SXM-180GB", NEWEST, 16_384, 1024),
        ("B200-SXM-180GB", (0, 11), 8192, 1024),
    ],
)
def test_vllm_chooses_its_limits_by_the_devices_memory(
    system: str, version: tuple[int, ...], tokens: int, sequences: int
) -> None:
    found = habits("vllm-v1", version, load_system(system).device, 8192)
    assert (found.step_tokens, found.sequences) == (tokens, sequences)


def test_versions_of_vllm_differ() -> None:
    device = load_system("H100-SXM").device
    old, new = (habits("vllm-v1", version_of(text), device, 8192) for text in ("0.11.0", "v0.20"))
    assert (old.asynchronous, old.reserve_whole_prompt) == (False, False)
    assert (new.asynchronous, new.reserve_whole_prompt) == (True, True)
    short, long = (habits("vllm-v0", NEWEST, device, most) for most in (4096, 131_072))
    assert (short.prompts_alone, short.chunked_prefill, short.step_tokens) == (True, False, 4096)
    assert (long.prompts_alone, long.chunked_prefill, long.step_tokens) == (False, True, 2048)
    with pytest.raises(ConfigError, match="does not begin with numbers"):
        version_of("latest")


def test_other_engines_let_requests_in_by_rules_of_their_own() -> None:
    device = load_system("H100-SXM").device
    tensorrt, sglang = (habits(name, NEWEST, device, 8192) for name in ("tensorrt-llm-1", "sglang"))
    assert (tensorrt.reserve_answer, tensorrt.chunked_prefill) == (True, False)
    assert (sglang.prompts_alone, sglang.step_tokens, sglang.reserve_answer) == (True, 8192, False)


def test_what_was_told_wins_over_habits() -> None:
    model, system = load_model("llama-3-8b"), load_system("H100-SXM")
    told = Limits(
        max_batched_tokens=4096,
        max_sequences=64,
        kv_blocks=1000,
        prefix_caching=False,
        chunked_prefill=False,
        asynchronous=True,
        engine_version="0.11",
    )
    engine = deploy(model, system, Plan(), uncalibrated(), told).engine
    assert (engine.max_batched_tokens, engine.max_sequences, engine.kv_blocks) == (4096, 64, 1000)
    assert (engine.prefix_caching, engine.chunked_prefill) == (False, False)
    assert engine.host.overlapped


def test_a_prompt_that_is_never_cut_has_a_step_for_itself() -> None:
    load = Load(
        arrivals=AllAtOnce(),
        input_tokens=Fixed(tokens=150),
        output_tokens=Fixed(tokens=1),
        requests=3,
    )
    times = {}
    for chunked in (True, False):
        engine = EngineOptions(
            kv_blocks=1000, max_batched_tokens=100, max_sequences=8, chunked_prefill=chunked
        )
        found = simulate(SimOptions(load=load, engine=engine), AffineTimer(step_s=1.0))
        times[chunked] = [each.ttft_s for each in found.request_times]
    assert times[True] == [2.0, 3.0, 5.0]  # 450 tokens in five steps of a hundred
    assert times[False] == [1.0, 2.0, 3.0]


def test_places_kept_for_whole_answers_throw_nobody_out() -> None:
    load = Load(
        arrivals=AllAtOnce(),
        input_tokens=Fixed(tokens=16),
        output_tokens=Fixed(tokens=49),
        requests=20,
    )
    found = {}
    for kept in (False, True):
        engine = EngineOptions(kv_blocks=20, block_tokens=16, reserve_answer=kept)
        found[kept] = simulate(SimOptions(load=load, engine=engine), AffineTimer(step_s=1.0))
    assert found[False].preemptions > 0 == found[True].preemptions
    # Four of five blocks each at a time, five rounds of 49 steps.
    assert found[True].duration_s == pytest.approx(5 * 49)


def test_prompts_alone_make_answers_wait() -> None:
    load = Load(
        arrivals=Constant(rate_per_s=0.1),
        input_tokens=Fixed(tokens=100),
        output_tokens=Fixed(tokens=15),
        requests=2,
    )
    timer = AffineTimer(step_s=1.0)
    gaps = {}
    for alone in (False, True):
        engine = EngineOptions(kv_blocks=1000, prompts_alone=alone)
        found = simulate(SimOptions(load=load, engine=engine), timer)
        gaps[alone] = (found.itl.largest, found.itl.count)
    assert gaps == {False: (1.0, 28), True: (2.0, 28)}


def test_steps_with_prompts_take_no_less_than_issuing_them() -> None:
    laid, on = lay(load_model("llama-3-8b"), Plan()), machine(load_system("H100-SXM"))
    rates = msgspec.structs.replace(Rates.ideal(), prefill_launch_s=1e-4)
    exact = ExactSteps(laid, on, rates, graph_tokens=512)
    engine = EngineOptions(kv_blocks=9000, max_model_tokens=8192)
    timer = step_timer(laid, on, rates, engine, graph_tokens=512)

    def prompt(tokens: int) -> StepLoad:
        return StepLoad(tokens, tokens * (tokens + 1) / 2, tokens, 1)

    taken = {tokens: timer.step_time_s(prompt(tokens)) for tokens in (512, 513, 700, 8192)}
    for tokens, seconds in taken.items():
        load = prompt(tokens)
        arrays = StepArrays(
            *(np.array([float(value)]) for value in (
                load.prefill_tokens, load.prefill_pairs, load.prefill_context, 0, 0, 0
            ))
        )  # fmt: skip
        assert seconds == pytest.approx(exact(arrays)[0], rel=1e-3)
    # Replayed; then issued, whatever the size; then so large that the device takes longer.
    assert taken[512] < taken[513] == taken[700] < taken[8192]
    assert taken[513] > 32 * 5 * 1e-4
