"""What a processor pays for its linear layers beside their arithmetic and their bytes."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.optable import COMPUTE_INDEX, Op, stack
from analyzer.system import Device, System
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import time_ops


def _system(kind: str) -> System:
    device = Device(
        name="Abacus", kind=kind, peak_flops={"bf16": 1e15, "fp32": 1e15}, memory_B=1e10,
        memory_bandwidth_Bps=1e11, units=4.0,
    )  # fmt: skip
    return System(name="Abacus", device=device, nodes=1)


def _linear(rows: float) -> Op:
    return Op("up", "gemm", flops=2e6 * rows, weight_B=2e6, m=rows, n=1e3, k=1e3, launches=2.0)


def _seconds(ops: list[Op], kind: str, **rates: float) -> np.ndarray:
    told = Rates.ideal().with_values(**rates)
    return time_ops(stack(ops), machine(_system(kind)), told).total_s.ravel()


def test_a_call_costs_each_launch_of_a_linear_layer_and_nothing_else() -> None:
    ops = [_linear(1.0), Op("norm", "elementwise", act_B=1e6, launches=3.0, repeat=5.0)]
    free, paid = _seconds(ops, "cpu"), _seconds(ops, "cpu", linear_s=1e-5)
    assert paid - free == pytest.approx([2e-5, 0.0])


def test_several_rows_stream_wide_weights_at_another_rate_than_one() -> None:
    wide = {"compute": COMPUTE_INDEX["fp32"], "weight_bits": 32.0}
    ops = [_linear(rows)._replace(**wide) for rows in (1.0, 2.0, 16.0)] + [_linear(2.0)]
    slower = _seconds(ops, "cpu", rows_wide=0.5) / _seconds(ops, "cpu")
    assert slower == pytest.approx([1.0, 2.0, 2.0, 1.0])
    assert _seconds(ops, "gpu", rows_wide=0.5) == pytest.approx(_seconds(ops, "gpu"))


def test_two_and_three_rows_stream_wide_weights_once_per_row_and_more_once_for_all() -> None:
    wide = {"compute": COMPUTE_INDEX["fp32"], "weight_bits": 32.0}
    ops = [_linear(rows)._replace(**wide) for rows in (1.0, 2.0, 3.0, 4.0)] + [_linear(2.0)]
    told = {"rows_wide": 0.8, "rows_few": 1.0}
    slower = _seconds(ops, "cpu", **told) / _seconds(ops, "cpu")
    assert slower == pytest.approx([1.0, 2.0, 3.0, 1.25, 1.0])
    assert _seconds(ops, "gpu", **told) == pytest.approx(_seconds(ops, "gpu"))
    never_faster = _seconds(ops, "cpu", rows_wide=0.4, rows_few=0.5) / _seconds(ops, "cpu")
    assert never_faster == pytest.approx([1.0, 2.5, 2.5, 2.5, 1.0])


def test_weights_that_lie_input_by_input_stream_at_their_own_rate_on_a_processor() -> None:
    wide = {"compute": COMPUTE_INDEX["fp32"], "weight_bits": 32.0}
    narrow = [_linear(1.0), _linear(1.0)._replace(input_major=1.0)]
    ops = [*narrow, *(op._replace(**wide) for op in narrow)]
    told = {"turned_eff": 0.8, "turned_wide": 0.5}
    slower = _seconds(ops, "cpu", **told) / _seconds(ops, "cpu")
    assert slower == pytest.approx([1.0, 1.25, 1.0, 2.0])
    assert _seconds(ops, "gpu", **told) == pytest.approx(_seconds(ops, "gpu"))
