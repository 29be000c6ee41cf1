"""The least strengths of a machine's figures under which promises are kept, by bisection."""

from __future__ import annotations

import math
from collections.abc import Callable

from analyzer.errors import ConfigError
from analyzer.figures import Figure
from analyzer.predict import Prediction
from analyzer.workload import Workload

WITHOUT_BOUND = 1e9
"""Times the example's figure: as good as infinite."""
STEPS = 200
EXACT = 1e-13
LESS = 0.99
"""Of a figure: what is tried to see whether it binds."""
PROMISES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}

Strengths = dict[str, float]
"""Factors on a machine's figures, larger being better: a latency's is its inverse."""
Times = Callable[[Strengths], Prediction]


def least(good: Callable[[float], bool], low: float, high: float) -> float:
    """The least number that is good, to the last digits; `high` is good."""
    if good(low):
        return low
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        if not low < middle < high or high / low < 1.0 + EXACT:
            break
        if good(middle):
            high = middle
        else:
            low = middle
    return high


def ratios(found: Prediction, load: Workload) -> dict[str, float]:
    """Predicted over promised."""
    return {
        name: float(getattr(found, name)) / promised
        for name in PROMISES
        if (promised := getattr(load.slo, name)) is not None
    }


class Solver:
    """Strengths of some figures; all others stay as they are."""

    def __init__(self, figures: tuple[Figure, ...], times: Times, load: Workload) -> None:
        self._names = tuple(figure.name for figure in figures)
        self._times = times
        self._load = load

    def alone(self) -> dict[str, float | None]:
        """The least of each with all others without bound; None: any will do."""
        best = dict.fromkeys(self._names, WITHOUT_BOUND)
        self._check_possible(best)
        return {name: self._alone(name, best) for name in self._names}

    def _alone(self, name: str, best: Strengths) -> float | None:
        def good(strength: float) -> bool:
            return self._kept(best | {name: strength})

        if good(1.0 / WITHOUT_BOUND):
            return None
        return least(good, 1.0 / WITHOUT_BOUND, WITHOUT_BOUND)

    def balanced(self, alone: dict[str, float | None]) -> Strengths:
        """All the same multiple of what each needs alone, as small as will do; then less of each
        that another promise made larger than it need be."""

        def at(multiple: float) -> Strengths:
            return {name: (value or 1.0) * multiple for name, value in alone.items()}

        held = at(least(lambda multiple: self._kept(at(multiple)), 1.0, WITHOUT_BOUND))
        for name, value in alone.items():
            if value is not None:
                held[name] = self._trimmed(name, held, value)
        return held

    def _trimmed(self, name: str, held: Strengths, lowest: float) -> float:
        now = held[name]
        return least(lambda strength: self._kept(held | {name: strength}), min(lowest, now), now)

    def broken(self, name: str, held: Strengths) -> dict[str, float]:
        """Promises that 1 % less of a figure breaks, with predicted over promised."""
        found = ratios(self._times(held | {name: held[name] * LESS}), self._load)
        return {PROMISES[each]: ratio for each, ratio in found.items() if ratio > 1.0}

    def _kept(self, strengths: Strengths) -> bool:
        return all(ratio <= 1.0 for ratio in ratios(self._times(strengths), self._load).values())

    def _check_possible(self, best: Strengths) -> None:
        fixed = self._times(best)
        found = ratios(fixed, self._load)
        worst = max(found, key=found.__getitem__)
        if not found[worst] <= 1.0:
            raise ConfigError(
                f"no machine keeps this: with every figure without bound the {PROMISES[worst]} "
                f"is still {1e3 * float(getattr(fixed, worst)):.4g} ms, which fixed costs of the "
                "rates take"
            )
