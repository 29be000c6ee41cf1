"""Which of several fits of one operator answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from msgspec import structs

from analyzer.optable import Op, stack
from analyzer.sources import Context, ladder, time_with
from analyzer.sources.operator_fit import OperatorFit, catalog_fits
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates

H100 = load_system("H100-SXM")
CONTEXT = Context(H100, machine(H100), Rates.default())


def seconds(*fits: OperatorFit) -> float:
    """What the residual source says of one multiplication with these fits at hand."""
    weight_B, act_B = 2.0 * 4096**2, 2.0 * 64 * 8192
    op = Op(
        name="linear", kind="gemm", flops=2.0 * 64 * 4096**2, weight_B=weight_B, act_B=act_B,
        m=64.0, n=4096.0, k=4096.0, weight_bits=16.0,
    )  # fmt: skip
    context = replace(CONTEXT, options={"residual": {"fits": list(fits)}})
    return float(np.sum(time_with(ladder("residual", context), stack([op])).seconds))


def test_of_several_kernels_the_form_that_holds_best_answers_and_even_routing_first() -> None:
    (good,) = (
        fit
        for fit in catalog_fits()
        if (fit.hardware, fit.op, fit.dtype) == ("H100-SXM5-80GB", "gemm", "bf16")
    )
    slow = {**good.params, "launch_s": 1e-4}
    worse = structs.replace(good, software="another", params=slow, held_out_form=0.4)
    skewed = structs.replace(good, routing="power_law_1.2", held_out_form=0.001)
    assert seconds(worse) > seconds(good)
    assert seconds(worse, good) == seconds(good, worse) == seconds(good)
    assert seconds(skewed, worse) == seconds(worse)
