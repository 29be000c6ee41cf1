"""What vLLM says about each of its steps (`--enable-logging-iteration-details`), read back.

Lets a simulated schedule be compared with the real one step by step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

FLAG = "--enable-logging-iteration-details"
_STEP = re.compile(
    r"Iteration\((\d+)\): (\d+) context requests, (\d+) context tokens, "
    r"(\d+) generation requests, (\d+) generation tokens, iteration elapsed time: ([\d.]+) ms"
)


class EngineStep(NamedTuple):
    """One step of the engine."""

    number: int
    prefill_requests: int
    prefill_tokens: int
    decode_requests: int
    decode_tokens: int
    elapsed_s: float


def engine_steps(log: str) -> Iterator[EngineStep]:
    """The steps in the order in which they were logged; other lines are passed over."""
    for line in log.splitlines():
        match = _STEP.search(line)
        if match is not None:
            number, prompts, prompt_tokens, decoding, answer_tokens, elapsed_ms = match.groups()
            yield EngineStep(
                int(number),
                int(prompts),
                int(prompt_tokens),
                int(decoding),
                int(answer_tokens),
                float(elapsed_ms) * 1e-3,
            )
