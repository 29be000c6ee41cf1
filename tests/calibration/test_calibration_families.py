"""A new system leans on its relatives while its own data are few, and not when they are many."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_synthetic import TRUTH, measured, scenarios

from analyzer.timing.rates import Rates
from calibration.families import Belief, Beliefs, priors_for
from calibration.fit import fit
from calibration.parameters import GENERIC
from calibration.relevant import relevant

KEY = ("A100-SXM-80GB", "vllm-v0")
BELIEVED = 0.35
"""What the relatives say of mem_eff, against 0.82 in truth."""


def _relatives(count: int) -> Beliefs:
    known = Belief(float(np.log(BELIEVED)), 0.02, 0.99)
    others = ("H100-SXM", "H200-SXM", "L40S", "A100-SXM-40GB")[:count]
    return {(name, "vllm-v0"): {"mem_eff": known} for name in others}


def _mem_eff(rows: int) -> float:
    asked = scenarios(KEY[0], batches=(1, 8, 32), inputs=(128, 512, 1024, 3072), tps=(1,))
    far_apart = asked[:: max(len(asked) // rows, 1)][:rows]
    problem = measured(far_apart, noise=0.05, seed=4)
    priors = priors_for(relevant(problem), KEY, _relatives(4))
    return float(fit(problem, priors, Rates.default()).rates.mem_eff)


def test_few_points_lean_on_relatives_and_many_do_not() -> None:
    many = _mem_eff(60)
    assert many == pytest.approx(TRUTH.mem_eff, rel=0.07)
    asked = scenarios(KEY[0], ("llama-2-7b",), batches=(32,), inputs=(1024, 3072), tps=(1,))
    problem = measured(asked, noise=0.05, seed=4)
    leaning = fit(problem, priors_for(relevant(problem), KEY, _relatives(4)), Rates.default())
    assert leaning.rates.mem_eff < 0.9 * many


def test_a_prior_lies_between_generic_and_relatives_and_is_no_wider() -> None:
    generic = GENERIC["mem_eff"]
    (alone,) = priors_for(["mem_eff"], KEY, {})
    assert (alone.centre, alone.width) == (generic.centre, generic.width)
    (kin,) = priors_for(["mem_eff"], KEY, _relatives(4))
    assert np.log(BELIEVED) - 1e-9 <= kin.centre < generic.centre
    assert kin.width <= generic.width


def test_relatives_that_learnt_nothing_say_nothing() -> None:
    ignorant = {key: {"mem_eff": learnt["mem_eff"]._replace(data_share=0.1)}
                for key, learnt in _relatives(4).items()}  # fmt: skip
    (prior,) = priors_for(["mem_eff"], KEY, ignorant)
    assert prior.centre == GENERIC["mem_eff"].centre


def test_one_is_no_relative_of_oneself() -> None:
    (prior,) = priors_for(["mem_eff"], KEY, {KEY: _relatives(1)[("H100-SXM", "vllm-v0")]})
    assert prior.centre == GENERIC["mem_eff"].centre
