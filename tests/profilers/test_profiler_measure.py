"""The measuring kernel on a fake clock: warm-up, verdicts, re-taking, interleaving, cold caches."""

from __future__ import annotations

import random

import msgspec
import pytest
from profiler_fakes import ScriptedWatch, constant, kit, script

from profilers.measure import Bench, measure, measure_together
from profilers.stopping import Rules
from profilers.telemetry import Reading

CONTENDED = Reading(troubles=("contended",), figures={"others_cores": 1.0})
THROTTLED = Reading(troubles=("throttled",), figures={"sm_clock_MHz": 300.0})


def test_a_steady_bench_is_ok_and_exact():
    result = measure(Bench(name="steady", run=constant(0.01)), kit())
    assert result.quality == "ok"
    assert result.remarks == ()
    assert result.stopped_by == "noise"
    assert result.summary.median_s == pytest.approx(0.01)
    assert result.summary.count * 0.01 >= 0.5
    assert result.timer == "fake_event"


def test_warm_up_is_not_in_the_samples_and_the_first_call_is_told_apart():
    slow_start = [5.0, 0.5, 0.1, 0.05] + [0.02] * 3
    result = measure(Bench(name="jit", run=script(slow_start, 0.01)), kit(), Rules(warmup_s=30))
    assert result.warmup.first_call_s == pytest.approx(5.0)
    assert result.warmup.stable
    assert result.summary.max_s == pytest.approx(0.01)
    assert result.warmup.seconds == pytest.approx(
        5.0 + 0.65 + 0.06 + 0.01 * (result.warmup.calls - 7)
    )


def test_a_bench_that_never_settles_says_so():
    rng = random.Random(3)  # noqa: S311

    def drifting() -> float:
        drifting.level *= 1.02  # type: ignore[attr-defined]
        return drifting.level * rng.uniform(0.9, 1.1)  # type: ignore[attr-defined]

    drifting.level = 0.001  # type: ignore[attr-defined]
    result = measure(
        Bench(name="drift", run=drifting), kit(), Rules(warmup_s=0.2, cap_s=1.0, min_time_s=0.1)
    )
    assert not result.warmup.stable
    assert result.quality == "noisy"
    assert any("drifting" in remark for remark in result.remarks)


def test_wide_spread_is_noisy_however_it_stopped():
    rng = random.Random(5)  # noqa: S311
    bench = Bench(name="wild", run=lambda: rng.choice([0.01, 0.02]))
    result = measure(bench, kit(), Rules(cap_s=2.0))
    assert result.quality == "noisy"
    assert any("median known to" in remark for remark in result.remarks)


def test_a_long_call_ends_at_the_cap_and_is_short():
    result = measure(Bench(name="long", run=constant(4.0)), kit(), Rules(cap_s=15.0))
    assert result.stopped_by == "time_cap"
    assert result.quality == "short"
    assert result.summary.count == 4
    assert result.remarks == ("4 samples over 16 s",)


def test_disturbed_blocks_are_taken_again():
    watch = ScriptedWatch([Reading(), CONTENDED, CONTENDED, Reading()])
    machine = kit(watch)
    result = measure(Bench(name="a", run=constant(0.01)), machine)
    assert result.quality == "ok"
    assert result.retaken == 20
    assert result.tainted == 0
    assert machine.clock.sleeps == [0.05, 0.1]  # type: ignore[attr-defined]


def test_samples_of_a_disturbed_block_do_not_count():
    """The device is slow exactly while the watch sees trouble; none of that may be kept."""
    readings = [CONTENDED, CONTENDED]
    watch = ScriptedWatch(readings)
    bench = Bench(name="a", run=lambda: 0.01 if watch.stops >= len(readings) else 0.05)
    result = measure(bench, kit(watch), Rules(warmup_s=0.5))
    assert result.summary.max_s == pytest.approx(0.01)
    assert result.retaken > 0


@pytest.mark.parametrize(("reading", "quality"), [(CONTENDED, "noisy"), (THROTTLED, "throttled")])
def test_trouble_without_end_gives_the_samples_and_a_verdict(reading, quality):
    machine = kit(ScriptedWatch(then=reading))
    result = measure(Bench(name="a", run=constant(0.01)), machine, Rules(retake_s=1.0))
    assert result.quality == quality
    assert result.tainted == result.summary.count >= 50  # half a second, as without trouble
    assert result.stopped_by == "noise"
    assert "kept disturbed blocks" in result.remarks[0]
    pauses = machine.clock.sleeps  # type: ignore[attr-defined]
    assert max(pauses) <= 0.5
    assert 1.0 <= sum(pauses) <= 1.5


def test_benches_share_one_allowance_for_waiting():
    machine = kit(ScriptedWatch(then=CONTENDED))
    benches = [Bench(name=name, run=constant(0.01)) for name in "abcdef"]
    results = measure_together(benches, machine, Rules(retake_s=1.0))
    assert sum(machine.clock.sleeps) <= 1.5  # type: ignore[attr-defined]
    assert {result.quality for result in results.values()} == {"noisy"}
    assert all(result.summary.count >= 10 for result in results.values())


def test_the_gravest_trouble_names_the_verdict():
    machine = kit(ScriptedWatch([CONTENDED], then=THROTTLED))
    result = measure(Bench(name="a", run=constant(0.5)), machine, Rules(retake_s=0.3))
    assert result.quality == "throttled"
    assert "contended 1×, throttled 9×" in result.remarks[0]


def test_enough_clean_samples_make_the_disturbed_ones_superfluous():
    watch = ScriptedWatch([Reading(), Reading(), Reading()], then=CONTENDED)
    rules = Rules(retake_s=0.5, min_time_s=1.0)
    result = measure(Bench(name="a", run=constant(0.01)), kit(watch), rules)
    assert result.tainted == 0
    assert result.summary.count == 30
    assert result.retaken >= 70
    assert result.quality == "ok"


def test_short_calls_are_repeated_within_a_sample():
    result = measure(Bench(name="tiny", run=constant(2**-20)), kit(min_sample_s=2**-14))
    assert result.inner == 64
    assert result.summary.median_s == pytest.approx(2**-20)


def test_a_cold_bench_is_flushed_before_every_sample_and_never_repeated_within_one():
    machine = kit(min_sample_s=1.0)
    result = measure(Bench(name="cold", run=constant(0.01), cold=True), machine)
    flushes = machine.device.flushes  # type: ignore[attr-defined]
    assert result.inner == 1
    assert result.cold
    assert flushes == result.warmup.calls + result.summary.count


def test_a_reset_runs_before_every_sample_and_before_the_flush():
    machine, log = kit(), []
    machine.device.flush = lambda: log.append("flush")  # type: ignore[method-assign]
    bench = Bench(name="a", run=constant(0.1), cold=True, before=lambda: log.append("reset"))
    measure(bench, machine)
    assert log[::2] == ["reset"] * (len(log) // 2)
    assert log[1::2] == ["flush"] * (len(log) // 2)


def test_times_are_per_unit_of_work():
    result = measure(Bench(name="graph of 10", run=constant(0.1), calls=10), kit())
    assert result.summary.median_s == pytest.approx(0.01)
    assert result.quality == "ok"


def test_benches_take_random_turns_and_each_ends_by_its_own_rule():
    order: list[str] = []

    def named(name: str, seconds: float):
        def run() -> float:
            order.append(name)
            return seconds

        return run

    benches = [Bench(name=name, run=named(name, 0.05)) for name in ("a", "b", "c")]
    results = measure_together(benches, kit(), Rules(min_time_s=2.0), seed=1)
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert set(results) == {"a", "b", "c"}
    assert len(turns) > 15, "benches must alternate, not run one after the other"
    assert len({tuple(turns[i : i + 3]) for i in range(3, len(turns) - 3, 3)}) > 2, (
        "in random order"
    )


def test_the_same_seed_gives_the_same_order():
    def order(seed: int) -> list[str]:
        log: list[str] = []
        benches = [
            Bench(name=name, run=lambda name=name: (log.append(name), 0.05)[1]) for name in "abc"
        ]
        measure_together(benches, kit(), Rules(min_time_s=2.0), seed=seed)
        return log

    assert order(1) == order(1) != order(2)


def test_two_benches_of_one_name_are_refused():
    with pytest.raises(ValueError, match="share a name"):
        measure_together([Bench(name="a", run=constant(1.0))] * 2, kit())


def test_telemetry_covers_the_blocks_that_were_kept():
    readings = [Reading(figures={"power_W": 300.0}), Reading(figures={"power_W": 500.0})]
    result = measure(Bench(name="a", run=constant(0.3)), kit(ScriptedWatch(readings)))
    assert result.telemetry["power_W"].low == 300.0
    assert result.telemetry["power_W"].high == 500.0
    assert result.telemetry["power_W"].mean == 400.0


def test_an_error_of_the_bench_is_not_swallowed():
    def broken() -> float:
        raise MemoryError("out of memory")

    with pytest.raises(MemoryError):
        measure(Bench(name="a", run=broken), kit())


def test_a_visit_takes_the_call_made_before_as_its_warm_up():
    told = Bench(name="visit", run=script([0.3, 0.2], 0.1), first_s=0.5, details=dict)
    rules = Rules(min_samples=1, min_time_s=0.0, max_samples=6, cap_s=0.25, warmup_values=1)
    result = measure(told, kit(), rules)
    assert result.warmup.calls == 1
    assert result.warmup.first_call_s == pytest.approx(0.5)
    assert result.samples_s == pytest.approx((0.3,)), "one long run is a visit"
    assert result.stopped_by == "time_cap"
    assert result.quality == "ok"
    short = msgspec.structs.replace(rules, cap_s=10.0)
    again = measure(Bench(name="short", run=constant(0.1), first_s=0.5), kit(), short)
    assert again.summary.count > 1
