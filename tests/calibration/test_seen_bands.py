"""What was measured gets a narrow interval; what was not gets the wide one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from analyzer.answer import was_measured
from analyzer.basis import Basis
from analyzer.calibrated import Band, Calibration, Hull
from analyzer.plan import Plan
from analyzer.timing.rates import Rates
from calibration.intervals import Residuals, seen_bands
from calibration.problem import METRICS

HULL = Hull(
    batch=(1, 32),
    input_tokens=(128, 2048),
    output_tokens=(16, 512),
    devices=(1, 4),
    weights=("fp16",),
    arrivals=("static",),
    models=("llama-2-7b",),
)
WIDE = Band(metric="tpot_s", level=0.9, low=0.5, high=2.0, groups=5, coverage=0.9)
NARROW = Band(metric="tpot_s", level=0.9, low=0.95, high=1.05, groups=40, coverage=0.9, seen=True)
FOUND = Calibration(
    system="H100-SXM", engine="vllm-v0", rows=9, models=1, rates={}, bands=(WIDE, NARROW), hull=HULL
)
BASIS = Basis(Rates.default(), "test", "default", FOUND)
ASKED = {"batch": 8.0, "input_tokens": 512.0, "output_tokens": 128.0, "devices": 1.0}
PLAN = Plan(weights="bf16")


def test_inside_of_the_hull_a_measured_model_counts_as_measured() -> None:
    assert was_measured(BASIS, PLAN, "llama-2-7b", "static", ASKED)
    assert not was_measured(BASIS, PLAN, "llama-2-13b", "static", ASKED)
    assert not was_measured(BASIS, Plan(weights="fp8"), "llama-2-7b", "static", ASKED)
    assert not was_measured(BASIS, PLAN, "llama-2-7b", "closed_loop", ASKED)
    assert not was_measured(BASIS._replace(borrowed=True), PLAN, "llama-2-7b", "static", ASKED)
    for name, far in (("batch", 64.0), ("input_tokens", 4096.0), ("devices", 8.0)):
        assert not was_measured(BASIS, PLAN, "llama-2-7b", "static", ASKED | {name: far})


def test_each_scenario_of_an_array_gets_its_own_band() -> None:
    asked = ASKED | {"batch": np.array([1.0, 32.0, 33.0])}
    known = was_measured(BASIS, PLAN, "llama-2-7b", "static", asked)
    assert known.tolist() == [True, True, False]
    found = BASIS.interval("tpot_s", np.full(3, 0.02), known)
    assert found is not None
    assert found.low / 0.02 == pytest.approx([0.95, 0.95, 0.5])
    assert found.high / 0.02 == pytest.approx([1.05, 1.05, 2.0])
    rate = BASIS.interval("decode_tok_s", np.full(3, 50.0), known)
    assert rate is not None
    assert rate.high / 50.0 == pytest.approx([1 / 0.95, 1 / 0.95, 2.0])


def test_without_a_band_of_its_own_the_measured_gets_the_wide_one() -> None:
    only_wide = msgspec.structs.replace(FOUND, bands=(WIDE,))
    found = BASIS._replace(calibration=only_wide).interval("tpot_s", 0.02, True)
    assert found is not None
    assert float(found.high) == pytest.approx(0.04)


def test_bands_of_the_seen_cover_what_they_say_and_widen_with_optimism() -> None:
    rng = np.random.default_rng(3)
    names = np.repeat([f"cell {i}" for i in range(60)], 5)
    own = [Residuals(rng.normal(0.0, 0.05, 300), names) for _ in METRICS]
    plain = seen_bands(own, [names] * 3, 1.0)
    assert [band.metric for band in plain] == list(METRICS)
    for band, drawn in zip(plain, own, strict=True):
        inside = (np.exp(drawn.values) >= band.low) & (np.exp(drawn.values) <= band.high)
        assert band.seen
        assert inside.mean() == pytest.approx(0.9, abs=0.04)
    wider = seen_bands(own, [names] * 3, 1.5)
    for one, other in zip(plain, wider, strict=True):
        assert np.log(other.high) == pytest.approx(1.5 * np.log(one.high), rel=1e-2)
    few = [Residuals(drawn.values[:10], names[:10]) for drawn in own]
    assert seen_bands(few, [names[:10]] * 3, 1.0) == ()
