"""What a call comes to: its value, or the user's mistake that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from analyzer.errors import InputError

T = TypeVar("T")


def outcome(call: Callable[[], T]) -> T | InputError:
    """The value, or the InputError; any other exception is a failure of the test."""
    try:
        return call()
    except InputError as error:
        return error
