"""Arithmetic that is fast on scalars and broadcasts over arrays: no branch on a counted value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analyzer.optable import Number


def smaller(a: Number, b: Number) -> Number:
    """Elementwise minimum."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.minimum(a, b)
    return a if a < b else b


def larger(a: Number, b: Number) -> Number:
    """Elementwise maximum."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.maximum(a, b)
    return a if a > b else b


def ceil(value: Number) -> Number:
    """The next whole number."""
    return np.ceil(value) if isinstance(value, np.ndarray) else float(math.ceil(value))


def floor(value: Number) -> Number:
    """The whole number below."""
    return np.floor(value) if isinstance(value, np.ndarray) else float(math.floor(value))


def pick(condition: Any, if_true: Number, if_false: Number) -> Number:
    """`if_true` where the condition holds, else `if_false`."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, if_true, if_false)
    return if_true if condition else if_false


def both(a: Any, b: Any) -> Any:
    """Logical and, of booleans or arrays of them."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.logical_and(a, b)
    return bool(a) and bool(b)


def negate(a: Any) -> Any:
    """Logical not."""
    return np.logical_not(a) if isinstance(a, np.ndarray) else not a


def possible(condition: Any) -> bool:
    """False where the condition is known to hold nowhere: then its operators need no rows."""
    return bool(condition.any()) if isinstance(condition, np.ndarray) else bool(condition)
