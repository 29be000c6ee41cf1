"""A page's state as its address says it: typed fields, strict bounds, one sentence per mistake.

What is missing takes its default. What is wrong is reported and takes its default too, so that a
page always has something to show and never shows it under a wrong heading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from analyzer.errors import ConfigError, nearest

LONGEST = 400
"""Characters of one value that are looked at; no honest one is longer."""
MOST_KEYS = 40
FRAMEWORK = frozenset({"embed", "embed_options"})
"""Keys that Streamlit takes for itself."""


class Field:
    """One value of a page's state."""

    def __init__(self, name: str, label: str, default: Any, about: str = "") -> None:
        self.name = name
        self.label = label
        self.default = default
        self.about = about

    def parse(self, text: str) -> Any:
        """The value that a text stands for; ConfigError where it stands for none."""
        raise NotImplementedError

    def write(self, value: Any) -> str:
        """The text that stands for a value."""
        return str(value)


class Whole(Field):
    """A whole number within bounds."""

    def __init__(
        self, name: str, label: str, default: int, low: int, high: int, about: str = ""
    ) -> None:
        super().__init__(name, label, default, about)
        self.low, self.high = low, high

    def parse(self, text: str) -> int:
        try:
            value = int(text.strip()) if len(text) <= 20 and text.isascii() else None
        except ValueError:
            value = None
        if value is None:
            raise ConfigError(f"{self.name} must be a whole number, not {quoted(text)}")
        if not self.low <= value <= self.high:
            raise ConfigError(
                f"{self.name} must lie between {self.low:,} and {self.high:,}, not {value:,}"
            )
        return value


class Real(Field):
    """A finite number within bounds; with `optional`, none at all is a value too."""

    def __init__(
        self,
        name: str,
        label: str,
        default: float | None,
        low: float,
        high: float,
        about: str = "",
        optional: bool = False,
    ) -> None:
        super().__init__(name, label, default, about)
        self.low, self.high, self.optional = low, high, optional

    def parse(self, text: str) -> float | None:
        if self.optional and not text.strip():
            return None
        try:
            value = float(text) if len(text) <= 40 and text.isascii() else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ConfigError(f"{self.name} must be a number, not {quoted(text)}")
        if not self.low <= value <= self.high:
            raise ConfigError(
                f"{self.name} must lie between {self.low:g} and {self.high:g}, not {value:g}"
            )
        return value

    def write(self, value: float | None) -> str:
        return "" if value is None else repr(float(value))


class Choice(Field):
    """One of a list; the list is made when it is first needed."""

    def __init__(
        self,
        name: str,
        label: str,
        default: str,
        options: Callable[[], Sequence[str]],
        about: str = "",
        shown: Callable[[str], str] = str,
        also: Callable[[str], bool] = lambda text: False,
    ) -> None:
        super().__init__(name, label, default, about)
        self.options, self.shown, self.also = options, shown, also

    def offered(self, value: str) -> Sequence[str]:
        """The list, and before it a value that means something without being on it."""
        known = self.options()
        return known if value in known else (value, *known)

    def parse(self, text: str) -> str:
        known = self.options()
        if text in known or self.also(text):
            return text
        raise ConfigError(
            f"{self.name} {quoted(text)} is not one of the {len(known)} known{nearest(text, known)}"
        )


class Several(Field):
    """Some of a list, in the order given, each once; written with commas between."""

    def __init__(
        self,
        name: str,
        label: str,
        default: Sequence[str],
        options: Callable[[], Sequence[str]],
        most: int,
        about: str = "",
    ) -> None:
        super().__init__(name, label, tuple(default), about)
        self.options, self.most = options, most

    def parse(self, text: str) -> tuple[str, ...]:
        known = self.options()
        names = tuple(dict.fromkeys(name for name in text.split(",") if name))
        for name in names:
            if name not in known:
                raise ConfigError(f"{self.name}: {quoted(name)} is unknown{nearest(name, known)}")
        if len(names) > self.most:
            raise ConfigError(f"{self.name} takes at most {self.most} names, not {len(names)}")
        return names

    def write(self, value: Iterable[str]) -> str:
        return ",".join(value)


class Flag(Field):
    """Yes or no."""

    def parse(self, text: str) -> bool:
        if text not in ("yes", "no"):
            raise ConfigError(f"{self.name} is yes or no, not {quoted(text)}")
        return text == "yes"

    def write(self, value: bool) -> str:
        return "yes" if value else "no"


Values = dict[str, Any]


class State(NamedTuple):
    """A value for every field, and a sentence for everything that could not be read."""

    values: Values
    problems: tuple[str, ...]


def parse(fields: Sequence[Field], query: Mapping[str, str]) -> State:
    """The state that a query stands for."""
    by_name = {field.name: field for field in fields}
    values = {field.name: field.default for field in fields}
    problems = []
    if len(query) > MOST_KEYS:
        problems.append(f"the address names {len(query)} values; the first {MOST_KEYS} are read")
    for key, text in list(query.items())[:MOST_KEYS]:
        if key in FRAMEWORK:
            continue
        try:
            field = _known(key, by_name)
            values[field.name] = _read(field, text)
        except ConfigError as error:
            problems.append(f"{error}; {_instead(key, by_name)}")
    return State(values, tuple(problems))


def _known(key: str, by_name: Mapping[str, Field]) -> Field:
    if key not in by_name:
        raise ConfigError(f"this page knows nothing called {quoted(key)}{nearest(key, by_name)}")
    return by_name[key]


def _read(field: Field, text: str) -> Any:
    if len(text) > LONGEST:
        raise ConfigError(f"{field.name} has {len(text):,} characters; {LONGEST} are read at most")
    return field.parse(text)


def _instead(key: str, by_name: Mapping[str, Field]) -> str:
    if key not in by_name:
        return "it is passed over"
    field = by_name[key]
    return f"{field.write(field.default) or 'the default'} is used"


def write(fields: Sequence[Field], values: Values) -> dict[str, str]:
    """The shortest query that stands for these values: what is as by default is left out."""
    return {
        field.name: field.write(values[field.name])
        for field in fields
        if values[field.name] != field.default
    }


def quoted(text: str) -> str:
    """A user's words inside a sentence: short, on one line, and without control characters."""
    clean = "".join(letter if letter.isprintable() else "·" for letter in text)
    return repr(clean if len(clean) <= 40 else f"{clean[:39]}…")


_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]()<>#+-.!|~$:&^=@/"})


def plain(text: str) -> str:
    """Text that Markdown shows as it stands: no links, no pictures, no formulas from an address."""
    return text.translate(_MARKS)
