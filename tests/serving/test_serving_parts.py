"""Parts of the simulator on their own: blocks, sketch, timeline, tables, percentiles, search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError
from analyzer.serving import AffineTimer, EngineOptions, SimOptions, TableTimer, max_rate, simulate
from analyzer.serving.kv import BlockPool, Hold
from analyzer.serving.sketch import Sketch
from analyzer.serving.summary import distribution, needed
from analyzer.serving.tables import StepArrays
from analyzer.serving.timeline import Timeline
from analyzer.serving.timers import StepLoad
from analyzer.workload import SLO
from analyzer.workload_arrivals import AllAtOnce, Constant, Fixed, Load, Poisson, Uniform


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_blocks_are_never_made_or_lost(data: st.DataObject) -> None:
    pool = BlockPool(total=50, block_tokens=4, caching=True)
    held: list[tuple[Hold, int, int, int]] = []
    for step in range(60):
        if held and data.draw(st.booleans()):
            hold, number, tokens, prefixed = held.pop(data.draw(st.integers(0, len(held) - 1)))
            pool.release(hold, ("request", number, 0), tokens // 4 - prefixed)
        else:
            prefix = data.draw(st.integers(0, 3))
            tokens = data.draw(st.integers(1, 60))
            chain = ((("prefix", prefix, 0), 4 * (prefix + 2)),) if tokens > 30 else ()
            found, warm = pool.match(chain, tokens - 1)
            wanted = pool.blocks_for(tokens) - found
            if wanted + warm <= pool.available:
                hold = Hold()
                pool.adopt(hold, chain, found)
                pool.take(hold, wanted)
                pool.publish(hold, chain)
                assert hold.blocks == pool.blocks_for(tokens)
                held.append((hold, step, tokens, prefix + 2 if chain else 0))
        reads = {key for hold, *_ in held for key in hold.reads}
        segments = pool._segments
        used = sum(hold.private for hold, *_ in held) + sum(segments[k].blocks for k in reads)
        assert pool.used == used
        assert pool.warm == sum(s.blocks for k, s in segments.items() if k not in reads)
        assert pool.used + pool.warm <= pool.total


def test_the_oldest_warm_blocks_go_first() -> None:
    pool = BlockPool(total=10, block_tokens=1, caching=True)
    for name in (1, 2):
        hold = Hold()
        pool.take(hold, 4)
        pool.publish(hold, ((("prefix", name, 0), 4),))
        pool.release(hold, None, 4)
    pool.take(Hold(), 5)
    assert pool.match(((("prefix", 1, 0), 4),), 99)[0] == 1
    assert pool.match(((("prefix", 2, 0), 4),), 99)[0] == 4


@given(st.lists(st.floats(1e-5, 1e4), min_size=50, max_size=400), st.sampled_from([0.5, 0.9]))
def test_sketched_quantiles_are_right_to_a_tenth_of_a_percent(
    values: list[float], share: float
) -> None:
    sketch = Sketch()
    sketch.add_many(np.asarray(values[: len(values) // 2]), 1)
    for value in values[len(values) // 2 :]:
        sketch.add(value)
    exact = sorted(values)[max(int(np.ceil(share * len(values))), 1) - 1]
    assert sketch.quantile(share) == pytest.approx(exact, rel=1.01e-3)


def test_percentiles_need_enough_requests() -> None:
    assert [needed(share) for share in (0.5, 0.9, 0.95, 0.99)] == [7, 44, 90, 459]
    few = distribution(np.arange(100.0))
    assert set(few.percentiles) == {"p50", "p90", "p95"}
    assert few.too_few_for == ("p99", "p99.9")
    assert few.percentiles["p90"] == 89.0
    assert distribution([]) is None


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.001, 40)), min_size=1, max_size=50))
def test_a_timeline_keeps_the_integral(spans: list[tuple[float, float]]) -> None:
    timeline = Timeline(bins=8)
    now = total = 0.0
    for wait, length in spans:
        timeline.add(now + wait, now + wait + length, (1.0, 2.0, 0.0, 5.0))
        now += wait + length
        total += length
    columns = timeline.columns()
    widths = np.minimum(now - np.asarray(columns["start_s"]), timeline.width_s)
    assert float(np.dot(columns["busy"], widths)) == pytest.approx(total)
    assert float(np.dot(columns["kv_blocks"], widths)) == pytest.approx(5 * total)
    assert len(columns["start_s"]) <= 8


def roofline(step: StepArrays) -> np.ndarray:
    """A step time with a kink: weights or arithmetic, whichever takes longer."""
    tokens = step.prefill_tokens + step.decode_tokens
    linear = np.maximum(4e-3, tokens * 2e-5)
    return 1e-3 + linear + step.prefill_pairs * 2e-9 + step.decode_context * 5e-8


@given(
    prefill=st.integers(0, 4000),
    past=st.integers(0, 8000),
    batch=st.integers(0, 256),
    context=st.integers(1, 9000),
)
def test_tables_give_back_the_step_time(prefill: int, past: int, batch: int, context: int) -> None:
    if prefill + batch == 0:
        return
    pairs = prefill * past + prefill * (prefill + 1) / 2
    load = StepLoad(
        prefill, pairs, past + prefill, 1, batch, batch, batch * context if batch else 0
    )
    exact = roofline(
        StepArrays(
            *(np.asarray([float(x)]) for x in (prefill, pairs, 0, batch, batch, batch * context))
        )
    )[0]
    assert TABLE.step_time_s(load) == pytest.approx(exact, rel=0.02)


TABLE = TableTimer.build(roofline, max_batch=256, max_tokens=4096, max_context=16384)


def test_tables_time_runs_as_they_time_steps() -> None:
    load = StepLoad(decode_batch=37, decode_tokens=37)
    contexts = np.arange(37 * 900.0, 37 * 1200.0, 37.0)
    single = [TABLE.step_time_s(load._replace(decode_context=int(c))) for c in contexts]
    assert TABLE.decode_times_s(load, contexts) == pytest.approx(single, rel=1e-12)


def test_a_table_of_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a finite number"):
        TableTimer.build(
            lambda s: s.prefill_tokens * np.nan, max_batch=4, max_tokens=8, max_context=8
        )
    with pytest.raises(ConfigError, match="token_s must be 0 or more"):
        AffineTimer(token_s=-1.0)


def search_options(requests: int = 400) -> SimOptions:
    load = Load(
        arrivals=Constant(rate_per_s=1.0),
        input_tokens=Fixed(tokens=10),
        output_tokens=Fixed(tokens=1),
        requests=requests,
    )
    engine = EngineOptions(kv_blocks=1000, max_sequences=1)
    return SimOptions(load=load, engine=engine, slo=SLO(ttft_s=0.02))


def test_the_highest_rate_of_a_clocked_server_is_its_service_rate() -> None:
    # Equal gaps and one request at a time: no queue up to 100/s, a growing one above.
    found = max_rate(search_options(), AffineTimer(step_s=0.010), tolerance=0.005)
    assert found.rate_per_s == pytest.approx(100.0, rel=0.01)
    assert found.failed_rate_per_s is not None
    assert found.failed_rate_per_s > found.rate_per_s
    assert found.at_rate is not None
    assert found.at_rate.attainment == 1.0


def test_an_impossible_promise_is_kept_at_no_rate() -> None:
    found = max_rate(search_options(), AffineTimer(step_s=1.0), lowest_per_s=0.1)
    assert found.rate_per_s == 0.0
    assert found.at_rate is None
    assert all(not probe.kept for probe in found.probes)


def test_a_search_says_what_it_lacks() -> None:
    options = search_options()
    no_slo = SimOptions(load=options.load, engine=options.engine)
    with pytest.raises(ConfigError, match="needs an SLO"):
        max_rate(no_slo, AffineTimer(step_s=1.0))
    offline = SimOptions(
        load=Load(arrivals=AllAtOnce(), requests=3), engine=options.engine, slo=options.slo
    )
    with pytest.raises(ConfigError, match="have no rate"):
        max_rate(offline, AffineTimer(step_s=1.0))
    with pytest.raises(ConfigError, match="attainment"):
        max_rate(options, AffineTimer(step_s=1.0), attainment=1.5)


def test_a_long_run_keeps_only_what_it_was_told_to_keep() -> None:
    load = Load(
        arrivals=Poisson(rate_per_s=90.0),
        input_tokens=Uniform(low=5, high=50),
        output_tokens=Fixed(tokens=3),
        requests=5_000,
    )
    engine = EngineOptions(kv_blocks=1000)

    def run(keep: int) -> object:
        options = SimOptions(load=load, engine=engine, keep_requests=keep, keep_steps=7)
        return simulate(options, AffineTimer(step_s=5e-3))

    some, every = run(100), run(5_000)
    assert len(some.request_times) == 100
    assert len(every.request_times) == every.ttft.count == some.ttft.count == 5_000
    assert some.ttft.mean == pytest.approx(every.ttft.mean)
    for name, value in every.ttft.percentiles.items():
        assert some.ttft.percentiles[name] == pytest.approx(value, rel=1.1e-3)
    assert len(some.step_rows) == 7
