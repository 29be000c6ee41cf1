"""Real processes that crash, hang and die: each is contained, described and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analyzer.errors import CaseTimeout
from analyzer.records import Record, Scenario
from profilers import campaign
from profilers.cases import Case, Failure, Outcome, Planned
from profilers.options import Options
from profilers.stopping import Rules
from profilers.store import read
from profilers.workers import SubprocessWorker, WorkerDied

HERE = Path(__file__)
COMMAND = [sys.executable, str(HERE.with_name("faulty_worker.py"))]
ENVIRONMENT = {"PYTHONPATH": str(HERE.parents[2])}


def case(behaviour: str, number: int = 0) -> Case:
    return Case(
        profile="operators",
        kind="operator",
        scenario=Scenario(),
        case={"op": "gemm", "do": behaviour, "m": number},
    )


@pytest.fixture
def worker():
    made = SubprocessWorker(COMMAND, ENVIRONMENT)
    yield made
    made.close()


def ask(worker, *behaviours, timeout_s=20.0):
    cases = [case(behaviour, number) for number, behaviour in enumerate(behaviours)]
    return list(worker.measure(cases, Rules(), 0, timeout_s))


def test_chatter_on_stdout_does_not_disturb_the_answers(worker):
    assert worker.describe().machine.name == "faulty"
    replies = ask(worker, "ok", "ok")
    assert [type(reply) for reply in replies] == [Outcome, Outcome]


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("memory error", "oom"),
        ("cuda oom", "oom"),
        ("no kernel", "unsupported"),
        ("secret", "error"),
    ],
)
def test_exceptions_are_answered_and_the_worker_lives_on(worker, behaviour, code):
    replies = ask(worker, behaviour, "ok")
    assert isinstance(replies[0], Failure)
    assert replies[0].code == code
    assert "hf_" not in replies[0].reason
    assert isinstance(replies[1], Outcome)
    assert isinstance(ask(worker, "ok")[0], Outcome)


def test_an_error_of_the_whole_batch_answers_every_case(worker):
    replies = ask(worker, "ok", "raise", "ok")
    assert [type(reply) for reply in replies] == [Outcome, Failure, Failure]
    assert "whole batch is lost" in replies[1].reason


def test_after_a_fatal_device_error_the_worker_ends(worker):
    with pytest.raises(WorkerDied, match="exit code 70: ended itself"):
        ask(worker, "cuda error", "ok")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [("exit 137", "exit code 137"), ("segfault", "signal 11: about to fall"), ("kill", "signal 9")],
)
def test_a_dead_worker_tells_how_it_died(worker, behaviour, words):
    with pytest.raises(WorkerDied, match=words):
        ask(worker, "ok", behaviour)


def test_a_hanging_worker_times_out_and_close_ends_it(worker):
    worker.describe()
    began = time.monotonic()
    with pytest.raises(CaseTimeout, match="no answer within"):
        ask(worker, "hang", timeout_s=0.3)
    worker.close()
    assert worker._process.poll() is not None
    assert time.monotonic() - began < 15


def test_a_worker_dies_with_its_parent():
    code = (
        "import sys, time; from profilers.workers import SubprocessWorker\n"
        f"worker = SubprocessWorker({COMMAND!r}, {ENVIRONMENT!r})\n"
        "worker.describe(); print(worker._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    ) as parent:
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{child}").exists()


def test_a_campaign_survives_every_kind_of_death(tmp_path, monkeypatch):
    behaviours = ["ok", "exit 137", "segfault", "kill", "hang", "cuda error", "memory error", "ok"]
    plan = [
        Planned(case=case(behaviour, number), estimate_s=0.01, batch="all")
        for number, behaviour in enumerate(behaviours)
    ]
    monkeypatch.setattr(campaign, "plan", lambda *_: tuple(plan))
    result = campaign.run(
        "operators",
        Options(store=str(tmp_path), case_timeout_s=1.0),
        workers=lambda: SubprocessWorker(COMMAND, ENVIRONMENT),
    )
    records = {
        record.case["m"]: record
        for record in (entry.decode(Record) for entry in read(tmp_path).entries)
    }
    codes = [[flag.code for flag in records[number].flags] for number in range(len(behaviours))]
    assert codes == [
        [], ["failed-crash"], ["failed-crash"], ["failed-oom"], ["failed-timeout"],
        ["failed-crash"], ["failed-oom"], [],
    ]  # fmt: skip
    assert (result.measured, result.failed, result.left) == (2, 6, 0)
