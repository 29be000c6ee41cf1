"""The same question to another tool, where it is installed; how many times longer it takes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io

from bench.measures import LLAMA_70B, WORK, Figure, best


def genz() -> Figure | None:
    """One prefill and one decode prediction by genz-llm; None where it is not installed."""
    if importlib.util.find_spec("GenZ") is None:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        from GenZ import decode_moddeling, prefill_moddeling

        shared = {
            "model": "meta-llama/Llama-3.1-70B",
            "batch_size": WORK.batch,
            "input_tokens": WORK.input_tokens,
            "system_name": "H100_GPU",
            "bits": "bf16",
            "tensor_parallel": LLAMA_70B.tp,
        }

        def both() -> None:
            prefill_moddeling(**shared)
            decode_moddeling(**shared, output_tokens=WORK.output_tokens)

        both()
        spent = best(both, 5)
    version = importlib.metadata.version("genz-llm")
    return Figure(
        f"genz-llm {version}: prefill and decode of the first line",
        f"{spent.wall_s * 1e3:.0f} ms",
        f"{spent.cpu_s * 1e3:.0f} ms",
    )
