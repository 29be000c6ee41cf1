"""Working off a sweep's pieces: here, or on the workers of a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from analyzer.errors import ConfigError
from reports.console import complain
from reports.sweep_parts import FORMS, Folder, Kept, Sweep, encoded, rates_hash

PLACES = ("local", "ray")
_QUIET_S = 2.0
"""Sweeps that are done sooner show no progress."""
_EVERY_S = 1.0
_IN_FLIGHT = 3
"""Pieces per worker that a cluster is given at once."""


def run_sweep(sweep: Sweep, out: str, place: str = "local", address: str = "") -> Kept:
    """Work off what is missing and put the result together."""
    target = Path(out)
    if target.suffix not in FORMS:
        raise ConfigError(f"{out}: a sweep is written as {' or '.join(FORMS)}")
    if target.suffix == ".parquet":
        _require("pyarrow", "Parquet needs pyarrow: pip install pyarrow, or write a .csv")
    sweep = msgspec.structs.replace(sweep, form=target.suffix, rates="")
    sweep = msgspec.structs.replace(sweep, rates=rates_hash(sweep))
    folder = Folder(target, sweep)
    missing = folder.open()
    told = _Told(sweep, missing)
    points = fit = 0
    for piece, data, kept in _WORKERS[place](sweep, missing, address):
        folder.keep(piece, data)
        points, fit = points + kept.points, fit + kept.fit
        told.at(points)
    folder.join()
    told.end()
    return Kept(points, fit)


def _require(module: str, said: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise ConfigError(said)


Worked = Iterator[tuple[int, bytes, Kept]]


def _here(sweep: Sweep, missing: list[int], _address: str) -> Worked:
    for piece in missing:
        yield piece, *encoded(sweep, piece)


def _on_ray(sweep: Sweep, missing: list[int], address: str) -> Worked:
    """Pieces come back as they are done; only a few per worker are under way."""
    _require("ray", "--on ray needs ray: pip install 'plumbline[cluster]'")
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(address=address or None, include_dashboard=False, log_to_driver=False,
                 logging_level="ERROR")  # fmt: skip
    try:
        work = ray.remote(num_cpus=1)(_encoded)
        described = sweep.described()
        most = max(int(ray.cluster_resources().get("CPU", 1)), 1) * _IN_FLIGHT
        waiting = list(reversed(missing))
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < most:
                piece = waiting.pop()
                running[work.remote(described, piece)] = piece
            (ready, *_), _rest = ray.wait(list(running), num_returns=1)
            piece = running.pop(ready)
            data, kept = ray.get(ready)
            yield piece, data, Kept(*kept)
    finally:
        if started:
            ray.shutdown()


def _encoded(described: bytes, piece: int) -> tuple[bytes, tuple[int, int]]:
    """On a worker: one piece from the sweep's spelling."""
    data, kept = encoded(sweep_from(described), piece)
    return data, (kept.points, kept.fit)


def sweep_from(described: bytes) -> Sweep:
    """A sweep from its spelling."""
    from analyzer.designs import Design, design_of

    document = msgspec.json.decode(described)
    design = document.pop("design")
    axes = design_of(design.pop("axes"))
    return Sweep(design=Design(axes=axes, **design), **document)


_WORKERS: dict[str, Callable[[Sweep, list[int], str], Worked]] = {"local": _here, "ray": _on_ray}


class _Told:
    """Progress on standard error, for sweeps that last."""

    def __init__(self, sweep: Sweep, missing: list[int]) -> None:
        self._total = len(sweep.design)
        self._before = max(self._total - len(missing) * sweep.piece, 0)
        self._began = self._said = time.monotonic()
        if self._before and missing:
            complain(f"going on: {self._before:,} of {self._total:,} points were there already")

    def at(self, points: int) -> None:
        """So many points were predicted since the beginning."""
        now = time.monotonic()
        spent = now - self._began
        if spent < _QUIET_S or now - self._said < _EVERY_S:
            return
        self._said = now
        done = min(self._before + points, self._total)
        pace = points / spent
        left = (self._total - done) / pace
        complain(
            f"{done:,} of {self._total:,} points, {done / self._total:.0%}, {pace:,.0f}/s, "
            f"{_span(left)} left"
        )

    def end(self) -> None:
        """The last word, where there were others."""
        if self._said > self._began:
            complain(f"done in {_span(time.monotonic() - self._began)}")


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
