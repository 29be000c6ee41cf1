"""Pipeline stages: several batches under way, each stage with one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.basis import uncalibrated
from analyzer.errors import ConfigError
from analyzer.models_catalog import load as load_model
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.serving import AffineTimer, EngineOptions, SimOptions, SimResult, simulate
from analyzer.serving.deployment import Limits, deploy
from analyzer.serving.steps import ExactSteps
from analyzer.serving.tables import StepArrays
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from analyzer.workload_arrivals import AllAtOnce, ClosedLoop, Fixed, Load, Uniform


def served(
    timer: AffineTimer, prompt: int, answer: int, requests: int, **engine: object
) -> SimResult:
    limits = {"kv_blocks": 10_000, "max_batched_tokens": 100, "max_sequences": 64, **engine}
    load = Load(
        arrivals=AllAtOnce(),
        input_tokens=Fixed(tokens=prompt),
        output_tokens=Fixed(tokens=answer),
        requests=requests,
    )
    return simulate(SimOptions(load=load, engine=EngineOptions(**limits)), timer)


def test_chunks_of_a_prompt_follow_each_other_through_the_stages() -> None:
    timer = AffineTimer(token_s=1e-3)
    # Eight chunks of 0.1 s: one after the other; or at the pace of a stage of 0.025 s.
    assert served(timer, 800, 1, 1).ttft.mean == pytest.approx(0.8)
    assert served(timer, 800, 1, 1, stages=4).ttft.mean == pytest.approx(0.1 + 7 * 0.025)


def test_a_lone_answer_gains_nothing() -> None:
    timer = AffineTimer(step_s=0.01, key_s=1e-5)
    alone = [served(timer, 90, 50, 1, stages=stages).tpot.mean for stages in (1, 3)]
    assert alone[0] == pytest.approx(alone[1], rel=1e-12)


def test_full_lanes_work_side_by_side() -> None:
    timer = AffineTimer(sequence_s=0.04)
    # Each prompt fills a step, so each request has a lane of its own.
    assert served(timer, 100, 400, 4).tpot.mean == pytest.approx(0.16, rel=0.01)
    assert served(timer, 100, 400, 4, stages=4).tpot.mean == pytest.approx(0.04, rel=0.01)
    # Twice as many: the second four find the steps taken by answers, and share their lanes.
    crowd = served(timer, 90, 400, 8, stages=4)
    assert crowd.tpot.mean == pytest.approx(0.08, rel=0.05)


def test_the_slowest_stage_sets_the_pace() -> None:
    timer = AffineTimer(sequence_s=0.04)
    found = served(timer, 100, 400, 4, stages=4, slowest_stage=0.5)
    assert found.tpot.mean == pytest.approx(4 * 0.02, rel=0.01)


def test_requests_that_fit_one_step_share_a_lane() -> None:
    timer = AffineTimer(sequence_s=0.04)
    assert served(timer, 20, 400, 4, stages=4).tpot.mean == pytest.approx(0.16, rel=0.01)


@pytest.mark.parametrize("stages", [1, 2, 5])
def test_scarce_blocks_preempt_and_everything_is_served(stages: int) -> None:
    load = Load(
        arrivals=ClosedLoop(concurrency=12),
        input_tokens=Uniform(low=1, high=90),
        output_tokens=Uniform(low=1, high=90),
        requests=150,
        seed=3,
    )
    engine = EngineOptions(
        kv_blocks=24, block_tokens=16, max_batched_tokens=64, max_sequences=12, stages=stages
    )
    timer = AffineTimer(step_s=0.002, token_s=1e-5, key_s=1e-7)
    first, again = (simulate(SimOptions(load=load, engine=engine), timer) for _ in range(2))
    assert first.preemptions > 0
    assert len(first.request_times) == 150
    assert first.request_times == again.request_times
    for each in first.request_times:
        assert each.arrival_s <= each.admitted_s < each.first_token_s <= each.end_s


def test_prompts_alone_are_not_piped() -> None:
    with pytest.raises(ConfigError, match="prompts_alone"):
        EngineOptions(kv_blocks=10, stages=2, prompts_alone=True)


def test_stages_share_the_layers_and_the_cache() -> None:
    model, system = load_model("llama-3-8b"), load_system("H100-SXM")
    one = np.array([512.0])
    prompt = StepArrays(one, one * (one + 1) / 2, one, 0 * one, 0 * one, 0 * one)
    whole, halves = (
        ExactSteps(lay(model, Plan(pp=pp)), machine(system), Rates.ideal()).device_s(prompt)[0]
        for pp in (1, 2)
    )
    # The same layers, and one hop of 512 x 4096 two-byte numbers.
    hop_s = float(machine(system).hop_s(512 * 4096 * 2.0, 1))
    assert halves == pytest.approx(whole + hop_s, rel=1e-6)
    plain = deploy(model, system, Plan(), uncalibrated(), Limits())
    piped = deploy(model, system, Plan(pp=2), uncalibrated(), Limits())
    assert piped.engine.stages == 2
    assert 0.5 <= piped.engine.slowest_stage < 0.6
    assert piped.kv_token_B == pytest.approx(plain.kv_token_B, rel=1e-9)
    assert 2.0 < piped.engine.kv_blocks / plain.engine.kv_blocks < 2.6
    assert not piped.engine.host.overlapped
