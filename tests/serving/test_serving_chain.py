"""Profile, calibrate, simulate: against an engine whose step times are known, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from fake_server import FakeServer
from virtual_time import beside

from analyzer.errors import CalibrationError, CapacityError
from analyzer.models_catalog import load as load_model
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.serving import AffineTimer, EngineOptions, SimOptions, StepLoad, simulate
from analyzer.serving.steps import ExactSteps, kv_blocks, step_timer
from analyzer.serving.tables import StepArrays
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from analyzer.workload_arrivals import ClosedLoop, Constant, Fixed, Load, Poisson, Uniform
from calibration.serving_fit import (
    Knob,
    Observed,
    Pace,
    Part,
    fit_serving,
    log_ratios,
    medians_of,
    simulate_parts,
)
from profilers.serving import ServeOptions, Session, Sweep, Target
from profilers.serving.run import _loads
from profilers.serving.server import RunningServer, ServerFacts
from reports.serving_chain import chain, report
from reports.serving_measure import Mix, Schedule

TRUTH = {"step_s": 0.008, "token_s": 5e-5, "sequence_s": 4e-4}
ENGINE = EngineOptions(
    kv_blocks=4096, max_sequences=8, max_batched_tokens=4096, prefix_caching=False
)
KNOBS = (
    Knob("step_s", 2e-3, 1e-5, 1.0),
    Knob("token_s", 2e-5, 1e-8, 1e-2),
    Knob("sequence_s", 1e-4, 1e-8, 1e-2),
)


def build(values: dict[str, float]) -> AffineTimer:
    return AffineTimer(**{name: values[name] for name in TRUTH})


@pytest.fixture
def opened() -> Session:
    server = FakeServer(**TRUTH, seqs=8)
    server.port = free_port()
    options = ServeOptions(
        target=Target(url=server.url, model="engine"),
        load=Load(
            arrivals=Poisson(rate_per_s=12.0),
            input_tokens=Uniform(low=20, high=200),
            output_tokens=Fixed(tokens=24),
            requests=200,
            seed=11,
        ),
        scrape_s=0.0,
    )
    return Session(options, RunningServer(url=server.url, facts=ServerFacts()), beside(server))


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_measured_run_is_the_simulated_one(opened: Session) -> None:
    done = opened.run(opened.options.load)
    assert done.summary.invalid == ()
    measured = {outcome.number: outcome for outcome in done.log.outcomes}
    simulated = simulate(SimOptions(load=opened.options.load, engine=ENGINE), build(TRUTH))
    for times in simulated.request_times:
        outcome = measured[times.number]
        assert outcome.ttft_s() == pytest.approx(times.ttft_s, rel=0.02, abs=2e-4)
        assert outcome.tpot_s == pytest.approx(times.tpot_s, rel=0.02)
    assert done.summary.output_tokens_per_s == pytest.approx(
        simulated.output_tokens_per_s, rel=0.02
    )


def test_the_chain_finds_the_step_times_and_predicts_the_rest(opened: Session) -> None:
    mix = Mix(Uniform(low=20, high=200), Uniform(low=8, high=24))
    told: list[str] = []
    found = chain(opened, ENGINE, mix, build, KNOBS, Schedule(8.0, 2, 2), told.append)
    for name, value in TRUTH.items():
        assert found.fit.values[name] == pytest.approx(value, rel=0.05)
    assert found.fit.error < 0.02
    assert {row.metric for row in found.rows} == {
        "ttft_s", "tpot_s", "output_tok_s", "saturation rate"
    }  # fmt: skip
    assert max(abs(row.error) for row in found.rows) < 0.05
    assert {row.metric for row in found.spreads} == {"ttft_s", "tpot_s", "e2e_s"}
    assert max(abs(row.mean) for row in found.spreads) < 0.05
    assert max(row.each for row in found.spreads) < 0.05
    table = report(found)
    assert "saturation rate" in table
    assert "beyond 10 %" not in table


def test_a_sweep_stops_once_the_server_no_longer_keeps_up(opened: Session) -> None:
    # Eight at a time, 10 steps of about 12 ms: some 65 requests a second.
    options = msgspec.structs.replace(
        opened.options,
        load=Load(
            arrivals=Constant(rate_per_s=1.0),
            input_tokens=Fixed(tokens=10),
            output_tokens=Fixed(tokens=10),
            requests=1,
        ),
        sweep=Sweep(start_per_s=20.0, factor=2.0, most_runs=6, seconds_per_rate=3),
    )
    verdicts = [opened.run(load).summary.saturation for load in _loads(options)][:4]
    assert [verdict.saturated for verdict in verdicts] == [False, False, True, True]
    assert verdicts[2].completed_per_s == pytest.approx(verdicts[3].completed_per_s, rel=0.05)
    assert 50 < verdicts[3].completed_per_s < 75


def test_rates_come_back_from_simulated_medians() -> None:
    engine = EngineOptions(kv_blocks=1000, max_sequences=16, prefix_caching=False)
    runs = []
    for number, (arrivals, prompt, answer) in enumerate(
        (
            (ClosedLoop(concurrency=1), 16, 9),
            (ClosedLoop(concurrency=1), 1000, 9),
            (ClosedLoop(concurrency=12), 30, 40),
            (Poisson(rate_per_s=4.0), 100, 40),
        )
    ):
        load = Load(
            arrivals=arrivals,
            input_tokens=Fixed(tokens=prompt),
            output_tokens=Fixed(tokens=answer),
            requests=40,
            seed=number,
        )
        parts = (Part(load),)
        truth = medians_of(simulate_parts(parts, engine, build(TRUTH)))
        runs.append(Observed(str(number), parts, truth))
    found = fit_serving(runs, engine, build, KNOBS)
    for name, value in TRUTH.items():
        assert found.values[name] == pytest.approx(value, rel=0.03)
    with pytest.raises(CalibrationError, match="2 medians cannot fix 3"):
        fit_serving(runs[:1], engine, build, KNOBS)


def test_requests_are_compared_with_their_twins() -> None:
    engine = EngineOptions(kv_blocks=1000, max_sequences=16, prefix_caching=False)
    load = Load(
        arrivals=Poisson(rate_per_s=4.0),
        input_tokens=Uniform(low=10, high=300),
        output_tokens=Uniform(low=1, high=30),
        requests=60,
    )
    parts = (Part(load),)
    truth = simulate_parts(parts, engine, build(TRUTH))
    times = {
        each.number: {"ttft_s": each.ttft_s, "tpot_s": each.tpot_s}
        for each in truth[0].request_times
    }
    run = Observed("twins", parts, medians_of(truth), (times,))
    assert log_ratios(truth, run) == {"ttft_s": 0.0, "tpot_s": 0.0}
    # Slower steps, as many arrivals: at least that much longer, and some waiting on top.
    slower = simulate_parts(parts, engine, build({n: 1.02 * v for n, v in TRUTH.items()}))
    assert all(np.log(1.02) * 0.99 < value < 0.1 for value in log_ratios(slower, run).values())
    # A request that failed has no twin and does not count.
    fewer = {number: found for number, found in times.items() if number % 2}
    assert log_ratios(truth, run._replace(requests=(fewer,))) == {"ttft_s": 0.0, "tpot_s": 0.0}


def test_a_slower_machine_is_simulated_and_fitted_as_such() -> None:
    engine = EngineOptions(kv_blocks=1000, max_sequences=16, prefix_caching=False)
    loads = [
        Load(
            arrivals=arrivals,
            input_tokens=Fixed(tokens=prompt),
            output_tokens=Fixed(tokens=30),
            requests=20,
            seed=prompt,
        )
        for arrivals, prompt in (
            (ClosedLoop(concurrency=1), 16),
            (ClosedLoop(concurrency=6), 60),
            (Poisson(rate_per_s=4.0), 700),
        )
    ]
    paced = Part(loads[0], Pace(slack_s=0.002, prompts=1.5))
    usual, slow = simulate_parts((Part(loads[0]), paced), engine, build(TRUTH))
    assert slow.tpot.mean == pytest.approx(usual.tpot.mean + 0.002, rel=1e-9)
    assert slow.ttft.mean == pytest.approx(1.5 * usual.ttft.mean, rel=1e-9)
    runs = []
    for number, load in enumerate(loads):
        parts = (Part(load), Part(load, Pace(0.001 * number, 1.0 + 0.2 * number)))
        runs.append(
            Observed(str(number), parts, medians_of(simulate_parts(parts, engine, build(TRUTH))))
        )
    found = fit_serving(runs, engine, build, KNOBS)
    for name, value in TRUTH.items():
        assert found.values[name] == pytest.approx(value, rel=0.03)


@pytest.fixture(scope="module")
def llama() -> Callable[[int], ExactSteps]:
    model, system = load_model("llama-3-8b"), load_system("H100-SXM")

    def steps(tp: int) -> ExactSteps:
        return ExactSteps(lay(model, Plan(tp=tp)), machine(system), Rates.default())

    return steps


def arrays(load: StepLoad) -> StepArrays:
    return StepArrays(
        *(np.asarray([float(value)]) for value in (
            load.prefill_tokens, load.prefill_pairs, load.prefill_context,
            load.decode_batch, load.decode_tokens, load.decode_context,
        ))
    )  # fmt: skip


def test_tables_hold_the_calibrated_analyzers_step_times(
    llama: Callable[[int], ExactSteps],
) -> None:
    model, system = load_model("llama-3-8b"), load_system("H100-SXM")
    engine = EngineOptions(kv_blocks=9000, max_model_tokens=8192)
    timer = step_timer(lay(model, Plan(tp=2)), machine(system), Rates.default(), engine)
    exact = llama(2)
    rng = np.random.default_rng(5)
    for _ in range(60):
        new, past = int(rng.integers(1, 4000)), int(rng.integers(0, 4000))
        batch, context = int(rng.integers(1, 256)), int(rng.integers(1, 4000))
        pairs = new * past + new * (new + 1) / 2
        mixed = StepLoad(new, pairs, past + new, 1, batch, batch, batch * context)
        decode = StepLoad(decode_batch=batch, decode_tokens=batch, decode_context=batch * context)
        prefill = StepLoad(new, pairs, past + new, 1)
        for load in (mixed, decode, prefill):
            assert timer.step_time_s(load) == pytest.approx(exact(arrays(load))[0], rel=0.01)


def test_more_work_never_takes_less_time_and_ranks_share_it(
    llama: Callable[[int], ExactSteps],
) -> None:
    base = StepLoad(512, 512 * 257, 512, 1, 32, 32, 32 * 1000)
    more = (
        base._replace(prefill_tokens=600, prefill_pairs=600 * 301, prefill_context=600),
        base._replace(decode_batch=40, decode_tokens=40, decode_context=40 * 1000),
        base._replace(decode_context=32 * 2000),
    )
    one = llama(1)
    assert all(one(arrays(load))[0] >= one(arrays(base))[0] for load in more)
    assert llama(4)(arrays(base))[0] < one(arrays(base))[0]


def test_blocks_are_what_the_weights_leave() -> None:
    model, system = load_model("llama-3-8b"), load_system("H100-SXM")
    engine = EngineOptions(kv_blocks=1)
    blocks = kv_blocks(lay(model, Plan()), system.device.memory_B, 0.9, engine)
    # 131,072 bytes a token; 72 GB less 16 GB of weights and a little for activations.
    rest_B = 0.9 * system.device.memory_B - blocks * 16 * 131_072
    assert 16.06e9 < rest_B < 18.5e9
    with pytest.raises(CapacityError, match="raise tp"):
        kv_blocks(lay(load_model("llama-3-70b"), Plan()), 80e9, 0.9, engine)
