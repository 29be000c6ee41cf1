"""Runs under an interpreter that has aiconfigurator: one request a line in, one answer a line out.

`search_against_aiconfigurator.py` starts it. A request is {"do": "search", ...}, its own search
under a promise, or {"do": "estimate", ...}, what its database says of one layout and batch.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

BACKEND = "vllm"


def main() -> int:
    """Answer until there are no more requests."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    real = sys.stdout
    for line in sys.stdin:
        request = json.loads(line)
        do = {"search": searched, "estimate": estimated}[request.pop("do")]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                reply = do(**request)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reply = {"problem": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        real.write(json.dumps(reply) + "\n")
        real.flush()
    return 0


def searched(
    model: str, system: str, devices: int, isl: int, osl: int, ttft_ms: float, tpot_ms: float
) -> dict[str, Any]:
    """Its own search: the seconds of the whole, and its best aggregated plan."""
    from aiconfigurator.cli.api import cli_default  # type: ignore[import-not-found]

    began = time.perf_counter()
    found = cli_default(
        model, devices, system, backend=BACKEND, isl=isl, osl=osl, ttft=ttft_ms, tpot=tpot_ms
    )
    spent = time.perf_counter() - began
    kept = found.best_configs["agg"]
    kept = kept[(kept["ttft"] <= ttft_ms) & (kept["tpot"] <= tpot_ms)]
    if not len(kept):
        return {"seconds": spent, "problem": "no aggregated plan keeps the promise"}
    best = kept.sort_values("tokens/s/gpu", ascending=False).iloc[0]
    return {
        "seconds": spent,
        "ranks": {
            "tp": int(best["tp"]) * int(best["dp"]),
            "pp": int(best["pp"]),
            "ep": int(best["moe_ep"]),
            "attention_dp": int(best["dp"]),
        },
        "batch": int(best["global_bs"]),
        "ttft_ms": float(best["ttft"]),
        "tpot_ms": float(best["tpot"]),
        "tok_s_per_device": float(best["tokens/s/gpu"]),
    }


def estimated(
    model: str, system: str, isl: int, osl: int, ranks: dict[str, int], mixture: bool, batch: int
) -> dict[str, Any]:
    """Latencies of one layout; `batch` is that of each group of attention data parallelism."""
    from aiconfigurator.cli.api import cli_estimate

    tp, groups = ranks["tp"], ranks["attention_dp"]
    experts = {"moe_tp_size": tp // ranks["ep"], "moe_ep_size": ranks["ep"]} if mixture else {}
    with yaml_remembered():
        one = cli_estimate(
            model, system, mode="agg", backend_name=BACKEND, isl=isl, osl=osl, batch_size=batch,
            tp_size=tp // groups, pp_size=ranks["pp"], attention_dp_size=groups, **experts,
        )  # fmt: skip
    return {"ttft_ms": float(one.ttft), "tpot_ms": float(one.tpot)}


_READ: dict[str, Any] = {}


@contextlib.contextmanager
def yaml_remembered() -> Iterator[None]:
    """Every estimate reads some 500 small YAML files anew; here each text is read once. Not while
    its search is timed."""
    import copy

    import yaml

    plain = yaml.safe_load

    def remembered(stream: Any) -> Any:
        text = stream if isinstance(stream, str | bytes) else stream.read()
        key = text if isinstance(text, str) else text.decode()
        if key not in _READ:
            _READ[key] = plain(key)
        return copy.deepcopy(_READ[key])

    yaml.safe_load = remembered
    try:
        yield
    finally:
        yaml.safe_load = plain


if __name__ == "__main__":
    sys.exit(main())
