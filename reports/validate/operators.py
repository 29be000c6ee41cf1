"""Kernels by themselves: forms fitted per device and class, whole shapes held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np

from analyzer.sources.operator_fit import OperatorFit, catalog_fits
from reports.validate.table import Cell, Section, Table, table

TEXT = (
    "Each device, operator class, format and software has a form of its own fitted to the measured "
    "kernels in benchmark-perf/operators; a fourth of the shapes (weight matrices, head counts) is "
    "left out in turn. “Form” is the physical form alone, with a dozen parameters; “with residual” "
    "adds boosted trees on what the form leaves, which keep silent beyond the shapes that they "
    "learnt from. Geomean errors. The fits are made by `plumbline calibrate --operators`.",
)
OPS = {
    "gemm": "matrix product",
    "attn_prefill": "prefill attention",
    "attn_decode": "decode attention",
}
SIXTEEN = ("bf16", "fp16")
LEAST_GROUPS = 8
"""Shapes below which an error on those left out says little."""


@cache
def operators() -> Section:
    """By device in 16 bits, and the middle of all devices."""
    fits = [fit for fit in catalog_fits() if _counts(fit)]
    return Section("operators", "Kernels", TEXT, (_middle(fits), _by_device(fits)))


def _counts(fit: OperatorFit) -> bool:
    whole = fit.dtype in SIXTEEN and fit.kv_dtype in ("", *SIXTEEN)
    return whole and fit.op in OPS and fit.groups >= LEAST_GROUPS


def _middle(fits: Iterable[OperatorFit]) -> Table:
    columns = (
        "operator", "devices:count", "form, median:percent", "form, worst:percent",
        "with residual, devices:count", "median:percent", "worst:percent",
    )  # fmt: skip
    return table("kernels", columns, list(_medians(list(fits))), "**All devices, 16 bits**")


def _medians(fits: list[OperatorFit]) -> Iterator[list[Cell]]:
    for op, name in OPS.items():
        mine = [fit for fit in fits if fit.op == op]
        if not mine:
            continue
        forms = np.array([fit.held_out_form for fit in mine])
        better = np.array([fit.held_out_residual or np.nan for fit in mine])
        known = better[np.isfinite(better)]
        middle = [float(np.median(known)), float(known.max())] if len(known) else [None, None]
        yield [name, len({fit.hardware for fit in mine}), float(np.median(forms)),
               float(forms.max()), len(known), *middle]  # fmt: skip


def _by_device(fits: Iterable[OperatorFit]) -> Table:
    columns = ("device", "operator", "format", "software", "rows:count", "shapes:count",
               "form:percent", "bias:signed", "with residual:percent")  # fmt: skip
    rows = [
        [
            fit.hardware, OPS[fit.op], fit.dtype, fit.software, fit.rows, fit.groups,
            fit.held_out_form, fit.held_out_bias, fit.held_out_residual,
        ]
        for fit in sorted(fits, key=lambda fit: (fit.hardware, fit.op, fit.software))
    ]  # fmt: skip
    return table("kernels_by_device", columns, rows, "**Each device, 16 bits**")
