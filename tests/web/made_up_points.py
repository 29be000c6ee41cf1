"""A small error report with known errors."""

from __future__ import annotations

from pathlib import Path

from reports.validate.points import COLUMNS

RATIOS = {"llama-3-8b": 1.1, "qwen3-8b": 0.8, "mistral-7b-v0.1": 1.0}


def made_up_points(folder: Path) -> Path:
    """Rows of three models on two systems; each model is off by its own factor everywhere."""
    lines = [",".join(COLUMNS)]
    for system, engine, load in (
        ("A100-SXM-80GB", "vllm-v0", "fixed batch"),
        ("H100-SXM", "vllm-v0", "fixed batch"),
        ("H100-SXM", "vllm-v1", "served"),
    ):
        for model, ratio in RATIOS.items():
            for batch in (1, 8, 64):
                for metric in ("tpot", "e2e"):
                    measured = 0.01 * batch * (10 if metric == "e2e" else 1)
                    numbers = (measured, measured * ratio, measured)
                    cells = (
                        system,
                        engine,
                        model,
                        load,
                        metric,
                        1,
                        batch,
                        512,
                        128,
                        "bf16",
                        "made_up",
                    )
                    lines.append(",".join(map(str, (*cells, *numbers))))
    path = folder / "points.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
