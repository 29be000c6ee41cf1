"""The same searches by aiconfigurator and here, side by side, judged by aiconfigurator's database.

  python scripts/search_against_aiconfigurator.py --python other-venv/bin/python --out table.md

`other-venv` has `aiconfigurator==0.12.0`; nothing else of it is used. For each case its database
judges its own best aggregated plan and the layouts that come first here, each with the largest
batch that the database allows within the promise. Both see the same devices, lengths and promises,
and both search disaggregated plans as well; the time of that whole search is what is compared.

What the other side says is kept in `--store`, a line per answer: a run that was cut short goes on
where it stopped. `--minutes` bounds it.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from aiconfigurator_judge import Judge, OutOfTime

ISL, OSL, DEVICES = 4000, 500, 8
BATCHES = (*range(1, 33), *range(34, 65, 2), *range(68, 129, 4), *range(136, 513, 8))
"""Of one group of attention data parallelism."""
BEYOND = 4
JUDGED, OFFERED = 3, 12
"""Layouts of ours that its database judges; so many are offered, as it has no data for some."""
MODELS = (
    ("llama-3.1-70b", "meta-llama/Meta-Llama-3.1-70B", False),
    ("qwen3-235b-a22b-fp8", "Qwen/Qwen3-235B-A22B-FP8", True),
)
SYSTEMS = (("H100-SXM", "h100_sxm"), ("H200-SXM", "h200_sxm"))
PROMISES = ((2000.0, 50.0), (1000.0, 30.0), (4000.0, 100.0), (600.0, 25.0))


class Case(NamedTuple):
    """One search."""

    model: str
    theirs: str
    mixture: bool
    system: str
    their_system: str
    ttft_ms: float
    tpot_ms: float

    @property
    def title(self) -> str:
        return f"{self.model}, {self.system}, {self.ttft_ms / 1e3:g} s / {self.tpot_ms:g} ms"


class Ours(NamedTuple):
    """What a search here finds."""

    seconds: float
    plans: int
    layouts: list[dict[str, Any]]
    """The best batch of each layout, the best layouts first."""


CASES = tuple(
    Case(*model, *system, *promise) for model, system, promise in product(MODELS, SYSTEMS, PROMISES)
)


def main() -> int:
    """Run all cases and write the table."""
    options = _options()
    judge = Judge(options.python, Path(options.store), 60.0 * options.minutes)
    rows: list[str] = []
    for number, case in enumerate(CASES, 1):
        try:
            rows.append(row_of(case, judge))
        except OutOfTime:
            print(f"stopped before case {number} of {len(CASES)}: run again to go on")
            break
        print(rows[-1], flush=True)
    judge.close()
    text = "\n".join((HEADER.format(date=datetime.now(UTC).date()), *rows)) + "\n"
    if options.out:
        Path(options.out).write_text(text, "utf-8")
    print(text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", required=True, help="an interpreter that has aiconfigurator")
    parser.add_argument("--store", default="aiconfigurator.jsonl", help="its answers, kept")
    parser.add_argument("--out", help="the table, as Markdown")
    parser.add_argument("--minutes", type=float, default=30.0, help="stop after so many")
    return parser.parse_args()


HEADER = """\
Run on {date}. Tokens are output tokens per second and device by aiconfigurator's database.

| model, system, TTFT / TPOT | s: its, ours | its best | our first | of its best \
| best of our first three | what differs |
|---|---:|---:|---:|---:|---:|---|"""


def row_of(case: Case, judge: Judge) -> str:
    """One case: both searches, the verdicts, and where they part."""
    their = judge.ask(
        "search", model=case.theirs, system=case.their_system, devices=DEVICES, isl=ISL, osl=OSL,
        ttft_ms=case.ttft_ms, tpot_ms=case.tpot_ms,
    )  # fmt: skip
    ours = our_search(case)
    spent = f"{their['seconds']:.1f}, {ours.seconds:.2f}" if "seconds" in their else "-"
    if "problem" in their:
        first = words(ours.layouts[0]["ranks"]) if ours.layouts else "nothing either"
        return f"| {case.title} | {spent} | {their['problem']} | {first} | - | - | - |"
    verdicts = judged(case, judge, ours.layouts)
    known = [(layout, seen) for layout, seen in verdicts if seen is not None]
    theirs = their["tok_s_per_device"]
    best = f"{words(their['ranks'])}, {their['batch']} at once: {theirs:.1f}"
    if not known:
        said = "no layout of ours is in its database, or none keeps the promise by it"
        return f"| {case.title} | {spent} | {best} | - | - | - | {said} |"
    layout, seen = known[0]
    most = max(one["tok_s_per_device"] for _, one in known)
    return (
        f"| {case.title} | {spent} | {best} | {words(layout['ranks'])}, {seen['batch']} at once: "
        f"{seen['tok_s_per_device']:.1f} | {seen['tok_s_per_device'] / theirs:.2f} | "
        f"{most / theirs:.2f} | {difference(their, ours, layout, verdicts)} |"
    )


def our_search(case: Case) -> Ours:
    """One search here."""
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
    ties = found.ties()
    layouts: list[dict[str, Any]] = []
    for row in found.ranked(found.plans):
        if found.columns.prefill[row] >= 0:
            continue
        plan = found.plan(row)
        ranks = {name: int(getattr(plan, name)) for name in ("tp", "pp", "ep", "attention_dp")}
        if all(each["ranks"] != ranks for each in layouts):
            one = found.row(row)
            layouts.append({
                "ranks": ranks, "batch": one.batch, "tok_s_per_device": one.tok_s_per_device,
                "ttft_ms": 1e3 * one.ttft_s, "tpot_ms": 1e3 * one.tpot_s,
                "tie": ties is not None and row in ties,
            })  # fmt: skip
    return Ours(spent, found.plans, layouts)


def judged(
    case: Case, judge: Judge, layouts: list[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Its database's verdicts on our layouts, in our order, until three have one."""
    found: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
    for layout in layouts[:OFFERED]:
        found.append((layout, largest(case, judge, layout["ranks"])))
        if sum(seen is not None for _, seen in found) == JUDGED:
            break
    return found


def largest(case: Case, judge: Judge, ranks: dict[str, int]) -> dict[str, Any] | None:
    """The most tokens that a batch gives within the promise by its database.

    Latencies grow with the batch, nearly: halving finds the place, and the batches just beyond it
    are tried as well.
    """
    low, high = 0, len(BATCHES)
    seen: dict[int, dict[str, Any] | None] = {}
    while low < high:
        middle = (low + high) // 2
        seen[middle] = estimate(case, judge, ranks, BATCHES[middle])
        low, high = (low, middle) if seen[middle] is None else (middle + 1, high)
    for place in range(low, min(low + BEYOND, len(BATCHES))):
        if place not in seen:
            seen[place] = estimate(case, judge, ranks, BATCHES[place])
    kept = [found for found in seen.values() if found is not None]
    return max(kept, key=lambda found: found["tok_s_per_device"], default=None)


def estimate(case: Case, judge: Judge, ranks: dict[str, int], batch: int) -> dict[str, Any] | None:
    """What its database says of one batch; None where it breaks the promise or knows nothing."""
    seen = judge.ask(
        "estimate", model=case.theirs, system=case.their_system, isl=ISL, osl=OSL, ranks=ranks,
        mixture=case.mixture, batch=batch,
    )  # fmt: skip
    if "problem" in seen or seen["ttft_ms"] > case.ttft_ms or seen["tpot_ms"] > case.tpot_ms:
        return None
    many = batch * ranks["attention_dp"]
    whole_s = (seen["ttft_ms"] + (OSL - 1) * seen["tpot_ms"]) / 1e3
    rate = many * (OSL - 1) / whole_s / (ranks["tp"] * ranks["pp"])
    return {**seen, "batch": many, "tok_s_per_device": rate}


def difference(
    their: dict[str, Any],
    ours: Ours,
    first: dict[str, Any],
    verdicts: list[tuple[dict[str, Any], dict[str, Any] | None]],
) -> str:
    """Where its best layout stands here, with what we count for it."""
    unknown = [words(layout["ranks"]) for layout, seen in verdicts if seen is None]
    passed = f"; not in its database: {', '.join(unknown)}" if unknown else ""
    if first["ranks"] == their["ranks"]:
        return f"the same layout{passed}"
    same = [each for each in ours.layouts if each["ranks"] == their["ranks"]]
    if not same:
        return f"its best layout keeps the promise with no batch here{passed}"
    one = same[0]
    tie = ", a tie within the interval" if one["tie"] else ""
    return (
        f"here its best layout gives {one['tok_s_per_device'] / first['tok_s_per_device']:.2f} of "
        f"our first{tie} ({one['batch']:g} at once, TTFT {one['ttft_ms']:.0f}, TPOT "
        f"{one['tpot_ms']:.1f} ms; it says {their['batch']}, {their['ttft_ms']:.0f}, "
        f"{their['tpot_ms']:.1f}){passed}"
    )


def words(ranks: dict[str, int]) -> str:
    """Ranks in a few letters."""
    short = {"tp": "tp", "pp": "pp", "ep": "ep", "attention_dp": "adp"}
    return " ".join(f"{short[name]}{n}" for name, n in ranks.items() if n > 1) or "tp1"


if __name__ == "__main__":
    sys.exit(main())
