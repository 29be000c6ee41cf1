"""All-reduce curves that change protocol: the switch is found without having been measured."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.errors import CalibrationError
from analyzer.network import topology
from analyzer.network.hierarchical import run
from calibration.operators_collectives import Curve, every_other
from calibration.operators_protocols import Staged, fit_staged, handover_B

SIZES = 2.0 ** np.arange(14, 30)


def library(ranks: int) -> Staged:
    """A library that decides as NCCL's table has it, on links of 200 GB/s."""
    steps = 2.0 * (ranks - 1.0)
    small = Curve(ranks, 6e-6 / steps, 95e9, 0.0, 12e-6 / steps)
    large = Curve(ranks, 35e-6 / steps, 200e9, 0.0)
    return Staged((small, large), (handover_B(ranks, small, large),))


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_every_size_is_met_though_half_were_seen(ranks: int) -> None:
    truth = library(ranks)
    assert SIZES[2] < truth.ends_B[0] < SIZES[-3]
    noise = np.exp(0.01 * np.random.default_rng(ranks).standard_normal(len(SIZES)))
    seen = every_other(SIZES)
    found = fit_staged(ranks, SIZES[seen], (truth.seconds(SIZES) * noise)[seen], 300e9)
    unseen = SIZES[~seen]
    np.testing.assert_allclose(found.seconds(unseen), truth.seconds(unseen), rtol=0.15)
    assert found.curves[-1].Bps == pytest.approx(200e9, rel=0.05)


@pytest.mark.parametrize("ranks", [2, 8])
def test_the_simulation_follows_each_stretch(ranks: int) -> None:
    for curve in library(ranks).curves:
        net = topology.switch(ranks, curve.Bps, curve.latency_s, curve.ramp_s, curve.floor_s)
        for size_B in SIZES[::3]:
            simulated = run(net, "all_reduce", float(size_B), "ring").seconds
            assert simulated == pytest.approx(float(curve.seconds(np.asarray(size_B))), rel=1e-9)


def test_a_curve_without_a_switch_stays_one() -> None:
    truth = Curve(4, 2e-6, 150e9, 1e-6)
    found = fit_staged(4, SIZES, truth.seconds(SIZES), 300e9)
    np.testing.assert_allclose(found.seconds(SIZES), truth.seconds(SIZES), rtol=0.03)


def test_the_table_never_hands_over_to_a_narrower_protocol() -> None:
    wide, narrow = Curve(4, 1e-6, 2e11, 0.0), Curve(4, 1e-6, 1e11, 0.0)
    assert handover_B(4, wide, narrow) == np.inf
    assert handover_B(8, narrow, wide) > handover_B(2, narrow, wide)
    with pytest.raises(CalibrationError, match="3 message sizes"):
        fit_staged(4, SIZES[:3], SIZES[:3] * 1e-9, 1e9)
