"""Do the shipped calibrations still follow the data and the code? For CI: under a minute.

Every shipped calibration carries a hash of the rows that it was fitted to; the corpus must still
give those rows. And a few groups with few relatives are fitted anew, as `calibrate_all` does it,
and must come to the shipped rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analyzer.calibrated import FOLDER, POOLED, Calibration, calibrations, load_calibration
from analyzer.engines import engine
from analyzer.relatives import FILE, read_relatives
from analyzer.timing.rates import Rates
from calibration.collect import Collected, Key, collect
from calibration.corpus import PERF_DIR, load_corpus
from calibration.export import digest
from calibration.families import beliefs_of
from calibration.fit import Fit, fit
from calibration.parameters import LINEAR, selected
from calibration.relevant import relevant
from calibration.rounds import kin_priors, speaks_for_itself

REFITTED: tuple[Key, ...] = (
    ("Gaudi2", "optimum-habana"),
    ("Xeon-8592+", "autoawq-cpu"),
    ("MI250X-GCD", "gpt-fast"),
)
"""Groups whose priors rest on few others."""
TOLERANCE = 0.02
"""Of a rate, in its fitting scale."""


class Drift(NamedTuple):
    """One way in which what is shipped no longer follows from the data."""

    what: str
    found: str


def check(refitted: Sequence[Key] = REFITTED) -> list[Drift]:
    """All drifts; empty where the shipped calibrations follow from data and code."""
    collected = collect(load_corpus(PERF_DIR).records)
    drifts = data_drifts(collected) + relatives_drifts(shipped_keys(), FOLDER)
    for key in refitted:
        drifts += refit_drifts(collected, key)
    return drifts


def shipped_keys() -> set[Key]:
    """(system, engine) of every shipped calibration that has data of its own."""
    return {key for key in calibrations() if not key[0].startswith(POOLED)}


def data_drifts(collected: Collected) -> list[Drift]:
    """Shipped calibrations whose rows are not the corpus's any more."""
    shipped = shipped_keys()
    drifts = [
        Drift("/".join(key), "measured, but no calibration of it is shipped")
        for key in sorted(collected.groups.keys() - shipped)
    ]
    for key in sorted(shipped):
        held, group = load_calibration(*key), collected.groups.get(key)
        if group is None:
            drifts.append(Drift("/".join(key), "shipped, but the corpus has no rows for it"))
        elif held is not None and held.data_sha256 != digest(group.records):
            drifts.append(
                Drift(
                    "/".join(key),
                    f"fitted to {held.rows} other rows than the {len(group.records)} of the corpus",
                )
            )
    return drifts


def relatives_drifts(shipped: set[Key], folder: Path) -> list[Drift]:
    """Calibrations of which relatives cannot learn, since the file of beliefs lacks them."""
    known = {(found.system, found.engine) for found in read_relatives(folder)}
    return [
        Drift("/".join(key), f"shipped, but {FILE} lacks it") for key in sorted(shipped - known)
    ]


def refit_drifts(collected: Collected, key: Key) -> list[Drift]:
    """Rates of one group that a fit anew does not come to."""
    held = load_calibration(*key)
    if held is None or key not in collected.groups:
        return [Drift("/".join(key), "cannot be fitted anew: it is not shipped or has no rows")]
    return rate_drifts(held, refit(collected, key))


def refit(collected: Collected, key: Key) -> Fit:
    """The fit of one group as `calibrate_all` makes it: alone, or with its relatives' priors."""
    group = collected.groups[key]
    names = relevant(group.problem)
    if speaks_for_itself(group):
        return fit(group.problem, selected(names), Rates.default())
    relatives = [other for other in collected.groups if other != key and _kin(other, key)]
    learnt = {}
    for other in relatives:
        problem = collected.groups[other].problem
        learnt[other] = beliefs_of(fit(problem, selected(relevant(problem)), Rates.default()))
    return fit(group.problem, kin_priors(names, group, learnt), Rates.default())


def _kin(other: Key, key: Key) -> bool:
    same_family = engine(other[1]).family == engine(key[1]).family
    return other[0] == key[0] or other[1] == key[1] or same_family


def rate_drifts(held: Calibration, found: Fit) -> list[Drift]:
    """Differences between shipped and fitted rates beyond the tolerance."""
    drifts = []
    now = {entry.name: float(x) for entry, x in zip(found.priors, found.point, strict=True)}
    # What relatives filled in was never fitted here; `unmet.py` marks it by no share of data.
    fitted = {name for name, rate in held.rates.items() if name in now or rate.data_share > 0}
    for name in sorted(fitted ^ now.keys()):
        drifts.append(Drift(f"{held.system}/{held.engine} {name}", "fitted then or now, not both"))
    for name in sorted(held.rates.keys() & now.keys()):
        value = held.rates[name].value
        then = value if name in LINEAR else float(np.log(value))
        if abs(now[name] - then) > TOLERANCE:
            fresh = now[name] if name in LINEAR else float(np.exp(now[name]))
            drifts.append(
                Drift(
                    f"{held.system}/{held.engine} {name}", f"shipped {value:.4g}, now {fresh:.4g}"
                )
            )
    return drifts
