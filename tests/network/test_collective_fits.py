"""Fits on measured collectives: recovery from synthetic curves, and the simulator agreeing."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.errors import CalibrationError
from analyzer.network import topology
from analyzer.network.hierarchical import run
from analyzer.timing.collectives import CollectiveParams, Fabric, collective_time
from calibration.operators_collectives import Curve, every_other, fit_collective, fit_curve

SIZES = 2.0 ** np.arange(10, 30)


def test_a_curve_comes_back_and_the_simulation_follows_it() -> None:
    truth = Curve(8, 1.5e-6, 240e9, 8e-7)
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal(len(SIZES)))
    measured = truth.seconds(SIZES) * noise
    chosen = every_other(SIZES)
    assert chosen.sum() == 10
    assert chosen[-1]
    curve = fit_curve(8, SIZES[chosen], measured[chosen], 300e9)
    assert curve.Bps == pytest.approx(truth.Bps, rel=0.05)
    assert curve.latency_s == pytest.approx(truth.latency_s, rel=0.05)
    net = topology.switch(8, curve.Bps, curve.latency_s, curve.ramp_s)
    for size, seconds in zip(SIZES[~chosen], measured[~chosen], strict=True):
        simulated = run(net, "all_reduce", float(size), "ring").seconds
        assert simulated == pytest.approx(float(curve.seconds(np.asarray(size))), rel=1e-9)
        assert simulated == pytest.approx(seconds, rel=0.08)


def test_parameters_of_a_device_come_back() -> None:
    fabric = Fabric(link_Bps=450e9, multicast=True)
    truth = CollectiveParams(
        base_s=4e-6,
        hop_s=1e-6,
        ramp_s=1e-5,
        link_eff=0.8,
        multicast_eff=0.85,
        multicast_base_s=2e-5,
    )
    payload, ranks = (part.ravel() for part in np.meshgrid(SIZES, [2.0, 4.0, 8.0]))
    seconds = collective_time("all_reduce", payload, ranks, fabric, truth)
    fit = fit_collective("all_reduce", payload, ranks, seconds, fabric)
    assert fit.held_out_error < 0.01
    assert fit.params.link_eff == pytest.approx(0.8, rel=0.03)
    assert fit.params.base_s == pytest.approx(4e-6, rel=0.05)


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(CalibrationError, match="3 message sizes"):
        fit_curve(8, SIZES[:3], SIZES[:3] * 1e-9, 1e9)
