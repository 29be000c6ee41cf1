"""How near a server is predicted from eight measurements of one's own, chosen by `--suggest`.

  python scripts/own_points_score.py

Each model of each served group plays the user's: the prior is the fit that never saw it, eight of
its rows are chosen as `plumbline calibrate --suggest 8` would, fitted, and the others are scored.
DeepSeek-R1 and V3 are one architecture, and the fit that never saw the one saw the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.machine import Machine
from calibration.collect import Group, Key, collect
from calibration.corpus import PERF_DIR, load_corpus
from calibration.families import beliefs_of
from calibration.fit import Fit
from calibration.own import SERVED, learn, own_priors
from calibration.problem import Case, build
from calibration.relevant import relevant
from calibration.rounds import first_round, second_round
from calibration.suggest import design

CHOSEN, FEWEST = 8, 12
"""Rows of one's own; models with fewer rows than the second are passed over."""


class Job(NamedTuple):
    """One model of one group."""

    key: Key
    model: str
    cases: tuple[Case, ...]
    machine: Machine
    unseen: Fit


def jobs() -> Iterator[Job]:
    """All models that a fit left out and that have rows enough."""
    groups = collect(load_corpus(PERF_DIR).records).groups
    alone = first_round(groups)
    served = {key: group for key, group in groups.items() if group.served}
    for key, done in second_round(served, alone).items():
        for model, unseen in sorted(done.held_out.fits.items()):
            cases = _cases(served[key], model)
            if len(cases) >= FEWEST:
                yield Job(key, model, cases, served[key].problem.machine, unseen)


def _cases(group: Group, model: str) -> tuple[Case, ...]:
    mine = (case for case in group.problem.cases if case.group == model)
    return tuple(case for case in mine if np.isfinite(case.observed[:2]).all())


def errors(job: Job) -> NDArray[np.float64]:
    """|predicted / measured - 1| of TTFT and TPOT, in percent, of the rows that were not chosen."""
    whole = build(job.cases, job.machine)
    priors = own_priors(relevant(whole), beliefs_of(job.unseen), SERVED.rates)
    chosen = set(design(whole, priors, CHOSEN).chosen)
    own = learn(build([job.cases[i] for i in sorted(chosen)], job.machine), priors)
    rest = build([x for i, x in enumerate(job.cases) if i not in chosen], job.machine)
    ratio = own.predict(rest)[:, :2] / rest.observed[:, :2]
    return np.asarray(100.0 * np.abs(ratio - 1.0))


def main() -> None:
    """Print MAPE by group and model, and over all."""
    todo = list(jobs())
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(errors, todo))
    print("MAPE %: rows, TTFT, TPOT")
    for job, own in zip(todo, found, strict=True):
        print("/".join(job.key), job.model, len(own), *own.mean(axis=0).round(1))
    means = np.array([own.mean(axis=0) for own in found])
    print(f"mean over {len(found)} models:", *means.mean(axis=0).round(1))
    print("all rows:", *np.concatenate(found).mean(axis=0).round(1))


if __name__ == "__main__":
    main()
