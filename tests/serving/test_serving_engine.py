"""The simulator against an engine written plainly, and against queueing theory."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slow_engine import Req, SlowEngine

from analyzer.errors import ConfigError
from analyzer.serving import (
    AffineTimer,
    Cluster,
    Collector,
    Disaggregation,
    EngineOptions,
    Graphs,
    Host,
    SimOptions,
    Speculation,
    simulate,
)
from analyzer.workload import SLO
from analyzer.workload_arrivals import (
    AllAtOnce,
    ClosedLoop,
    Constant,
    Fixed,
    Gamma,
    Load,
    Poisson,
    SharedPrefix,
    Turns,
    Uniform,
    requests,
)

TIMER = AffineTimer(
    step_s=2e-3, token_s=3e-5, pair_s=4e-8, chunk_s=5e-5, sequence_s=6e-5, key_s=7e-7
)


def slow_step_s(plan: list[tuple[Req, int]]) -> float:
    """TIMER's step time, summed over requests instead of sums."""
    total = TIMER.step_s
    for req, new in plan:
        total += TIMER.token_s * new
        if req.decoding:
            total += TIMER.sequence_s + TIMER.key_s * (req.computed + 1)
        else:
            past = req.computed
            total += TIMER.chunk_s + TIMER.pair_s * sum(past + i + 1 for i in range(new))
    return total


engines = st.fixed_dictionaries(
    {
        "kv_blocks": st.integers(8, 60),
        "block_tokens": st.sampled_from([1, 4, 16]),
        "max_batched_tokens": st.integers(12, 64),
        "max_sequences": st.integers(1, 12),
        "long_prefill_tokens": st.sampled_from([0, 0, 5, 17]),
        "watermark": st.sampled_from([0.0, 0.1]),
        "reserve_whole_prompt": st.booleans(),
        "reserve_answer": st.sampled_from([False, False, True]),
        "prompts_alone": st.sampled_from([False, False, True]),
    }
)
loads = st.fixed_dictionaries(
    {
        "rate_per_s": st.floats(1.0, 400.0),
        "input_high": st.integers(1, 70),
        "output_high": st.integers(1, 30),
        "requests": st.integers(1, 40),
        "seed": st.integers(0, 1000),
    }
)


def options_of(engine: dict, load: dict, **more: object) -> SimOptions:
    return SimOptions(
        load=Load(
            arrivals=Poisson(rate_per_s=load["rate_per_s"]),
            input_tokens=Uniform(low=1, high=load["input_high"]),
            output_tokens=Uniform(low=1, high=load["output_high"]),
            requests=load["requests"],
            seed=load["seed"],
        ),
        engine=EngineOptions(**engine, prefix_caching=False),
        **more,
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(engine=engines, load=loads)
def test_every_request_has_the_times_of_the_plain_engine(engine: dict, load: dict) -> None:
    options = options_of(engine, load)
    size, most = engine["block_tokens"], engine["kv_blocks"]
    specs = [
        spec
        for spec in requests(options.load)
        if -(-(spec.input_tokens + spec.output_tokens + 1) // size) <= most
    ]
    slow = SlowEngine(
        blocks=most,
        size=size,
        budget=engine["max_batched_tokens"],
        seqs=engine["max_sequences"],
        long=engine["long_prefill_tokens"],
        watermark=int(engine["watermark"] * most),
        whole=engine["reserve_whole_prompt"],
        step_time=slow_step_s,
        alone=engine["prompts_alone"],
        promise=engine["reserve_answer"],
    )
    served = slow.serve(
        [Req(s.number, s.scheduled_s, s.input_tokens, s.output_tokens) for s in specs]
    )
    result = simulate(options, TIMER)
    assert result.refused == load["requests"] - len(specs)
    fast = {times.number: times for times in result.request_times if not times.refused}
    assert len(fast) == len(served)
    for req in served:
        times = fast[req.number]
        assert times.first_token_s == pytest.approx(req.token_times[0], rel=1e-9)
        assert times.end_s == pytest.approx(req.token_times[-1], rel=1e-9)
        assert times.admitted_s == pytest.approx(req.admitted, rel=1e-9)
        assert times.preemptions == req.preempted
        assert times.output_tokens == req.output
    gaps = [b - a for r in served for a, b in zip(r.token_times, r.token_times[1:], strict=False)]
    assert (result.itl.count if result.itl else 0) == len(gaps)
    if gaps:
        assert result.itl.mean == pytest.approx(sum(gaps) / len(gaps), rel=1e-9)
        assert result.itl.largest == pytest.approx(max(gaps), rel=1e-9)


variants = st.fixed_dictionaries(
    {
        "speculation": st.sampled_from(
            [None, Speculation(tokens=2, acceptance=0.6), Speculation(tokens=1, acceptance=1.0)]
        ),
        "prefix_caching": st.booleans(),
        "turns": st.sampled_from([None, Turns(count=3, think_s=0.05)]),
        "prefix": st.sampled_from([None, SharedPrefix(tokens=37, groups=3)]),
        "closed": st.booleans(),
        "replicas": st.sampled_from([1, 3]),
        "router": st.sampled_from(["round_robin", "least_loaded", "prefix_aware"]),
        "disaggregated": st.booleans(),
        "stages": st.sampled_from([1, 1, 2, 3]),
    }
)


def deployment(engine: dict, load: dict, how: dict) -> SimOptions:
    sizes = {**engine, "kv_blocks": engine["kv_blocks"] + 40, "max_batched_tokens": 64}
    if not sizes["prompts_alone"]:
        sizes["stages"] = how["stages"]
    split = how["disaggregated"] and how["replicas"] > 1 and not sizes["prompts_alone"]
    arrivals = (
        ClosedLoop(concurrency=5) if how["closed"] else Poisson(rate_per_s=load["rate_per_s"])
    )
    return SimOptions(
        load=Load(
            arrivals=arrivals,
            input_tokens=Uniform(low=1, high=load["input_high"]),
            output_tokens=Uniform(low=1, high=load["output_high"]),
            requests=load["requests"],
            seed=load["seed"],
            turns=how["turns"],
            shared_prefix=how["prefix"],
        ),
        engine=EngineOptions(
            **sizes, speculation=how["speculation"], prefix_caching=how["prefix_caching"]
        ),
        replicas=how["replicas"],
        router=how["router"],
        disaggregation=Disaggregation(
            prefill_replicas=1, kv_token_B=1000, link_Bps=1e7, link_s=1e-3
        )
        if split
        else None,
    )


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(engine=engines, load=loads, how=variants)
def test_nothing_is_lost_and_nobody_starves(engine: dict, load: dict, how: dict) -> None:
    options = deployment(engine, load, how)
    seen = Collector(options)
    cluster = Cluster(options, TIMER, seen.done)
    cluster.run()
    times = [each for each in seen.kept if not each.refused]
    # No request is starved, and each has all the tokens that it asked for.
    assert cluster.in_flight == 0
    assert seen.finished + seen.refused == cluster.submitted == load["requests"]
    asked = {
        each.number: each for spec in requests(options.load) for each in (spec, *spec.follow_ups)
    }
    assert all(each.output_tokens == asked[each.number].output_tokens for each in times)
    for each in times:
        assert each.arrival_s <= each.admitted_s < each.first_token_s <= each.end_s
    # Every prompt token was computed or came from the cache; recomputation only adds.
    prompts = sum(each.input_tokens for each in times)
    done = cluster.meters.prefill_tokens + seen.cached_tokens
    assert done == prompts if cluster.meters.preemptions == 0 else done >= prompts
    # Every KV block is back, or warm in the cache.
    for replica in cluster.replicas:
        assert replica.pool.used == 0
        assert 0 <= replica.pool.warm <= replica.pool.total
        for lane in getattr(replica, "_lanes", [replica.decoding]):
            assert (lane.count, lane.context) == (0, 0)
    # Little's law: what was in the system, and how long each stayed.
    stayed = sum(each.end_s - each.arrival_s for each in times)
    assert cluster.in_flight_s == pytest.approx(stayed, rel=1e-9, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(engine=engines, load=loads, how=variants)
def test_the_same_seed_gives_the_same_bytes(engine: dict, load: dict, how: dict) -> None:
    options = deployment(engine, load, how)
    assert repr(simulate(options, TIMER)) == repr(simulate(options, TIMER))


def test_one_server_queue_waits_as_pollaczek_and_khinchine_say() -> None:
    service_s = 0.010
    options = SimOptions(
        load=Load(
            arrivals=Poisson(rate_per_s=70.0),
            input_tokens=Fixed(tokens=100),
            output_tokens=Fixed(tokens=1),
            requests=40_000,
            seed=3,
        ),
        engine=EngineOptions(kv_blocks=100, max_sequences=1, prefix_caching=False),
    )
    result = simulate(options, AffineTimer(step_s=service_s))
    busy = 70.0 * service_s
    assert result.replicas[0].utilisation == pytest.approx(busy, rel=0.02)
    assert result.queue is not None
    assert result.queue.mean == pytest.approx(busy * service_s / 2 / (1 - busy), rel=0.05)
    assert result.mean_in_flight == pytest.approx(
        result.request_rate_per_s * result.e2e.mean, rel=1e-9
    )


def test_a_batch_that_fits_takes_what_the_sums_say() -> None:
    options = SimOptions(
        load=Load(
            arrivals=AllAtOnce(),
            input_tokens=Fixed(tokens=64),
            output_tokens=Fixed(tokens=11),
            requests=8,
        ),
        engine=EngineOptions(kv_blocks=1000, host=Host(step_s=1e-3, sequence_s=1e-4)),
    )
    result = simulate(options, AffineTimer(step_s=5e-3, token_s=1e-5, key_s=1e-6))
    prefill = 5e-3 + 512 * 1e-5 + 1e-3 + 8e-4
    steps = [5e-3 + 8e-5 + 8 * (64 + i) * 1e-6 + 1e-3 + 8e-4 for i in range(1, 11)]
    assert result.steps == 11
    assert result.ttft.largest == pytest.approx(prefill)
    assert result.duration_s == pytest.approx(prefill + math.fsum(steps))
    assert result.output_tokens_per_s == pytest.approx(88 / result.duration_s)


def test_overlapped_host_hides_behind_the_device() -> None:
    def run(host: Host) -> float:
        load = Load(
            arrivals=AllAtOnce(),
            input_tokens=Fixed(tokens=10),
            output_tokens=Fixed(tokens=20),
            requests=1,
        )
        options = SimOptions(load=load, engine=EngineOptions(kv_blocks=100, host=host))
        return simulate(options, AffineTimer(step_s=5e-3)).duration_s

    assert run(Host(step_s=2e-3, overlapped=True)) == pytest.approx(20 * 5e-3)
    assert run(Host(step_s=7e-3, overlapped=True)) == pytest.approx(20 * 7e-3)
    assert run(Host(step_s=2e-3)) == pytest.approx(20 * 7e-3)
    # The way to the queue and back costs every request, but not the engine.
    assert run(Host(request_s=0.5, token_s=0.25)) == pytest.approx(0.5 + 20 * 5e-3)


def test_asynchronous_scheduling_admits_a_step_later() -> None:
    def first_token(overlapped: bool, arrival_s: float) -> float:
        options = SimOptions(
            load=Load(
                arrivals=Constant(rate_per_s=1 / arrival_s),
                input_tokens=Fixed(tokens=8),
                output_tokens=Fixed(tokens=100),
                requests=2,
            ),
            engine=EngineOptions(kv_blocks=100, host=Host(overlapped=overlapped)),
        )
        times = simulate(options, AffineTimer(step_s=0.01)).request_times
        return times[1].first_token_s - times[0].arrival_s

    # The second comes 0.2 steps into the sixth step of the first one.
    assert first_token(False, 0.052) == pytest.approx(0.07)
    assert first_token(True, 0.052) == pytest.approx(0.08)


def test_graphs_pad_small_steps_and_charge_large_ones() -> None:
    load = Load(
        arrivals=AllAtOnce(),
        input_tokens=Fixed(tokens=20),
        output_tokens=Fixed(tokens=5),
        requests=3,
    )
    engine = EngineOptions(kv_blocks=100, graphs=Graphs(sizes=(1, 2, 4, 8), eager_s=0.1))
    result = simulate(SimOptions(load=load, engine=engine), AffineTimer(token_s=1e-3))
    # 60 prompt tokens are too many for a graph; decoding 3 is padded to 4.
    assert result.duration_s == pytest.approx(0.060 + 0.1 + 4 * 0.004)


def test_speculation_yields_the_expected_tokens_per_step() -> None:
    how = Speculation(tokens=3, acceptance=0.7, draft_s=1e-3)
    load = Load(
        arrivals=AllAtOnce(),
        input_tokens=Fixed(tokens=10),
        output_tokens=Fixed(tokens=20_001),
        requests=1,
    )
    engine = EngineOptions(kv_blocks=2000, speculation=how, max_sequences=1)
    result = simulate(SimOptions(load=load, engine=engine), AffineTimer(step_s=1e-2))
    expected = (1 - 0.7**4) / (1 - 0.7)
    assert 20_000 / (result.steps - 1) == pytest.approx(expected, rel=0.02)
    assert result.duration_s == pytest.approx(1e-2 + (result.steps - 1) * 1.1e-2)


def test_rejecting_every_draft_is_like_not_drafting() -> None:
    def run(speculation: Speculation | None) -> list[float]:
        load = Load(
            arrivals=Constant(rate_per_s=50),
            input_tokens=Uniform(low=5, high=90),
            output_tokens=Uniform(low=1, high=60),
            requests=60,
        )
        engine = EngineOptions(kv_blocks=3000, speculation=speculation)
        result = simulate(SimOptions(load=load, engine=engine), AffineTimer(step_s=1e-2))
        return [times.end_s for times in result.request_times]

    assert run(Speculation(tokens=4, acceptance=0.0)) == pytest.approx(run(None))


def test_disaggregation_adds_the_transfer_and_spares_decoding_the_prompts() -> None:
    load = Load(
        arrivals=Constant(rate_per_s=1.0),
        input_tokens=Fixed(tokens=100),
        output_tokens=Fixed(tokens=5),
        requests=1,
    )
    split = Disaggregation(prefill_replicas=1, kv_token_B=1e6, link_Bps=1e9, link_s=0.02)
    options = SimOptions(
        load=load, engine=EngineOptions(kv_blocks=100), replicas=2, disaggregation=split
    )
    result = simulate(options, AffineTimer(token_s=1e-3))
    times = result.request_times[0]
    assert times.ttft_s == pytest.approx(0.1)
    assert times.end_s - times.first_token_s == pytest.approx(0.02 + 0.1 + 4e-3)
    assert [replica.steps for replica in result.replicas] == [1, 4]
    assert result.itl.largest == pytest.approx(0.121)


def test_one_link_sends_one_prompt_at_a_time() -> None:
    load = Load(
        arrivals=AllAtOnce(),
        input_tokens=Fixed(tokens=100),
        output_tokens=Fixed(tokens=2),
        requests=3,
    )
    split = Disaggregation(prefill_replicas=1, kv_token_B=1e6, link_Bps=1e9)
    options = SimOptions(
        load=load, engine=EngineOptions(kv_blocks=100), replicas=2, disaggregation=split
    )
    ends = sorted(t.end_s for t in simulate(options, AffineTimer(step_s=1e-6)).request_times)
    assert ends == pytest.approx([0.1, 0.2, 0.3], rel=1e-3)


def test_shared_prefixes_are_computed_once() -> None:
    def run(caching: bool) -> object:
        load = Load(
            arrivals=Constant(rate_per_s=10),
            input_tokens=Fixed(tokens=20),
            output_tokens=Fixed(tokens=4),
            requests=50,
            shared_prefix=SharedPrefix(tokens=160, groups=2),
        )
        engine = EngineOptions(kv_blocks=200, prefix_caching=caching)
        return simulate(SimOptions(load=load, engine=engine), AffineTimer(token_s=1e-5))

    cached, plain = run(True), run(False)
    assert plain.prefill_tokens == 50 * 180
    assert cached.cached_tokens == 48 * 160
    assert cached.prefill_tokens == 50 * 180 - 48 * 160


def test_later_turns_find_the_conversation_cached() -> None:
    load = Load(
        arrivals=Constant(rate_per_s=1),
        input_tokens=Fixed(tokens=33),
        output_tokens=Fixed(tokens=16),
        requests=8,
        turns=Turns(count=4, think_s=0.01),
    )
    result = simulate(
        SimOptions(load=load, engine=EngineOptions(kv_blocks=500)), AffineTimer(step_s=1e-4)
    )
    by_number = {times.number: times for times in result.request_times}
    # After a turn all its tokens but the last are computed; whole blocks of them stay.
    said = [33, 33 + 49, 33 + 98, 33 + 147]
    assert [by_number[n].input_tokens for n in range(4)] == said
    assert [by_number[n].cached_tokens for n in range(4)] == [0, 48, 96, 144]
    assert by_number[1].arrival_s == pytest.approx(by_number[0].end_s + 0.01)


def test_prefix_aware_routing_beats_round_robin_on_hits() -> None:
    def hits(router: str) -> int:
        load = Load(
            arrivals=Poisson(rate_per_s=40),
            input_tokens=Fixed(tokens=16),
            output_tokens=Fixed(tokens=4),
            requests=400,
            shared_prefix=SharedPrefix(tokens=320, groups=6),
        )
        options = SimOptions(
            load=load, engine=EngineOptions(kv_blocks=64), replicas=3, router=router
        )
        return simulate(options, AffineTimer(token_s=1e-5)).cached_tokens

    assert hits("prefix_aware") > 1.2 * hits("round_robin")


def test_least_loaded_routing_evens_out_bursts() -> None:
    def worst(router: str) -> float:
        load = Load(
            arrivals=Gamma(rate_per_s=30, burstiness=0.3),
            input_tokens=Uniform(low=10, high=2000),
            output_tokens=Uniform(low=1, high=100),
            requests=1500,
            seed=5,
        )
        options = SimOptions(
            load=load,
            engine=EngineOptions(kv_blocks=4000, max_sequences=1),
            replicas=4,
            router=router,
        )
        return simulate(options, AffineTimer(step_s=1e-3, token_s=5e-5)).ttft.mean

    assert worst("least_loaded") < worst("round_robin")


def test_closed_loop_keeps_its_concurrency() -> None:
    load = Load(
        arrivals=ClosedLoop(concurrency=7),
        input_tokens=Fixed(tokens=10),
        output_tokens=Fixed(tokens=10),
        requests=100,
    )
    result = simulate(
        SimOptions(load=load, engine=EngineOptions(kv_blocks=1000)), AffineTimer(step_s=1e-2)
    )
    assert result.most_in_flight == 7
    assert result.finished == 100


def test_goodput_counts_refused_requests_as_failures() -> None:
    load = Load(
        arrivals=Constant(rate_per_s=10),
        input_tokens=Uniform(low=1, high=200),
        output_tokens=Fixed(tokens=5),
        requests=100,
    )
    engine = EngineOptions(kv_blocks=500, max_model_tokens=105, max_batched_tokens=512)
    options = SimOptions(load=load, engine=engine, slo=SLO(ttft_s=1.0))
    result = simulate(options, AffineTimer(step_s=1e-3))
    long = sum(spec.input_tokens > 100 for spec in requests(load))
    assert result.refused == long
    assert result.attainment == pytest.approx(1 - long / 100)
    assert result.goodput_per_s == pytest.approx((100 - long) / result.duration_s)


def test_stopping_early_leaves_the_rest_unfinished() -> None:
    load = Load(
        arrivals=Constant(rate_per_s=100),
        input_tokens=Fixed(tokens=10),
        output_tokens=Fixed(tokens=100),
        requests=500,
    )
    options = SimOptions(load=load, engine=EngineOptions(kv_blocks=1000), until_s=1.0)
    result = simulate(options, AffineTimer(step_s=2e-2))
    assert result.duration_s == 1.0
    assert result.finished + result.unfinished == result.requests < 500


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kv_blocks": 0}, "engine.kv_blocks must be at least 1"),
        ({"watermark": 1.0}, "engine.watermark"),
        ({"max_batched_tokens": 100, "max_sequences": 200}, "max_batched_tokens=100 does not hold"),
    ],
)
def test_impossible_engines_are_refused(change: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        EngineOptions(**{"kv_blocks": 10, **change})


def test_graph_sizes_must_rise() -> None:
    with pytest.raises(ConfigError, match="rising sizes"):
        Graphs(sizes=(4, 2))


def test_a_wrong_router_is_answered_with_the_right_name() -> None:
    load = Load(arrivals=AllAtOnce(), requests=1)
    with pytest.raises(ConfigError, match="did you mean round_robin"):
        SimOptions(load=load, engine=EngineOptions(kv_blocks=10), router="round-robin")
