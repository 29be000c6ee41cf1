"""Lists and ranges of whole numbers, as axes are given on the command line."""

from __future__ import annotations

from analyzer.errors import ConfigError


def axis(name: str, text: str, least: int = 1) -> tuple[int, ...]:
    """The values of "1,2,4", "1:64" or "0:4096:128"; all of them at least `least`."""
    values: list[int] = []
    for part in text.split(","):
        ends = part.split(":")
        if len(ends) > 3 or not all(
            end.strip().isascii() and end.strip().isdigit() for end in ends
        ):
            raise ConfigError(f"--{name}: {part!r} is neither a whole number nor a range like 1:64")
        numbers = [int(end) for end in ends]
        low, high = numbers[0], numbers[min(1, len(numbers) - 1)]
        step = numbers[2] if len(numbers) == 3 else 1
        if step < 1:
            raise ConfigError(f"--{name}: {part!r} has a step below 1")
        first = step if low == 0 and len(numbers) == 3 else low
        values += range(first, high + 1, step)
    if not values:
        raise ConfigError(f"--{name}: {text!r} holds no values")
    if min(values) < least:
        raise ConfigError(f"--{name} must be at least {least}, not {min(values)}")
    return tuple(dict.fromkeys(values))
