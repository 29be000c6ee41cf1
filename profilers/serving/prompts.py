"""Prompts of exact length: ids drawn from seeds, shared where the load says so, else unique."""

from __future__ import annotations

import hashlib

import numpy as np

from analyzer.workload_arrivals import RequestSpec, SegmentKey

FIRST_ID = 100
"""Ids below are left out: special tokens live there."""


class PromptMaker:
    """Makes each request's token ids; the same seed and request always give the same ids."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        self._span = vocabulary - FIRST_ID
        self._seed = seed
        self._answers: dict[SegmentKey, list[int]] = {}
        self._shared: dict[tuple[SegmentKey, int], list[int]] = {}

    def ids(self, spec: RequestSpec) -> list[int]:
        """Token ids of the whole prompt."""
        prompt: list[int] = []
        for key, end in spec.segments:
            prompt += self._segment(key, end - len(prompt))
        own = spec.input_tokens - len(prompt)
        return prompt + self._own(spec.own_key, spec.number, own)

    def remember(self, spec: RequestSpec, answer: list[int]) -> None:
        """Keep what was said in a turn for the prompts of later ones."""
        if not spec.follow_ups:
            return
        start = spec.segments[-1][1] if spec.segments else 0
        asked = self._own(spec.own_key, spec.number, spec.input_tokens - start)
        self._answers[spec.own_key] = asked + answer

    def _segment(self, key: SegmentKey, tokens: int) -> list[int]:
        said = self._answers.get(key)
        if said is not None:
            return (said + self._draw(key, tokens))[:tokens]
        found = self._shared.get((key, tokens))
        if found is None:
            found = self._draw(key, tokens)
            if key[0] == "prefix":
                self._shared[key, tokens] = found
        return found

    def _own(self, key: SegmentKey, number: int, tokens: int) -> list[int]:
        """Ids that no other request begins with: the number itself, then random ones."""
        head: list[int] = []
        rest = number
        while rest and len(head) < 3:
            rest, digit = divmod(rest, self._span)
            head.append(FIRST_ID + digit)
        head = (head + [FIRST_ID] * 3)[:3] if tokens >= 3 else head[:tokens]
        return head + self._draw(key, tokens - len(head))

    def _draw(self, key: SegmentKey, tokens: int) -> list[int]:
        # Not hash(): that differs between runs for text.
        name = hashlib.blake2b(repr((self._seed, key)).encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(name, "big"))
        drawn: list[int] = rng.integers(FIRST_ID, FIRST_ID + self._span, max(tokens, 0)).tolist()
        return drawn
