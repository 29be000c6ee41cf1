"""The bounded robust fit of one kernel form: logs of parameters, logs of seconds, weak priors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from analyzer.timing.kernels import Chip, Form
from analyzer.timing.kernels.common import Array
from analyzer.timing.rates import Parameter

MOST_ROWS = 400
"""Rows that a fit looks at; a dozen parameters do not gain from more."""
NOISE = 0.08
"""Log error that different software versions differ by anyway."""
STARTS = 2
_SPREAD = {"share of peak": 0.3, "s": 1.0}
"""Prior standard deviation of a parameter's logarithm, by unit; 1.5 for sizes and ratios."""
_SMALLEST = 1e-5
"""Of its range: what stands for 0 where logarithms are fitted."""


class Solved(NamedTuple):
    """Fitted parameters, and those of them that ran into a bound."""

    params: Any
    at_bound: tuple[str, ...]
    cost: float


def solve(
    form: Form,
    work: Any,
    chip: Chip,
    seconds: Array,
    fixed: Mapping[str, float],
    starts: int = STARTS,
    seed: int = 0,
) -> Solved:
    """The parameters that explain `seconds` best; 0-or-1 parameters are tried both ways, and
    all from several starting points."""
    random = np.random.default_rng(seed)
    if len(seconds) > MOST_ROWS:
        chosen = random.choice(len(seconds), MOST_ROWS, replace=False)
        work = type(work)(*(np.asarray(p)[chosen] if np.ndim(p) == 1 else p for p in work))
        seconds = seconds[chosen]
    switches = [name for name, entry in form.parameters.items() if entry.unit == "0 or 1"]
    tried = [
        _solve_from(
            form,
            work,
            chip,
            seconds,
            {**fixed, **dict(zip(switches, setting, strict=True))},
            random,
        )
        for setting in itertools.product((0.0, 1.0), repeat=len(switches))
        for _ in range(starts)
    ]
    return min(tried, key=lambda solved: solved.cost)


def _solve_from(
    form: Form,
    work: Any,
    chip: Chip,
    seconds: Array,
    fixed: Mapping[str, float],
    random: np.random.Generator,
) -> Solved:
    from scipy.optimize import least_squares

    free = [entry for name, entry in form.parameters.items() if name not in fixed]
    low, high = np.log([[_low(entry), entry.high] for entry in free]).T
    centre = np.log([max(entry.default, _low(entry)) for entry in free])
    spread = np.asarray([_SPREAD.get(entry.unit, 1.5) for entry in free])
    start = np.clip(centre + 0.3 * random.standard_normal(len(free)), low + 1e-6, high - 1e-6)
    log_seconds = np.log(seconds)

    def params(point: Array) -> Any:
        named = {entry.name: value for entry, value in zip(free, np.exp(point), strict=True)}
        return form.params(**named, **fixed)

    def misfit(point: Array) -> Array:
        off = (np.log(form.time(work, chip, params(point))) - log_seconds) / NOISE
        return np.concatenate([off, (point - centre) / spread])

    found = least_squares(
        misfit,
        start,
        bounds=(low, high),
        loss="soft_l1",
        diff_step=np.full(len(free), 1e-3),
        max_nfev=40,
    )
    at_bound = tuple(
        entry.name
        for entry, at, edges in zip(free, found.x, zip(low, high, strict=True), strict=True)
        if _stuck(entry, at, edges)
    )
    values = {entry.name: float(value) for entry, value in zip(free, np.exp(found.x), strict=True)}
    return Solved(form.params(**values, **fixed), at_bound, float(found.cost))


def _low(entry: Parameter) -> float:
    return entry.low if entry.low > 0 else entry.high * _SMALLEST


def _stuck(entry: Parameter, at: float, edges: tuple[float, float]) -> bool:
    """At an edge of what is believable; at its ideal a parameter is merely not needed."""
    near = 1e-3 * (edges[1] - edges[0])
    if at - edges[0] < near:
        return entry.low > 0 and entry.low != entry.ideal
    return edges[1] - at < near and entry.high != entry.ideal
