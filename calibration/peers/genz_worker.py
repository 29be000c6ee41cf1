"""Runs under an interpreter that has genz-llm: JSON lines in, JSON lines out, nothing imported
from here.

GenZ prints, warns and leaves a file behind for every call; this process keeps all that to itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import warnings
from typing import Any

MISSING = 3
LEFT_BEHIND = "/tmp/genz"  # noqa: S108  GenZ's own choice of folder, emptied at the end


def main() -> int:
    """Answer every request."""
    warnings.simplefilter("ignore")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from GenZ import (  # type: ignore[import-not-found]
                decode_moddeling,
                prefill_moddeling,
            )
            from GenZ.Models import ModelConfig  # type: ignore[import-not-found]
    except ImportError as error:
        sys.stderr.write(f"genz-llm is not installed under {sys.executable}: {error}\n")
        return MISSING
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, Any]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                reply = answer(request, prefill_moddeling, decode_moddeling, ModelConfig)
        except (ValueError, AssertionError, ZeroDivisionError, KeyError) as error:
            reply = {"problem": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps({"id": request["id"], **reply}) + "\n")
    shutil.rmtree(LEFT_BEHIND, ignore_errors=True)
    return 0


def answer(
    request: dict[str, Any], prefill: Any, decode: Any, model_config: Any
) -> dict[str, list[float]]:
    """Milliseconds of prefill and of one decoding step: all, and communication alone."""
    size = request["model"]
    model = model_config(
        model="asked",
        vocab_size=size["vocab"],
        max_model_len=10**6,
        hidden_size=size["hidden"],
        intermediate_size=size["width"],
        num_ffi=2 if size["gated"] else 1,
        num_decoder_layers=size["layers"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["kv_heads"],
        head_dim=size["head_dim"],
    )
    common = {
        "model": model,
        "batch_size": request["batch"],
        "system_name": request["system"],
        "system_eff": 1,
        "bits": request["bits"],
        "tensor_parallel": request["tp"],
        "pipeline_parallel": request["pp"],
    }
    first = prefill(input_tokens=request["input"], **common)
    later = decode(input_tokens=request["input"], output_tokens=request["middle"], Bb=1, **common)
    return {"prefill_ms": parts(first), "decode_ms": parts(later)}


def parts(found: Any) -> list[float]:
    """Whole latency, and its share of communication."""
    table = found["summary_table"]
    column = next(name for name in table.columns if name.startswith("Comm Latency"))
    return [float(found["Latency"]), float(table[column].values[0])]


if __name__ == "__main__":
    sys.exit(main())
