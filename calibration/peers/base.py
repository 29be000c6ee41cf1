"""What a peer is asked, what it answers, and how one runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.system import System
from calibration.problem import Case

Array = NDArray[np.float64]


class Asked(NamedTuple):
    """One measured row of a fixed batch."""

    id: str
    """Identity of the record."""
    system: System
    engine: str
    case: Case


class Answer(NamedTuple):
    """A peer's times of one row, or why it has none.

    What one efficiency divides is kept apart from what it does not: time = scaled / e + fixed.
    A finished prediction is all fixed. Order: ttft_s, tpot_s, e2e_s.
    """

    scaled_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fixed_s: tuple[float, float, float] = (float("nan"),) * 3
    problem: str = ""

    def times(self, efficiency: float = 1.0) -> tuple[float, ...]:
        """ttft_s, tpot_s, e2e_s at one efficiency."""
        return tuple(
            part / efficiency + rest for part, rest in zip(self.scaled_s, self.fixed_s, strict=True)
        )


Peer = Callable[[Sequence[Asked], str], dict[str, Answer]]
"""Rows and the interpreter to run under (empty: this one) in, answers by row id out."""


class PeerMissing(ConfigError):
    """A peer whose package is not installed."""


def unanswered(problem: str) -> Answer:
    """No prediction, and why."""
    return Answer(problem=problem[:200])


def two_phases(
    case: Case,
    prefill: tuple[float, float],
    decode: tuple[float, float],
) -> Answer:
    """An answer from (scaled, fixed) seconds of prefill and of one decoding step."""
    steps = max(case.workload.output_tokens - 1.0, 0.0)
    return Answer(
        (prefill[0], decode[0], prefill[0] + steps * decode[0]),
        (prefill[1], decode[1], prefill[1] + steps * decode[1]),
    )


def run_worker(
    script: Path, python: str, requests: Sequence[Mapping[str, Any]], timeout_s: float = 1800.0
) -> Iterator[dict[str, Any]]:
    """Send one JSON line per request to a script under another interpreter; yields its lines."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    try:
        done = subprocess.run(  # noqa: S603
            [python, str(script)],
            input=lines,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError(f"{python}: no such interpreter") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{script.name}: no answer within {timeout_s:.0f} s") from None
    if done.returncode == MISSING:
        raise PeerMissing(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"{script.name} ended with code {done.returncode}: {last}")
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


MISSING = 3
"""Exit code by which a worker says that its package is not installed."""
