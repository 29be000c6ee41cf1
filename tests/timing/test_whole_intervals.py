"""The interval of a whole that nobody measured follows from those of its parts."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer import basis
from analyzer.systems_catalog import load_system

SERVED = basis.calibrated(load_system("H100-SXM"), "vllm-v1", "closed_loop")


def test_the_ends_of_both_parts_add_up() -> None:
    first, later = SERVED.interval("ttft_s", 2.0), SERVED.interval("tpot_s", 8.0)
    whole = basis.around(SERVED, "e2e_s", 10.0, 2.0, 10.0)
    assert first is not None
    assert later is not None
    assert whole is not None
    assert float(whole.low) == pytest.approx(float(first.low) + float(later.low))
    assert float(whole.high) == pytest.approx(float(first.high) + float(later.high))


def test_a_rate_over_the_whole_time_is_its_mirror() -> None:
    times, rates = (
        basis.around(SERVED, metric, value, np.array([2.0]), np.array([10.0]))
        for metric, value in (("e2e_s", np.array([10.0])), ("total_tok_s", np.array([50.0])))
    )
    assert times is not None
    assert rates is not None
    np.testing.assert_allclose(rates.low * times.high, 500.0)
    np.testing.assert_allclose(rates.high * times.low, 500.0)


def test_a_measured_interval_comes_first() -> None:
    fixed = basis.calibrated(load_system("H100-SXM"), "vllm-v0", "static")
    measured = fixed.interval("e2e_s", 10.0)
    assert measured is not None
    assert basis.around(fixed, "e2e_s", 10.0, 2.0, 10.0) == measured
    assert basis.around(basis.ideal(), "e2e_s", 10.0, 2.0, 10.0) is None
