"""The campaign's end of a worker process: start it, ask it, give up on it, replace it."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from analyzer.errors import CaseTimeout, ProfilerError
from profilers.cases import Ask, Case, Describe, Described, Done, Failure, Outcome, Reply, Request
from profilers.environment import redact
from profilers.stopping import Rules

START_TIMEOUT_S = 180.0
PATIENCE_S = 3.0


class WorkerDied(ProfilerError):
    """The worker process ended before it had answered."""


class Worker(Protocol):
    """Measures cases somewhere where a crash does not hurt the campaign."""

    def describe(self) -> Described: ...

    def measure(
        self, cases: Sequence[Case], rules: Rules, seed: int, timeout_s: float
    ) -> Iterator[Outcome | Failure]:
        """Answers as they come; CaseTimeout after `timeout_s` without one, or WorkerDied."""
        ...

    def close(self) -> None: ...


class SubprocessWorker:
    """One child process. Nothing survives it: not its memory, not its GPU context."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            bufsize=0,
        )
        self._pending = b""
        self._decoder = msgspec.json.Decoder(Reply)

    def describe(self) -> Described:
        self._send(Describe())
        reply = self._receive(START_TIMEOUT_S)
        if not isinstance(reply, Described):
            raise WorkerDied("the worker answered something else than what it is")
        return reply

    def measure(
        self, cases: Sequence[Case], rules: Rules, seed: int, timeout_s: float
    ) -> Iterator[Outcome | Failure]:
        self._send(Ask(cases=tuple(cases), rules=rules, seed=seed))
        while not isinstance(reply := self._receive(timeout_s), Done):
            if isinstance(reply, Outcome | Failure):
                yield reply

    def close(self) -> None:
        """End the process: ask, then terminate, then kill, and only ever our own child."""
        process = self._process
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
        for stop in (None, process.terminate, process.kill):
            if stop is not None:
                stop()
            try:
                process.wait(PATIENCE_S)
                break
            except subprocess.TimeoutExpired:
                continue
        if process.stdout is not None:
            process.stdout.close()
        self._errors.close()

    def _send(self, request: Request) -> None:
        stdin = self._process.stdin
        if stdin is None:
            raise WorkerDied("the worker has no input")
        data = msgspec.json.encode(request) + b"\n"
        try:
            while data:
                data = data[stdin.write(data) or 0 :]
        except OSError:
            raise WorkerDied(self._last_words()) from None

    def _receive(self, timeout_s: float) -> Reply:
        stdout = self._process.stdout
        if stdout is None:
            raise WorkerDied("the worker has no output")
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise CaseTimeout(f"no answer within {timeout_s:.0f} s")
                part = os.read(stdout.fileno(), 1 << 16)
                if not part:
                    raise WorkerDied(self._last_words())
                self._pending += part
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            reply: Reply = self._decoder.decode(line)
        except msgspec.DecodeError:
            shown = redact(line.decode(errors="replace"))[:80]
            raise WorkerDied(f"the worker answered what is no answer: {shown!r}") from None
        return reply

    def _last_words(self) -> str:
        """How the process ended and the last line that it printed."""
        try:
            status = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return "the worker closed its output and hangs"
        size_B = os.fstat(self._errors.fileno()).st_size
        tail = os.pread(self._errors.fileno(), 4000, max(0, size_B - 4000)).decode(errors="replace")
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        return redact(f"the worker ended by {how}" + (f": {lines[-1][:200]}" if lines else ""))


def start(device: str, threads: int | None, scratch: str) -> SubprocessWorker:
    """A worker on `device`, with its threads bound to cores before any library is loaded."""
    inherited = os.environ.get("PYTHONPATH", "")
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), inherited])),
        "PYTHONSAFEPATH": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    if threads:
        environment |= {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "OMP_PROC_BIND": "close",
            "OMP_PLACES": "cores",
        }
    command = [sys.executable, "-m", "profilers.worker", device, str(threads or 0), scratch]
    return SubprocessWorker(command, environment)
