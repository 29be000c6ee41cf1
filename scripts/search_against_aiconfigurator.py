"""The same searches by aiconfigurator and here, side by side in one run.

  python scripts/search_against_aiconfigurator.py --python other-venv/bin/python

`other-venv` has `aiconfigurator==0.12.0`; nothing else of it is used. Its database is the judge of
both. For each case it judges its own best aggregated plan, and the layouts that come first here,
each with the batch that the database allows. Both see the same devices, lengths and promises, and
both search disaggregated plans as well; the time of that whole search is what is compared.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import subprocess
import sys
import time
import warnings
from typing import Any, NamedTuple

ISL, OSL, DEVICES = 4000, 500, 8
BATCHES = (4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 384, 512)
LAYOUTS, OFFERED = 3, 16
"""Of ours, judged by its database; so many are offered, as it has no data for some."""


class Case(NamedTuple):
    """One search."""

    model: str
    theirs: str
    system: str
    their_system: str
    ttft_ms: float
    tpot_ms: float


MODELS = (
    ("llama-3.1-70b", "meta-llama/Meta-Llama-3.1-70B"),
    ("qwen3-235b-a22b-fp8", "Qwen/Qwen3-235B-A22B-FP8"),
)
SYSTEMS = (("H100-SXM", "h100_sxm"), ("H200-SXM", "h200_sxm"))
PROMISES = ((2000.0, 50.0), (1000.0, 30.0))
CASES = tuple(
    Case(*model, *system, *promise)
    for model in MODELS
    for system in SYSTEMS
    for promise in PROMISES
)


def main() -> int:
    """Run all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="an interpreter that has aiconfigurator")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    options = parser.parse_args()
    if options.worker:
        return worker()
    if not options.python:
        parser.error("--python is missing")
    return compare(options.python, CASES[: options.cases])


def compare(python: str, cases: tuple[Case, ...]) -> int:
    """Ask both, let the database judge, print as we go."""
    print(
        f"{'case':<52} {'their s':>8} {'our s':>6} {'their best':>26} {'by its database':>16} "
        f"{'our first':>20} {'by its database':>16} {'of three':>9} {'ratios':>13}"
    )
    with subprocess.Popen(  # noqa: S603
        [python, __file__, "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        for case in cases:
            mine_s, layouts, plans = our_search(case)
            asked = {**case._asdict(), "layouts": layouts}
            print_case(case, ask(other, asked), mine_s, layouts, plans)
        if other.stdin is not None:
            other.stdin.close()
    return 0


def ask(other: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any]:
    """One line to the worker, one back."""
    if other.stdin is None or other.stdout is None:
        raise SystemExit("the worker has no pipes")
    other.stdin.write(json.dumps(request) + "\n")
    other.stdin.flush()
    line = other.stdout.readline()
    if not line:
        raise SystemExit("the worker died; run it by hand with --worker to see why")
    return json.loads(line)


def our_search(case: Case) -> tuple[float, list[dict[str, Any]], int]:
    """Seconds of one search here, its first layouts, and how many plans it saw."""
    from analyzer import basis
    from analyzer.models_catalog import load
    from analyzer.search import Budget, Offer, Question, Space, search
    from analyzer.systems_catalog import load_system
    from analyzer.workload import SLO

    system, model = load_system(case.system), load(case.model)
    began = time.perf_counter()
    found = search(
        Question(
            model=model,
            offers=(Offer(system, basis.calibrated(system, "vllm-v1", "closed_loop")),),
            input_tokens=ISL,
            output_tokens=OSL,
            slo=SLO(ttft_s=case.ttft_ms / 1e3, tpot_s=case.tpot_ms / 1e3),
            budget=Budget(devices=DEVICES),
            space=Space(disaggregated=True),
            engine="vllm-v1",
        )
    )
    spent = time.perf_counter() - began
    layouts: list[dict[str, Any]] = []
    for row in found.ranked(found.plans):
        if found.columns.prefill[row] >= 0:
            continue
        plan = found.plan(row)
        ranks = {name: int(getattr(plan, name)) for name in ("tp", "pp", "ep", "attention_dp")}
        if all(each["ranks"] != ranks for each in layouts):
            layouts.append({
                "ranks": ranks,
                "batch": float(found.columns.batch[row]),
                "tok_s_per_device": float(found.columns.tok_s_per_device[row]),
            })  # fmt: skip
        if len(layouts) == OFFERED:
            break
    return spent, layouts, found.plans


def print_case(
    case: Case, their: dict[str, Any], mine_s: float, layouts: list[dict[str, Any]], plans: int
) -> None:
    """One line of the table, and one per layout of ours."""
    title = f"{case.model} {case.system} TTFT {case.ttft_ms:g} TPOT {case.tpot_ms:g}"
    if "problem" in their:
        print(f"{title:<52} {their['problem']}")
        return
    rates = [each["tok_s_per_device"] for each in their["judged"] if each["tok_s_per_device"]]
    first = rates[0] if rates else float("nan")
    most = max((rate for rate in rates if rate == rate), default=float("nan"))
    theirs = their["tok_s_per_device"]
    print(
        f"{title:<52} {their['seconds']:8.1f} {mine_s:6.2f} {their['best']:>26} {theirs:16.1f} "
        f"{words(layouts[0]['ranks']) if layouts else '-':>20} {first:16.1f} {most:9.1f} "
        f"{first / theirs:6.3f} {most / theirs:6.3f}   ({plans} plans here)"
    )
    for layout, each in zip(layouts, their["judged"], strict=False):
        said = each["problem"] or (
            f"batch {each['batch']}: TTFT {each['ttft_ms']:.0f}, TPOT {each['tpot_ms']:.1f} ms, "
            f"{each['tok_s_per_device']:.1f} tok/s/device"
        )
        own = f"here batch {layout['batch']:g}: {layout['tok_s_per_device']:.1f}"
        print(f"    {words(layout['ranks']):<22} {own:<28} its database, {said}", flush=True)


def words(ranks: dict[str, int]) -> str:
    """Ranks in a few letters."""
    return " ".join(f"{name.replace('attention_', 'a')}{n}" for name, n in ranks.items() if n > 1)


def worker() -> int:
    """Under the other interpreter: search, then judge layouts."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    real = sys.stdout
    for line in sys.stdin:
        request = json.loads(line)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                reply = answered(request)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reply = {"problem": f"{type(error).__name__}: {error}".splitlines()[0]}
        real.write(json.dumps(reply) + "\n")
        real.flush()
    return 0


def answered(request: dict[str, Any]) -> dict[str, Any]:
    """Its own best aggregated plan, and what its database says of ours."""
    from aiconfigurator.cli.api import cli_default  # type: ignore[import-not-found]

    began = time.perf_counter()
    found = cli_default(
        request["theirs"], DEVICES, request["their_system"], backend="vllm", isl=ISL, osl=OSL,
        ttft=request["ttft_ms"], tpot=request["tpot_ms"],
    )  # fmt: skip
    spent = time.perf_counter() - began
    kept = found.best_configs["agg"]
    kept = kept[(kept["ttft"] <= request["ttft_ms"]) & (kept["tpot"] <= request["tpot_ms"])]
    if not len(kept):
        raise ValueError("its search finds no aggregated plan that keeps the promise")
    best = kept.sort_values("tokens/s/gpu", ascending=False).iloc[0]
    return {
        "seconds": spent,
        "best": f"{best['parallel']} b{best['global_bs']}",
        "tok_s_per_device": float(best["tokens/s/gpu"]),
        "judged": answered_first(request),
    }


def answered_first(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Verdicts on our layouts in their order, until three of them have one."""
    found: list[dict[str, Any]] = []
    for layout in request["layouts"]:
        found.append(judged(request, layout))
        if sum(each["tok_s_per_device"] is not None for each in found) == LAYOUTS:
            break
    return found


def judged(request: dict[str, Any], layout: dict[str, Any]) -> dict[str, Any]:
    """The batch of a layout that its database likes best within the promise."""
    from aiconfigurator.cli.api import cli_estimate

    ranks = layout["ranks"]
    groups, tp = ranks["attention_dp"], ranks["tp"]
    dense = "llama" in request["theirs"].lower()
    moe = {} if dense else {"moe_tp_size": tp // ranks["ep"], "moe_ep_size": ranks["ep"]}
    best: dict[str, Any] = {"tok_s_per_device": None, "problem": "no batch keeps the promise"}
    for batch in BATCHES:
        try:
            one = cli_estimate(
                request["theirs"], request["their_system"], mode="agg", backend_name="vllm",
                isl=ISL, osl=OSL, batch_size=batch, tp_size=tp // groups, pp_size=ranks["pp"],
                attention_dp_size=groups, **moe,
            )  # fmt: skip
        except (RuntimeError, ValueError, KeyError) as error:
            if best["tok_s_per_device"] is None:
                best["problem"] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            continue
        if one.tpot > request["tpot_ms"]:
            break  # larger batches are slower still
        if one.ttft > request["ttft_ms"]:
            continue
        whole_s = (one.ttft + (OSL - 1) * one.tpot) / 1e3
        rate = batch * groups * (OSL - 1) / whole_s / (tp * ranks["pp"])
        if best["tok_s_per_device"] is None or rate > best["tok_s_per_device"]:
            best = {
                "tok_s_per_device": rate, "batch": batch * groups, "ttft_ms": one.ttft,
                "tpot_ms": one.tpot, "problem": "",
            }  # fmt: skip
    return best


if __name__ == "__main__":
    sys.exit(main())
