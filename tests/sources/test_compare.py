"""Sources compared on held-out shapes: errors shrink in the order of what each may learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analyzer.sources.neighbours import Settings
from analyzer.sources.operator_rows import NUMBERS, TEXT, OperatorRows
from analyzer.sources.operator_work import shape_rows
from analyzer.systems_catalog import load_system
from analyzer.timing.kernels import FORMS, Chip
from calibration.operators import geomean_error
from calibration.operators_compare import compare
from calibration.operators_scored import QUOTAS, lines, nearest_rows, scored
from calibration.operators_settings import Candidate, Fold, choose, error

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


def test_settings_are_chosen_by_what_is_unseen() -> None:
    """On a noisy plane more neighbours are better, and that is what is chosen."""
    rng = np.random.default_rng(3)

    def fold(count: int) -> tuple[np.ndarray, np.ndarray]:
        at = rng.uniform(0.0, 6.0, (count, 2))
        return at, 0.1 * at[:, 0] - 0.05 * at[:, 1]

    (seen_at, seen), (unseen_at, unseen) = fold(300), fold(200)
    inside = np.all((unseen_at > 0.5) & (unseen_at < 5.5), axis=1)
    held = [Fold("norm", seen_at, seen + 0.1 * rng.standard_normal(300), unseen_at[inside],
                 unseen[inside])]  # fmt: skip
    best, found = choose("norm", [held])
    assert best.settings.neighbours == 36
    assert found < error(held, Candidate(Settings(12, 0.02, 0.05)))


def test_the_nearest_rows_are_those_of_the_models() -> None:
    rows = rows_with_a_bump()
    shaped = shape_rows(rows, "gemm", "bf16", CHIP)
    wanted = shaped.features[[7, 100, 200], :3]
    assert nearest_rows(rows, "gemm", CHIP, wanted, 3).tolist() == [7, 100, 200]


def test_a_device_is_scored_on_its_own_classes() -> None:
    rows = rows_with_a_bump()
    rows.text["software"] = np.full(len(rows), "vllm")
    parts = scored(rows, load_system("H100-SXM"))
    assert [part.op for part in parts] == ["gemm"]
    one, together = lines(parts)
    assert one.operators == together.operators == QUOTAS["gemm"]
    assert together.residual < together.analytic
