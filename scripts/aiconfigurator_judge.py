"""Questions to aiconfigurator in a process of its own, with every answer kept in a file."""

from __future__ import annotations

import json
import selectors
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("aiconfigurator_worker.py")
PATIENCE_S = 180.0
"""The longest that one answer may take."""


class OutOfTime(Exception):
    """The run's own limit is reached."""


class Judge:
    """Asks a worker what the store does not hold."""

    def __init__(self, python: str, store: Path, limit_s: float) -> None:
        self.python, self.store = python, store
        self.end_s = time.monotonic() + limit_s
        self.worker: subprocess.Popen[str] | None = None
        self.known: dict[str, dict[str, Any]] = {}
        if store.is_file():
            for line in store.read_text("utf-8").splitlines():
                held = json.loads(line)
                self.known[held["question"]] = held["answer"]

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One answer, from the store or from the worker."""
        question = json.dumps({"do": do, **request}, sort_keys=True)
        if question not in self.known:
            if time.monotonic() > self.end_s:
                raise OutOfTime
            answer = self._asked(question)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            with self.store.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"question": question, "answer": answer, "at": now}) + "\n")
            self.known[question] = answer
        return self.known[question]

    def _asked(self, question: str) -> dict[str, Any]:
        if self.worker is None:
            self.worker = subprocess.Popen(  # noqa: S603
                [self.python, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        to, back = self.worker.stdin, self.worker.stdout
        if to is None or back is None:
            raise SystemExit("the worker has no pipes")
        to.write(question + "\n")
        to.flush()
        with selectors.DefaultSelector() as waiting:
            waiting.register(back, selectors.EVENT_READ)
            if not waiting.select(PATIENCE_S):
                self.close()
                return {"problem": f"no answer within {PATIENCE_S:g} s"}
        line = back.readline()
        if not line:
            raise SystemExit(f"the worker died; run {WORKER} by hand to see why")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
            self.worker = None
