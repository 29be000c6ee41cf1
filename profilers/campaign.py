"""A campaign: plan cases that fit a budget, measure each in a worker, store, resume.

`run("operators", Options(store=..., budget_s=600))` is what `plumbline profile` calls. Every case
is answered by one record, a failure by a record that says why. A worker that hangs, crashes or runs
out of memory is replaced and the campaign goes on; an interrupted campaign resumes from its
records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from analyzer.errors import CaseTimeout
from profilers.batching import Batch, batches
from profilers.cases import Case, Described, Failure, Machine, Outcome, Planned
from profilers.device import Clock, SystemClock
from profilers.options import Options
from profilers.planning import cut_to_budget, plan, rules_of
from profilers.progress import Progress, Reporter, Tally
from profilers.results import failure_record, outcome_record
from profilers.settled import settled
from profilers.stopping import Rules
from profilers.store import Store
from profilers.workers import Worker, WorkerDied, start

__all__ = ["CampaignResult", "Options", "Progress", "plan_all", "run"]

WorkerFactory = Callable[[], Worker]
MEMORY_SHARE = 0.25
"""Of the device's memory, what the cases of one batch may hold together."""
GRACE_S = 30.0
GRACE_FACTOR = 6.0
OVERTIME_S = 10.0
"""How far a case that was begun in time may overdraw the budget."""


class CampaignResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a campaign."""

    store: str
    machine: str
    measured: int
    failed: int
    resumed: int
    """Cases that an earlier run had already answered."""
    left: int
    """Cases that were begun or due but not answered; run again to take them."""
    over_budget: int
    """Cases of the profile that the budget does not hold."""
    seconds: float
    interrupted: bool
    quality: dict[str, int]
    """Measured cases by verdict."""
    torn_B: int
    """Bytes of a half-written record that an earlier crash had left; they were cut off."""


def run(
    profile: str,
    options: Options,
    *,
    reporter: Reporter | None = None,
    workers: WorkerFactory | None = None,
    clock: Clock | None = None,
) -> CampaignResult:
    """Run a profile (or `all`) on this machine; the records land in `options.store`."""
    planner = partial(plan, profile)
    return measure_planned(options, planner, reporter=reporter, workers=workers, clock=clock)


def measure_planned(
    options: Options,
    planner: Callable[[Options, Machine], Sequence[Planned]],
    *,
    reporter: Reporter | None = None,
    workers: WorkerFactory | None = None,
    clock: Clock | None = None,
) -> CampaignResult:
    """Run whatever `planner` plans for this machine."""
    scratch = str(options.scratch or Path(options.store))
    tally = Tally(clock or SystemClock(), reporter or (lambda _: None), options.budget_s)
    bench = _Bench(workers or (lambda: start(options.device, options.threads, scratch)))
    try:
        described = _named(bench.worker().describe(), options.hardware)
        planned = planner(options, described.machine)
        environment = described.environment
        with Store(options.store, environment.facts, fingerprint=environment.fingerprint) as store:
            return _Campaign(options, bench, store, described, tally).run(planned)
    finally:
        bench.drop()


def plan_all(options: Options, described: Described, budget_s: float) -> tuple[Planned, ...]:
    """Cases of every profile that together fit `budget_s`, the most telling first."""
    return cut_to_budget(plan("all", options, described.machine), budget_s)


def _owed_s(batch: Batch, queue: Iterable[Batch]) -> float:
    """Estimate of what is more telling than a batch and comes after it."""
    return sum(later.estimate_s for later in queue if later.priority < batch.priority)


def _named(described: Described, hardware: str) -> Described:
    if not hardware:
        return described
    machine = msgspec.structs.replace(described.machine, name=hardware)
    return msgspec.structs.replace(described, machine=machine)


class _Bench:
    """The worker of the moment, and whether it has measured anything yet."""

    def __init__(self, factory: WorkerFactory) -> None:
        self._factory = factory
        self._worker: Worker | None = None
        self.is_fresh = True

    def worker(self) -> Worker:
        if self._worker is None:
            self._worker = self._factory()
            self.is_fresh = True
        return self._worker

    def drop(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
            self.is_fresh = True


class _Campaign:
    """Works off a plan with one store and one worker at a time."""

    def __init__(
        self, options: Options, bench: _Bench, store: Store, described: Described, tally: Tally
    ) -> None:
        self._options = options
        self._bench = bench
        self._store = store
        self._described = described
        self._tally = tally

    def run(self, planned: Sequence[Planned]) -> CampaignResult:
        """Take what is missing and fits the budget."""
        answered = settled(self._store, self._options)
        todo = [item for item in planned if item.case.id not in answered]
        chosen = cut_to_budget(todo, self._options.budget_s)
        tally, resumed = self._tally, len(planned) - len(todo)
        note = f"{len(planned)} cases, {resumed} done before, {len(todo) - len(chosen)} over budget"
        tally.plan(len(chosen), sum(item.estimate_s for item in chosen), note)
        interrupted = False
        try:
            room_B = MEMORY_SHARE * self._described.machine.memory_B
            self._work_off(deque(batches(chosen, self._options.seed, room_B)))
        except KeyboardInterrupt:
            interrupted = True
        tally.report("end", "", "interrupted; run again to go on" if interrupted else "")
        return CampaignResult(
            store=str(self._store.folder),
            machine=self._described.machine.name,
            measured=tally.measured,
            failed=tally.failed,
            resumed=resumed,
            left=len(chosen) - tally.answered,
            over_budget=len(todo) - len(chosen),
            seconds=tally.elapsed_s,
            interrupted=interrupted,
            quality=dict(sorted(tally.quality.items())),
            torn_B=self._store.contents.torn_B,
        )

    def _work_off(self, queue: deque[Batch]) -> None:
        while queue:
            batch = queue.popleft()
            if not self._tally.fits(batch.estimate_s + _owed_s(batch, queue)):
                continue
            began_s = self._tally.elapsed_s
            retries = self._take(batch)
            self._tally.spent(batch.estimate_s, self._tally.elapsed_s - began_s)
            queue.extendleft(Batch(items=(item,), retry=True) for item in reversed(retries))

    def _take(self, batch: Batch) -> list[Planned]:
        """Measure a batch; returns the cases that deserve a try of their own."""
        unanswered = {item.case.id: item for item in batch.items}
        doubtful: list[Planned] = []
        if batch.retry and not self._bench.is_fresh:
            self._bench.drop()
        self._tally.report("start", batch.items[0].case.title, f"{len(batch.items)} cases")
        try:
            self._measure(batch, unanswered, doubtful)
        except CaseTimeout as error:
            self._lose("timeout", str(error), batch, unanswered, doubtful)
        except WorkerDied as error:
            # The kernel ends a process that exhausts the machine's memory by signal 9.
            killed = "signal 9" in str(error)
            self._lose("oom" if killed else "crash", str(error), batch, unanswered, doubtful)
        return doubtful

    def _measure(
        self, batch: Batch, unanswered: dict[str, Planned], doubtful: list[Planned]
    ) -> None:
        worker = self._bench.worker()
        self._bench.is_fresh = False
        rules = self._rules(batch.items[0].case.profile)
        patience_s = self._options.case_timeout_s or GRACE_S + GRACE_FACTOR * batch.estimate_s
        timeout_s = min(patience_s, max(0.0, self._tally.left_s) + OVERTIME_S)
        cases = [item.case for item in batch.items]
        for reply in worker.measure(cases, rules, self._options.seed, timeout_s):
            item = unanswered.pop(reply.case, None)
            if item is None:
                continue
            lost_device = isinstance(reply, Failure) and reply.code in {"oom", "crash"}
            if lost_device and not batch.retry:
                doubtful.append(item)
                self._tally.report("retry", item.case.title, "again, alone in a fresh process")
            else:
                self._keep(item.case, reply)

    def _rules(self, profile: str) -> Rules:
        rules = rules_of(profile, self._described.machine)
        retake_s = self._options.retake_s
        return rules if retake_s is None else msgspec.structs.replace(rules, retake_s=retake_s)

    def _lose(
        self,
        code: str,
        reason: str,
        batch: Batch,
        unanswered: dict[str, Planned],
        doubtful: list[Planned],
    ) -> None:
        """The worker is gone. A case that was alone is to blame; of several, none is yet; and of
        those that only the end of the budget cut short, none at all."""
        self._bench.drop()
        if code == "timeout" and self._tally.left_s < 0:
            return
        for item in unanswered.values():
            if batch.retry or (len(batch.items) == 1 and code == "timeout"):
                lost = Failure(case=item.case.id, code=code, reason=reason)  # type: ignore[arg-type]
                self._keep(item.case, lost)
            else:
                doubtful.append(item)
                self._tally.report("retry", item.case.title, reason)

    def _keep(self, case: Case, reply: Outcome | Failure) -> None:
        """Store the answer, and only then count it."""
        if isinstance(reply, Failure):
            self._store.append(case.id, failure_record(case, reply, self._described))
            self._tally.failed += 1
            self._tally.report("failed", case.title, f"{reply.code}: {reply.reason}")
            return
        self._store.append(case.id, outcome_record(case, reply, self._described))
        quality = str(reply.notes.get("quality", "ok"))
        self._tally.count(quality)
        self._tally.report("done", case.title, quality)
