"""Without matrix units, a product of one row costs one row."""

from __future__ import annotations

import pytest

import plumbline as pl


def tpot_s(system: str, rate: float) -> float:
    found = pl.predict(
        pl.load_model("llama-3-8b"),
        pl.load_system(system),
        pl.Plan(weights="int4"),
        pl.Workload(batch=1, input_tokens=128, output_tokens=32),
        pl.Rates.default().with_values(gemm_half=rate),
    )
    return float(found.tpot_s)


def test_half_rows_matter_only_to_matrix_units() -> None:
    for bare in ("AppleM1Max", "RX7900XTX"):
        assert tpot_s(bare, 100.0) == pytest.approx(tpot_s(bare, 0.0))
    assert tpot_s("JetsonAGXOrin-64GB", 100.0) > 1.5 * tpot_s("JetsonAGXOrin-64GB", 0.0)
