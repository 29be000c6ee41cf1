"""The scikit-learn face: what pipelines, searches and cross-validation ask of an estimator."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from calibration_synthetic import measured, scenarios
from sklearn.base import clone, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline

from analyzer.errors import ConfigError, DataError
from calibration.estimator import PlumblineRegressor

SYSTEM = "A100-SXM-80GB"


def _table() -> tuple[pd.DataFrame, np.ndarray]:
    asked = scenarios(SYSTEM, ("llama-2-7b", "llama-3-8b", "mistral-7b"), (1, 8), (128, 2048), (1,))
    problem = measured(asked, noise=0.01, seed=6)
    rows = [
        {
            "hardware": s.hardware, "model": s.model, "engine": s.engine, "tp": s.tp,
            "gpus": s.gpus, "weight_precision": s.weight_precision,
            "batch_or_concurrency": s.concurrency,
            "arrival": "static batch", "input_tokens": s.input_tokens,
            "output_tokens": s.output_tokens, "anything_else": 1,
        }
        for s in asked
    ]  # fmt: skip
    return pd.DataFrame(rows), problem.observed[:, 1]


def test_it_fits_and_predicts_seconds() -> None:
    X, y = _table()
    fitted = PlumblineRegressor().fit(X, y)
    predicted = fitted.predict(X)
    assert predicted.shape == y.shape
    assert np.abs(predicted / y - 1).mean() < 0.03
    assert fitted.score(X, y) > 0.95


def test_fitting_returns_itself_and_leaves_its_parameters_alone() -> None:
    X, y = _table()
    made = PlumblineRegressor(metric="tpot_s", constants={"engine": "vllm"})
    before = made.get_params()
    assert made.fit(X, y) is made
    assert made.get_params() == before
    assert made.n_features_in_ == X.shape[1]
    assert list(made.feature_names_in_) == list(X.columns)


def test_it_clones_pickles_and_says_what_it_is() -> None:
    X, y = _table()
    made = PlumblineRegressor(metric="ttft_s")
    twin = clone(made)
    assert twin is not made
    assert twin.get_params() == made.get_params()
    assert is_regressor(made)
    assert twin.set_params(metric="tpot_s").metric == "tpot_s"
    fitted = twin.fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - made here
    assert again.predict(X) == pytest.approx(fitted.predict(X))
    assert "ttft_s" in repr(made)


def test_it_does_not_change_what_it_is_given() -> None:
    X, y = _table()
    kept, times = X.copy(), y.copy()
    PlumblineRegressor().fit(X, y).predict(X)
    pd.testing.assert_frame_equal(X, kept)
    assert (y == times).all()


def test_it_is_deterministic_and_indifferent_to_the_order_of_rows() -> None:
    X, y = _table()
    turned = np.random.default_rng(0).permutation(len(X))
    first = PlumblineRegressor().fit(X, y).predict(X)
    other = PlumblineRegressor().fit(X.iloc[turned], y[turned]).predict(X)
    assert other == pytest.approx(first, rel=1e-2)


def test_cross_validation_over_models_works_on_it() -> None:
    X, y = _table()
    made = make_pipeline(PlumblineRegressor())
    held_out = cross_val_predict(made, X, y, groups=X["model"], cv=LeaveOneGroupOut())
    assert np.abs(held_out / y - 1).mean() < 0.1


def test_unfitted_it_refuses_to_predict() -> None:
    X, _ = _table()
    with pytest.raises(NotFittedError):
        PlumblineRegressor().predict(X)


def test_a_system_that_was_not_fitted_is_predicted_by_its_shipped_rates() -> None:
    X, y = _table()
    fitted = PlumblineRegressor().fit(X, y)
    elsewhere = X.assign(hardware="H100-SXM")
    assert (fitted.predict(elsewhere) < fitted.predict(X)).all()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda X, y: (X.to_numpy(), y), "DataFrame"),
        (lambda X, y: (X, y[:-1]), "rows"),
        (lambda X, y: (X, -y), "positive"),
        (lambda X, y: (X, np.full_like(y, np.nan)), "positive"),
        (lambda X, y: (X.iloc[:0], y[:0]), "empty"),
        (lambda X, y: (X.assign(model="nobody-7b"), y), "row 0: unknown model"),
        (lambda X, y: (X.assign(tp=3), y), "row 0: tp=3"),
        (lambda X, y: (X[["anything_else"]], y), "none of the columns"),
    ],
    ids=["array", "short", "negative", "nan", "empty", "model", "tp", "columns"],
)
def test_what_it_cannot_use_is_named(spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    X, y = spoil(*_table())
    with pytest.raises(DataError, match=says):
        PlumblineRegressor().fit(X, y)


def test_an_unknown_metric_is_named() -> None:
    X, y = _table()
    with pytest.raises(ConfigError, match="tpot_s"):
        PlumblineRegressor(metric="tpot").fit(X, y)
