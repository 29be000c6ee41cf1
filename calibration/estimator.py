"""Plumbline as a scikit-learn regressor: measured rows in, times of other rows out.

`X` is a table with the columns of the measured files (hardware, model, engine, tp,
batch_or_concurrency, input_tokens, output_tokens, ...); `y` is one metric in seconds. Fitting moves
the shipped rates of each (system, engine) in `X` to the rows given; a (system, engine) that was not
in `X` is predicted with the shipped rates as they are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from analyzer.errors import ConfigError, DataError, InputError, nearest
from analyzer.records import Scenario
from analyzer.records_arrival import Arrival, parse_arrival
from analyzer.resolve import Question, question
from analyzer.timing.machine import machine
from calibration.collect import Key, case_of
from calibration.own import Own, learn, priors_around
from calibration.problem import METRICS, Case, Problem, build

Array = NDArray[np.float64]

TEXTS = ("hardware", "model", "engine", "engine_version", "weight_precision", "kv_precision")
COUNTS = ("gpus", "tp", "pp", "ep", "attention_dp", "moe_tp", "moe_ep")
LENGTHS = ("input_tokens", "output_tokens")
LOADS = ("batch_or_concurrency", "batch", "concurrency")
COLUMNS = (*TEXTS, *COUNTS, *LENGTHS, *LOADS, "arrival")


class PlumblineRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts one of ttft_s, tpot_s and e2e_s; `constants` are columns that `X` does not have."""

    def __init__(
        self, metric: str = "tpot_s", constants: Mapping[str, object] | None = None
    ) -> None:
        self.metric = metric
        self.constants = constants

    def fit(self, X: pd.DataFrame, y: Any) -> PlumblineRegressor:
        """Learn from measured rows; `y` in seconds."""
        times = self._times(X, y)
        found: dict[Key, Own] = {}
        for key, _, problem in self._groups(X, times):
            found[key] = learn(problem, priors_around(*key, problem))
        self.learnt_ = found
        self.feature_names_in_ = np.array(list(X.columns), dtype=object)
        self.n_features_in_ = len(X.columns)
        return self

    def predict(self, X: pd.DataFrame) -> Array:
        """Seconds of every row."""
        check_is_fitted(self, "learnt_")
        nothing = np.full(len(X), np.nan)
        predicted = np.empty(len(X))
        for key, places, problem in self._groups(X, nothing):
            own = self.learnt_.get(key) or learn(problem, priors_around(*key, problem))
            predicted[places] = own.predict(problem)[:, self._index()]
        return predicted

    def _index(self) -> int:
        if self.metric not in METRICS:
            raise ConfigError(f"unknown metric {self.metric!r}{nearest(self.metric, METRICS)}")
        return METRICS.index(self.metric)

    def _times(self, X: pd.DataFrame, y: Any) -> Array:
        times = np.asarray(y, dtype=np.float64).ravel()
        if len(times) != len(X):
            raise DataError(f"X has {len(X)} rows and y {len(times)}")
        if not len(times):
            raise DataError("X and y are empty: give at least one measured row")
        if not (np.isfinite(times) & (times > 0)).all():
            raise DataError("y holds times that are no positive numbers of seconds")
        return times

    def _groups(self, X: pd.DataFrame, times: Array) -> list[tuple[Key, list[int], Problem]]:
        """Rows by (system, engine), each lot counted."""
        asked = [self._question(place, row) for place, row in enumerate(_rows(X))]
        lots: dict[Key, list[int]] = defaultdict(list)
        for place, one in enumerate(asked):
            lots[one.system.name, one.engine.name].append(place)
        groups = []
        for key, places in lots.items():
            cases = [self._case(place, asked[place], times[place]) for place in places]
            groups.append((key, places, build(cases, machine(asked[places[0]].system))))
        return groups

    def _question(self, place: int, row: dict[str, Any]) -> Question:
        try:
            return question(scenario_of({**(self.constants or {}), **row}))
        except InputError as error:
            raise DataError(f"row {place}: {error}") from None

    def _case(self, place: int, asked: Question, time_s: float) -> Case:
        observed = [np.nan] * len(METRICS)
        observed[self._index()] = float(time_s)
        try:
            return case_of(asked, (observed[0], observed[1], observed[2]))
        except InputError as error:
            raise DataError(f"row {place}: {error}") from None


def _rows(X: pd.DataFrame) -> list[dict[str, Any]]:
    if not isinstance(X, pd.DataFrame):
        raise DataError(
            f"X must be a pandas DataFrame with columns like {', '.join(COLUMNS[:4])}, "
            f"not {type(X).__name__}"
        )
    known = [name for name in X.columns if name in COLUMNS]
    if not known:
        raise DataError(f"X has none of the columns {', '.join(COLUMNS)}")
    return [dict(zip(known, values, strict=True)) for values in X[known].itertuples(index=False)]


def scenario_of(row: Mapping[str, Any]) -> Scenario:
    """A row of named cells as a scenario; empty cells are not stated."""
    given = {name: value for name, value in row.items() if not _empty(value)}
    fields: dict[str, Any] = {name: str(given[name]) for name in TEXTS if name in given}
    fields |= {name: int(given[name]) for name in COUNTS if name in given}
    fields |= {name: float(given[name]) for name in LENGTHS if name in given}
    load = next((given[name] for name in LOADS if name in given), None)
    arrival = given.get("arrival", "static batch")
    return Scenario(
        **fields,
        concurrency=None if load is None else float(load),
        arrival=arrival if isinstance(arrival, Arrival) else parse_arrival(str(arrival)),
    )


def _empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
