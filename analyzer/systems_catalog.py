"""Finding systems: the catalog by any name that people use, a user's own machine by its file.

One TOML file per system, named after it, so that a lookup opens one file; the heads of the others
are looked at only for aliases. Nothing but the files knows what there is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from analyzer.errors import ConfigError, nearest
from analyzer.system import System
from analyzer.system_file import read_system

CATALOG = Path(__file__).parent / "catalog" / "systems"

_NAME = re.compile(r'^name\s*=\s*"([^"]*)"', re.MULTILINE)
_ALIASES = re.compile(r"^aliases\s*=\s*\[([^\]]*)\]", re.MULTILINE)
_VENDORS = ("nvidia", "amd", "intel", "google", "aws", "habana", "huawei", "apple")
_BRANDS = ("geforce", "tesla", "quadro", "instinct", "radeon", "xeon", "platinum", "gold", "silver")
_FILLERS = ("generation", "graphics", "gpu", "cpu", "accelerator", "edition", "processor", "oam")
_MACHINES = ("macbook", "mac", "studio")
_NOISE = frozenset((*_VENDORS, *_BRANDS, *_FILLERS, *_MACHINES))
_COUNT = re.compile(r"\s*\d{1,3}\s*x\s*(?=\w)", re.IGNORECASE)
"""A number of devices before their name, which a plan or a column says as well."""
_GLUED_VENDOR = re.compile(rf"^({'|'.join(_VENDORS)})(?=.)")


def load_system(reference: str | Path) -> System:
    """The system called `reference`, in the TOML file of that path, or this machine ("auto")."""
    if reference == "auto":
        return _this_machine()
    if str(reference).endswith(".toml"):
        return read_system(Path(reference), _base_file)
    return _from_catalog(str(reference))


@functools.cache
def _this_machine() -> System:
    from analyzer.detect import this_system

    return this_system().system


def system_names() -> tuple[str, ...]:
    """The catalog's systems by name, in alphabetical order."""
    return tuple(sorted((name for _, name, _ in _catalog()), key=str.lower))


def system_aliases() -> dict[str, tuple[str, ...]]:
    """The other names of each system of the catalog."""
    return {name: aliases for _, name, aliases in _catalog()}


def fold(name: str) -> str:
    """What is left of a name when case, punctuation, vendor and filler words are gone."""
    plain = re.sub(r"\([^)]*\)|@\s*[\d.]+\s*ghz|\b\d+-core\b", " ", name.lower())
    words = [re.sub(r"sxm\d$", "sxm", word) for word in re.split(r"[^a-z0-9+]+", plain)]
    kept = [word for word in words if word not in _NOISE and not re.fullmatch(r"hbm\d?e?", word)]
    return _GLUED_VENDOR.sub("", "".join(kept))


@functools.lru_cache(maxsize=256)
def _from_catalog(name: str) -> System:
    return read_system(_find(name), _base_file)


def _base_file(base: str, named_in: Path) -> Path:
    if base.endswith(".toml"):
        return named_in.parent / base
    try:
        return _find(base)
    except ConfigError as error:
        raise ConfigError(f"{named_in}: base: {error}") from None


def _find(name: str) -> Path:
    folded = fold(name)
    found = _called(folded) or _called(fold(_COUNT.sub("", name, count=1)))
    if found:
        return found
    known = [spelling for _, own, aliases in _catalog() for spelling in (own, *aliases)]
    raise ConfigError(
        f"unknown system {name!r}{nearest(folded, known)}; the name of a file ends in .toml"
    )


def _called(folded: str) -> Path | None:
    """The file of the system whose name or alias folds to that."""
    if not folded:
        return None
    for path in _files():
        if fold(path.stem) == folded:
            return path
    for path, _, aliases in _catalog():
        if any(fold(alias) == folded for alias in aliases):
            return path
    return None


def _files() -> list[Path]:
    return [path for path in CATALOG.iterdir() if path.suffix == ".toml"]


def _catalog() -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """File, name and aliases of every system, from the head of its file."""
    for path in _files():
        head = path.read_text(encoding="utf-8").partition("\n[")[0]
        name = _NAME.search(head)
        aliases = _ALIASES.search(head)
        found = re.findall(r'"([^"]*)"', aliases.group(1)) if aliases else ()
        yield path, name.group(1) if name else path.stem, tuple(found)
