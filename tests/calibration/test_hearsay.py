"""A rate for which a served group has one model's word only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from analyzer.calibrated import FOLDER, load_calibration
from analyzer.models_catalog import load
from analyzer.priors import GENERIC
from analyzer.relatives import read_relatives
from calibration.hearsay import one_models_word

NEAR, FAR = 1.0, 8.0
ONE, OTHER = load("llama-3-8b"), load("mistral-7b-v0.1")
TWIN = msgspec.structs.replace(ONE, name="llama-3-8b-instruct", max_context=1 << 17)
NAMED = {"a": ONE, "b": OTHER, "t": TWIN}


def asked(
    models: str, jacobian: list[list[float]], distance: list[float], looped: bool = True
) -> Any:
    cases = [SimpleNamespace(looped=looped, model=NAMED[name]) for name in models]
    used = np.zeros((len(models), 3), dtype=bool)
    used[:, 1] = True  # a time per token each
    problem: Any = SimpleNamespace(cases=cases)
    return one_models_word(problem, used, np.array(jacobian), np.array(distance)).tolist()


def test_only_what_is_both_far_off_and_told_by_one_model_is_not_believed() -> None:
    told_by_b, told_by_both = [0.0, 0.0, 5.0], [1.0, 1.0, 1.0]
    columns = np.array([told_by_b, told_by_b, told_by_both]).T.tolist()
    assert asked("aab", columns, [FAR, NEAR, FAR]) == [True, False, False]
    assert asked("aab", columns, [-FAR, -NEAR, -FAR]) == [True, False, False]


def test_models_of_one_architecture_have_one_word() -> None:
    """A rate that two names of one architecture tell, and the other model does not."""
    columns = [[5.0], [5.0], [0.0]]
    assert asked("atb", columns, [FAR]) == [True]
    assert asked("aab", columns, [FAR]) == [True]
    assert asked("at", columns[:2], [FAR]) == [False], "nobody else to ask, and plenty of rows"


def test_a_group_of_one_model_is_believed_where_its_rows_outweigh_the_prior() -> None:
    assert asked("aaa", [[1.0], [1.0], [1.0]], [FAR]) == [False]
    assert asked("aaa", [[0.1], [0.1], [0.1]], [FAR]) == [True]
    assert asked("aaa", [[0.1], [0.1], [0.1]], [NEAR]) == [False]


def test_fixed_batches_are_believed() -> None:
    assert asked("aab", [[0.0], [0.0], [5.0]], [FAR], looped=False) == [False]


def test_a_rate_that_no_row_tells_stays_as_it_is() -> None:
    assert asked("aab", [[0.0], [0.0], [0.0]], [0.0]) == [False]


def test_what_was_not_believed_is_told_to_nobody_and_not_shipped() -> None:
    key, name = ("H200-SXM", "vllm-v1"), "gemm_eff_16"
    (told,) = (one for one in read_relatives(FOLDER) if (one.system, one.engine) == key)
    assert told.beliefs[name].data_share == 0.0
    held = load_calibration(*key)
    assert held is not None
    off = np.log(held.rates[name].value / GENERIC[name].value)
    assert abs(off) < GENERIC[name].width
