"""Runs under an interpreter that has aiconfigurator-core: JSON lines in, JSON lines out."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

MISSING = 3
REFUSALS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""How it says that it has no answer; its own errors derive from these."""


def main() -> int:
    """Answer every request."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    try:
        import aiconfigurator_core.sdk  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        sys.stderr.write(f"aiconfigurator-core is not installed: {error}\n")
        return MISSING
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            request = json.loads(line)
            reply: dict[str, Any]
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    reply = answer(request, Path(folder))
            except REFUSALS as error:
                reply = {"problem": f"{type(error).__name__}: {error}".splitlines()[0]}
            sys.stdout.write(json.dumps({"id": request["id"], **reply}) + "\n")
    return 0


def answer(request: dict[str, Any], folder: Path) -> dict[str, float]:
    """Milliseconds of the prefill and of all decoding steps."""
    from aiconfigurator_core.sdk.config import RuntimeConfig  # type: ignore[import-not-found]

    model, backend, database = prepared(
        json.dumps(request["model"], sort_keys=True),
        request["system"],
        request["backend"],
        request["weights"],
        request["tp"],
        request["pp"],
        str(folder),
    )
    asked = RuntimeConfig(
        batch_size=request["batch"], isl=request["input"], osl=max(request["output"], 2)
    )
    times = [
        backend.run_static_latency_only(model, database, asked, mode)
        for mode in ("static_ctx", "static_gen")
    ]
    return {"prefill_ms": times[0], "decode_ms": times[1]}


@functools.lru_cache(maxsize=256)
def prepared(
    sizes: str, system: str, backend_name: str, weights: str, tp: int, pp: int, folder: str
) -> tuple[Any, Any, Any]:
    """Model, backend and tables of one layout."""
    from aiconfigurator_core.sdk.backends.factory import get_backend  # type: ignore[import-not-found]
    from aiconfigurator_core.sdk.config_builders import build_model_config  # type: ignore[import-not-found]
    from aiconfigurator_core.sdk.models import get_model  # type: ignore[import-not-found]
    from aiconfigurator_core.sdk.perf_database import get_database  # type: ignore[import-not-found]

    database = get_database(system, backend_name, "current")
    if database is None:
        raise LookupError(f"no tables of {backend_name} on {system}")
    path = written(sizes, Path(folder))
    config = build_model_config(tp, pp, 1, 1, 1, gemm_quant_mode=weights)
    return get_model(path, config, backend_name), get_backend(backend_name), database


def written(sizes: str, folder: Path) -> str:
    """A configuration in Hugging Face's words; returns its folder."""
    size = json.loads(sizes)
    place = folder / str(abs(hash(sizes)))
    place.mkdir(exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size["hidden"],
        "intermediate_size": size["width"],
        "num_hidden_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "num_key_value_heads": size["kv_heads"],
        "head_dim": size["head_dim"],
        "vocab_size": size["vocab"],
        "max_position_embeddings": 1 << 20,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": size["tied"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
    }
    (place / "config.json").write_text(json.dumps(config))
    return str(place)


if __name__ == "__main__":
    sys.exit(main())
