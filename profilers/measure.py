"""The measuring kernel: warm up until stable, sample until known, watch the machine throughout.

`measure_together` times several callables in random turns on an injected device, clock and watch.
Blocks that the watch calls troubled (others on our cores, a throttling GPU) are taken again; what
remains of trouble, noise or shortage is said in the verdict, never hidden.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from profilers.device import Call, Clock, Device
from profilers.measurement import Measurement, Warmup, conclude_samples
from profilers.stats import median
from profilers.stopping import Rules, StopReason, StopRule, is_warm
from profilers.telemetry import Reading, Watch

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5
PROBES = 3


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One callable to time. `cold`: the last-level cache is emptied before every sample."""

    name: str
    run: Call
    cold: bool = False
    before: Call | None = None
    """Untimed, before every sample: resets what `run` changes. Forbids repeating within one."""
    cuda_graph: bool = False
    calls: int = 1
    """How many units of work one `run` does; reported times are per unit."""
    details: Callable[[], dict[str, float]] | None = None
    """After a run: its parts, in seconds. Such a bench is long; each sample is a block."""
    first_s: float | None = None
    """Seconds of a call that was made already: where a visit is short, all the warm-up it gets."""


@dataclass(frozen=True)
class Kit:
    """What a measurement runs on."""

    device: Device
    clock: Clock
    watch: Watch


@dataclass
class _Block:
    samples_s: list[float]
    reading: Reading
    details: dict[str, float] = field(default_factory=dict)


@dataclass
class _Session:
    """One bench on its way from warm-up to verdict."""

    bench: Bench
    rules: Rules
    inner: int = 1
    warmup: Warmup | None = None
    typical_s: float = 0.0
    stop: StopRule = field(init=False)
    clean: list[_Block] = field(default_factory=list)
    troubled: list[_Block] = field(default_factory=list)
    lenient: StopRule = field(init=False)
    """Counts troubled samples too; decides once there is no patience left."""
    spent_s: float = 0.0
    ended: StopReason | None = None

    def __post_init__(self) -> None:
        self.stop, self.lenient = StopRule(self.rules), StopRule(self.rules)


@dataclass
class _Patience:
    """Waiting for the machine to calm down helps every bench alike, so all share one allowance."""

    left_s: float
    pause_s: float = FIRST_PAUSE_S

    def wait(self, kit: Kit) -> bool:
        """Pause, longer each time; False where the allowance is used up."""
        if self.left_s <= 0:
            return False
        kit.clock.sleep(self.pause_s)
        self.left_s -= self.pause_s
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        return True

    def relax(self) -> None:
        """The machine was calm: the next pause is a short one again."""
        self.pause_s = FIRST_PAUSE_S


def measure(bench: Bench, kit: Kit, rules: Rules | None = None, seed: int = 0) -> Measurement:
    """Time one bench, in seconds per unit of work."""
    return measure_together([bench], kit, rules, seed)[bench.name]


def measure_together(
    benches: Sequence[Bench], kit: Kit, rules: Rules | None = None, seed: int = 0
) -> dict[str, Measurement]:
    """Time benches in random turns, so that drift of the machine falls on all alike."""
    rules = rules or Rules()
    names = Counter(bench.name for bench in benches)
    if any(count > 1 for count in names.values()):
        raise ValueError(f"two benches share a name: {names.most_common(1)[0][0]}")
    order = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    sessions = [_Session(bench, rules) for bench in benches]
    for session in sessions:
        _warm_up(session, kit)
    patience = _Patience(rules.retake_s)
    active = list(sessions)
    while active:
        order.shuffle(active)
        for session in active:
            _take_block(session, kit, patience)
        active = [session for session in active if session.ended is None]
    return {session.bench.name: _conclude(session, kit) for session in sessions}


def _before(bench: Bench, device: Device) -> Call | None:
    """What runs untimed before each sample: the bench's own reset, then the cache flush."""
    if not bench.cold:
        return bench.before
    if bench.before is None:
        return device.flush
    reset = bench.before

    def reset_and_flush() -> None:
        reset()
        device.flush()

    return reset_and_flush


def _warm_up(session: _Session, kit: Kit) -> None:
    """Call until stable, finding on the way how many calls make a sample long enough to time."""
    rules, bench = session.rules, session.bench
    if bench.first_s is not None and rules.warmup_values <= 1:
        session.typical_s = bench.first_s
        session.warmup = Warmup(
            calls=1, seconds=bench.first_s, first_call_s=bench.first_s, stable=True
        )
        return
    before = _before(bench, kit.device)
    began = kit.clock.now()
    first_s = kit.device.time_calls(bench.run, 1, 1, before)[0]
    calls, stable = 1, False
    repeatable = before is None and bench.details is None
    values: list[float] = []
    while calls < rules.warmup_values and kit.clock.now() - began < rules.warmup_s:
        values += kit.device.time_calls(bench.run, 1, session.inner, before)
        calls += 1
        window = _window(rules.warmup_s, values[-1] * session.inner)
        if len(values) >= window and is_warm(values[-window:]):
            stable = True
            break
        if len(values) == PROBES and repeatable and session.inner == 1:
            session.inner = _inner(kit.device, median(values))
            values = values if session.inner == 1 else []
    session.typical_s = median(values[-20:] or [first_s])
    session.warmup = Warmup(
        calls=calls, seconds=kit.clock.now() - began, first_call_s=first_s, stable=stable
    )


def _inner(device: Device, call_s: float) -> int:
    return max(1, math.ceil(device.min_sample_s / call_s)) if call_s > 0 else 1


def _window(warmup_s: float, value_s: float) -> int:
    """Warm-up values to look at: 20, fewer (4 at least) where a call is long."""
    return min(20, max(4, int(warmup_s / 2 / value_s))) if value_s > 0 else 20


def _take_block(session: _Session, kit: Kit, patience: _Patience) -> None:
    """One block of samples, kept if the machine was itself, and the decision whether to go on."""
    rules, bench = session.rules, session.bench
    began = kit.clock.now()
    kit.watch.start()
    if not bench.cold and bench.before is None and bench.details is None:
        bench.run()  # another bench may have used the caches since our last turn
    kit.device.synchronize()
    samples = kit.device.time_calls(
        bench.run, _block_size(session), session.inner, _before(bench, kit.device)
    )
    reading = kit.watch.stop()
    block = _Block(samples, reading, bench.details() if bench.details else {})
    for sample in samples:
        session.lenient.add(sample, session.inner)
    if reading.troubles:
        session.troubled.append(block)
        if not patience.wait(kit):
            session.ended = session.lenient.reason()
    else:
        session.clean.append(block)
        patience.relax()
        for sample in samples:
            session.stop.add(sample, session.inner)
        session.ended = session.stop.reason()
    session.spent_s += kit.clock.now() - began
    if session.ended is None and session.spent_s >= rules.cap_s:
        session.ended = "time_cap"


def _block_size(session: _Session) -> int:
    if session.bench.details is not None:
        return 1
    sample_s = max(session.typical_s * session.inner, 1e-9)
    rules = session.rules
    room = max(1, rules.max_samples - session.stop.count)
    return max(1, min(int(rules.block_s / sample_s), rules.min_samples * 10, room))


def _conclude(session: _Session, kit: Kit) -> Measurement:
    """Choose the blocks to keep and say what they are worth."""
    bench, warmup = session.bench, session.warmup
    enough = session.stop.count >= session.rules.min_samples
    kept_bad = [] if enough else session.troubled
    blocks = session.clean + kept_bad
    if warmup is None or session.ended is None:
        raise RuntimeError("a session was concluded before it ended")
    measured = conclude_samples(
        [sample / bench.calls for block in blocks for sample in block.samples_s],
        [block.reading for block in blocks],
        warmup,
        session.rules,
        stopped_by=session.ended,
        timer=kit.device.timer,
        calls_per_sample=session.inner * bench.calls,
        tainted=_count(kept_bad),
        retaken=_count(session.troubled) - _count(kept_bad),
    )
    return msgspec.structs.replace(
        measured,
        cold=bench.cold,
        cuda_graph=bench.cuda_graph,
        details_s={
            name: tuple(block.details[name] for block in blocks) for name in blocks[0].details
        },
    )


def _count(blocks: list[_Block]) -> int:
    return sum(len(block.samples_s) for block in blocks)
