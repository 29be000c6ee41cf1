"""Servers that look for new requests only every so many decode steps."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from analyzer.engines import engine_on
from analyzer.models_catalog import load as load_model
from analyzer.plan import Plan
from analyzer.predict import predict
from analyzer.records import Scenario
from analyzer.records_arrival import Arrival
from analyzer.resolve import question
from analyzer.steady import Busy, closed_loop, polled
from analyzer.systems_catalog import load_system
from analyzer.timing.rates import Rates
from analyzer.workload import Workload

BLACKWELL = ("B200-SXM-180GB", "B300-SXM", "GB200")


def test_a_request_waits_half_of_the_steps_between_two_looks() -> None:
    busy, rates = Busy(0.1, 0.02, 0.01), Rates.ideal()
    running = np.array([1.0, 2.0, 64.0])
    often, rarely = (
        closed_loop(busy, 100.0, running, running, rates, every).ttft_s for every in (1.0, 31.0)
    )
    # An idle server looks all the time: only those that run beside others wait.
    np.testing.assert_allclose(rarely - often, 15 * 0.01 * (running - 1) / running)


@pytest.mark.parametrize("name", BLACKWELL)
def test_sglang_looks_rarely_where_recipes_say_so(name: str) -> None:
    kind = engine_on("sglang", load_system(name).device)
    requests = np.array([1.0, 15.0, 16.0, 512.0])
    assert polled(kind, Plan(), requests).tolist() == [10, 10, 30, 30]
    assert polled(kind, Plan(tp=8, attention_dp=8), requests).tolist() == [1, 1, 1, 1]
    assert polled(kind, Plan(poll_steps=5), requests) == 5


@pytest.mark.parametrize("name", ["MI300X", "MI355X"])
def test_amds_recipes_decode_four_steps_on_end(name: str) -> None:
    kind = engine_on("sglang", load_system(name).device)
    assert polled(kind, Plan(), np.array([1.0, 512.0])).tolist() == [4, 4]
    assert kind.step_tokens == 131_072


@pytest.mark.parametrize(
    ("engine", "name"),
    [("sglang", "H200-SXM"), ("sglang", "MI250"), ("vllm-v1", BLACKWELL[0]), ("vllm-v1", "MI300X")],
)
def test_others_look_every_step(engine: str, name: str) -> None:
    assert polled(engine_on(engine, load_system(name).device), Plan(), 64.0) == 1


def test_only_the_first_token_waits() -> None:
    model, system = load_model("llama-3-8b"), load_system("B200-SXM-180GB")
    load = Workload(batch=np.array([4.0, 64.0]), input_tokens=1024, output_tokens=1024)
    usual, told = (
        predict(model, system, Plan(engine="sglang", poll_steps=steps), load, arrival="closed_loop")
        for steps in (None, 1)
    )
    step_s = told.decode.total_s * (load.batch - 1) / load.batch
    np.testing.assert_allclose(usual.ttft_s - told.ttft_s, step_s * [4.5, 14.5])
    np.testing.assert_allclose(usual.tpot_s, told.tpot_s)


def test_a_row_can_say_how_often() -> None:
    row = Scenario(
        hardware="B200",
        model="llama-3-8b",
        engine="SGLang",
        arrival=Arrival(kind="closed_loop"),
        concurrency=64.0,
        input_tokens=1024.0,
        output_tokens=1024.0,
        variant="scheduler-recv-interval=4",
    )
    assert question(row).plan.poll_steps == 4
    assert question(msgspec.structs.replace(row, variant="")).plan.poll_steps is None
