"""Sources compared on held-out shapes: errors shrink in the order of what each may learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzer.sources.operator_rows import NUMBERS, TEXT, OperatorRows
from analyzer.sources.operator_work import shape_rows
from analyzer.timing.kernels import FORMS, Chip
from calibration.operators import geomean_error
from calibration.operators_compare import compare

CHIP = Chip(3e14, 2e12, 108.0, 40e6)


def rows_with_a_bump() -> OperatorRows:
    """A smooth deviation from the form that depends on rows and width."""
    sides = [1024.0, 2048.0, 4096.0, 8192.0, 16384.0]
    sizes = [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0]
    m, n, k = (part.ravel() for part in np.meshgrid(sizes, sides, sides, indexing="ij"))
    text = {name: np.full(len(m), "", dtype="U16") for name in TEXT}
    text["op"][:], text["dtype"][:] = "gemm", "bf16"
    numbers = {name: np.full(len(m), np.nan) for name in NUMBERS} | {"m": m, "n": n, "k": k}
    rows = OperatorRows(text, numbers, np.ones(len(m)))
    form = FORMS["gemm"]
    shaped = shape_rows(rows, "gemm", "bf16", CHIP)
    bump = np.exp(0.15 * np.sin(np.log2(m) * 1.5) + 0.05 * np.sin(np.log2(n)))
    return replace(rows, seconds=form.time(shaped.work, CHIP, form.params()) * bump * 1.3)


def test_table_and_residual_beat_the_form() -> None:
    found = compare(rows_with_a_bump(), CHIP)
    form, residual = geomean_error(found.analytic), geomean_error(found.residual)
    answered = ~np.isnan(found.table)
    assert answered.mean() > 0.8
    assert residual < 0.6 * form
    assert geomean_error(found.table[answered]) < 0.6 * form
