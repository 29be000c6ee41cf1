"""Campaigns on a fake worker and a fake clock: failures, budgets, interruption, resumption."""

from __future__ import annotations

import pytest
from profiler_fakes import FakeClock

from analyzer.errors import CaseTimeout, ConfigError, InputError
from analyzer.records import Flag, Record, Scenario
from profilers import batching, campaign
from profilers.cases import Case, Described, Failure, Machine, Outcome, Planned
from profilers.environment import Environment
from profilers.options import Options
from profilers.store import Store, read
from profilers.workers import WorkerDied

MACHINE = Machine(
    device="cpu", name="abacus", devices=1, memory_B=1e9, cache_B=1e6, threads=1,
    formats=("fp32",), flops={"fp32": 1e9}, bandwidth_Bps=1e9, launch_s=1e-6,
)  # fmt: skip
DESCRIBED = Described(machine=MACHINE, environment=Environment(facts={"cpu": "abacus"}))


def case(number: int, behaviour: str = "ok") -> Case:
    return Case(
        profile="operators",
        kind="operator",
        scenario=Scenario(),
        case={"op": "gemm", "m": number, "do": behaviour},
    )


def planned(number: int, behaviour: str = "ok", batch: str = "b", estimate_s: float = 1.0, **more):
    return Planned(case=case(number, behaviour), estimate_s=estimate_s, batch=batch, **more)


class FakeWorker:
    """Does what each case's `do` says; takes a second per case."""

    def __init__(self, clock: FakeClock, log: list) -> None:
        self.clock, self.log, self.closed = clock, log, False
        self.used = False

    def describe(self) -> Described:
        return DESCRIBED

    def measure(self, cases, rules, seed, timeout_s):
        self.log.append([item.case["m"] for item in cases])
        for item in cases:
            self.clock.time_s += 1.0
            yield from self._answer(item, alone=len(cases) == 1)
        self.used = True

    def _answer(self, item: Case, alone: bool):
        behaviour = str(item.case["do"])
        if behaviour == "hang":
            raise CaseTimeout("no answer within 5 s")
        if behaviour == "crash" or (behaviour == "crash in company" and not alone):
            raise WorkerDied("the worker ended by signal 11")
        if behaviour == "killed":
            raise WorkerDied("the worker ended by signal 9")
        if behaviour == "interrupt":
            raise KeyboardInterrupt
        if behaviour == "oom" or (behaviour == "oom in company" and not (alone and not self.used)):
            yield Failure(case=item.id, code="oom", reason="out of memory")
        elif behaviour == "unsupported":
            yield Failure(case=item.id, code="unsupported", reason="no kernel")
        else:
            doubts = (Flag(code=behaviour, reason="a test"),) if behaviour != "ok" else ()
            notes = {"quality": behaviour}
            yield Outcome(case=item.id, metrics={"latency_s": 1.0}, notes=notes, flags=doubts)

    def close(self) -> None:
        self.closed = True


class Lab:
    """A campaign with fakes all around."""

    def __init__(self, tmp_path, monkeypatch, plan) -> None:
        self.clock = FakeClock()
        self.asked: list[list[int]] = []
        self.workers: list[FakeWorker] = []
        self.events: list[campaign.Progress] = []
        self.folder = tmp_path / "store"
        monkeypatch.setattr(campaign, "plan", lambda profile, options, machine: tuple(plan))

    def worker(self) -> FakeWorker:
        self.workers.append(FakeWorker(self.clock, self.asked))
        return self.workers[-1]

    def run(self, **options) -> campaign.CampaignResult:
        return campaign.run(
            "operators",
            Options(store=str(self.folder), **options),
            reporter=self.events.append,
            workers=self.worker,
            clock=self.clock,
        )

    def records(self) -> dict[int, Record]:
        entries = read(self.folder).entries
        return {entry.decode(Record).case["m"]: entry.decode(Record) for entry in entries}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    return lambda plan: Lab(tmp_path, monkeypatch, plan)


def test_every_case_becomes_one_record_with_environment_and_provenance(lab):
    here = lab([planned(index) for index in range(5)])
    result = here.run()
    assert (result.measured, result.failed, result.left) == (5, 0, 0)
    records = here.records()
    assert set(records) == set(range(5))
    record = records[0]
    assert record.environment["cpu"] == "abacus"
    assert record.environment["environment"] == DESCRIBED.environment.fingerprint
    assert record.provenance.source == "plumbline profile"
    assert record.scenario.hardware == "abacus"
    assert result.quality == {"ok": 5}
    assert all(worker.closed for worker in here.workers)


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("oom", "failed-oom"),
        ("killed", "failed-oom"),
        ("crash", "failed-crash"),
        ("hang", "failed-timeout"),
        ("unsupported", "failed-unsupported"),
    ],
)
def test_a_bad_case_is_recorded_and_costs_no_other_case(lab, behaviour, code):
    here = lab([planned(0), planned(1, behaviour), planned(2), planned(3)])
    result = here.run()
    assert (result.measured, result.failed) == (3, 1)
    record = here.records()[1]
    assert [flag.code for flag in record.flags] == [code]
    assert record.metrics == {}
    assert all(not here.records()[good].flags for good in (0, 2, 3))


@pytest.mark.parametrize("behaviour", ["oom", "crash"])
def test_blame_is_fixed_only_after_a_try_alone_in_a_fresh_process(lab, behaviour):
    here = lab([planned(0), planned(1, behaviour), planned(2)])
    here.run()
    assert here.asked.count([1]) == 1
    assert len(here.workers) >= 2


@pytest.mark.parametrize("behaviour", ["oom in company", "crash in company"])
def test_a_case_that_fails_only_in_company_is_measured_alone(lab, behaviour):
    here = lab([planned(0), planned(1, behaviour), planned(2)])
    result = here.run()
    assert (result.measured, result.failed) == (3, 0)


def test_an_interrupted_campaign_resumes_with_exactly_what_is_missing(lab, monkeypatch):
    here = lab([planned(index, "interrupt" if index == 3 else "ok") for index in range(8)])
    first = here.run()
    assert first.interrupted
    assert first.left == 8 - first.measured
    done = set(here.records())
    here.asked.clear()
    whole = tuple(planned(index) for index in range(8))  # nobody interrupts this time
    monkeypatch.setattr(campaign, "plan", lambda *_: whole)
    second = here.run()
    again = {number for batch in here.asked for number in batch}
    assert again == set(range(8)) - done
    assert set(here.records()) == set(range(8))
    assert second.resumed == len(done)
    assert not second.interrupted


def test_failures_are_retried_only_when_asked(lab, monkeypatch):
    here = lab([planned(0), planned(1, "unsupported")])
    here.run()
    here.asked.clear()
    assert here.run().resumed == 2
    assert here.asked == []
    here.run(retry_failed=True)
    assert here.asked == [[1]]


@pytest.mark.parametrize("verdict", ["noisy", "short", "throttled"])
def test_doubtful_cases_are_taken_again_only_when_asked(lab, verdict):
    here = lab([planned(0), planned(1, verdict), planned(2, "unsupported")])
    here.run()
    here.asked.clear()
    assert here.run().resumed == 3
    assert here.asked == []
    here.run(retry_noisy=True)
    assert here.asked == [[1]]


def test_the_plan_is_cut_to_the_budget_by_priority(lab):
    cases = [planned(index, priority=index % 3, estimate_s=1.0) for index in range(30)]
    here = lab(cases)
    result = here.run(budget_s=12.0)
    taken = set(here.records())
    assert result.over_budget == 30 - 11
    assert taken >= {index for index in range(30) if index % 3 == 0}
    assert not any(index % 3 == 2 for index in taken)


def test_a_campaign_that_is_slower_than_planned_stops_in_time(lab):
    here = lab([planned(index, batch=f"b{index}", estimate_s=0.1) for index in range(100)])
    result = here.run(budget_s=20.0)
    assert here.clock.time_s - 100.0 <= 21.0
    assert result.left > 0
    assert result.measured == 100 - result.left


def test_a_case_that_hangs_past_the_budget_is_left_not_blamed(lab):
    here = lab([planned(0, batch="a"), planned(1, "hang", batch="b"), planned(2, batch="c")])
    real = FakeWorker._answer

    def slow(self, item, alone):
        if item.case["do"] == "hang":
            self.clock.time_s += 100.0
        return real(self, item, alone)

    FakeWorker._answer = slow
    try:
        result = here.run(budget_s=20.0)
    finally:
        FakeWorker._answer = real
    assert result.failed == 0
    assert result.left >= 1
    assert 1 not in here.records()


def test_progress_counts_up_and_the_eta_learns(lab):
    here = lab([planned(index, batch=f"b{index}", estimate_s=2.0) for index in range(10)])
    here.run()
    events = [event for event in here.events if event.event == "done"]
    assert [event.done for event in events] == list(range(1, 11))
    assert here.events[0].event == "plan"
    assert here.events[0].eta_s == 20.0
    assert here.events[-1].event == "end"
    assert here.events[-1].eta_s == 0.0
    starts = [event for event in here.events if event.event == "start"]
    assert starts[5].eta_s == pytest.approx(5.0)  # each takes one second, not the two foreseen


def test_batches_mix_the_order_but_not_the_priorities(lab):
    cases = [planned(index, batch=f"b{index % 7}", priority=index // 20) for index in range(40)]
    here = lab(cases)
    here.run(seed=1)
    order = [number for batch in here.asked for number in batch]
    assert set(order[:20]) == set(range(20))
    assert order[:20] != list(range(20))
    assert max(len(batch) for batch in here.asked) <= batching.MAX_BATCH


def test_a_second_campaign_on_the_same_store_is_refused(lab):
    here = lab([planned(0)])
    with (
        Store(here.folder, {"cpu": "abacus"}, fingerprint="x", durable=False),
        pytest.raises(InputError, match="in use by another run"),
    ):
        here.run()
    assert all(worker.closed for worker in here.workers)


def test_a_store_of_another_machine_is_refused(lab):
    here = lab([planned(0)])
    with Store(here.folder, {"cpu": "other"}, fingerprint="x", durable=False):
        pass
    with pytest.raises(ConfigError, match="cpu was 'other', is 'abacus'"):
        here.run()


def test_the_user_may_name_the_hardware(lab):
    here = lab([planned(0)])
    here.run(hardware="my-box")
    assert here.records()[0].scenario.hardware == "my-box"
