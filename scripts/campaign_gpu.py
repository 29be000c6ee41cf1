"""Measure one GPU (or this CPU) within a budget, and keep the records as data.

    python scripts/campaign_gpu.py --name h200 --budget-s 570 --store runs/h200
    python scripts/campaign_gpu.py --device cpu --size tiny --name this-cpu --budget-s 60

runs operators, links, collectives, layers, generation and memory in one campaign, prints a line per
batch, and copies the records to benchmark-perf/NAME and benchmark-mem/NAME below --out, with a
system file made of the ceilings that were reached. Interrupt it at will: the same command goes on.
`--check-s` measures generations that no profile takes, on which the calibration is then checked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from analyzer.errors import CalibrationError, PlumblineError
from profilers import check
from profilers.campaign import CampaignResult, Options, Progress, run
from profilers.ceilings import system_document, to_toml
from profilers.reading import load_records, overview, published, split_by_folder, write_records


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="folder of the data, e.g. h200")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", default="auto", choices=("auto", "tiny", "small", "large"))
    parser.add_argument("--budget-s", type=float, default=570.0)
    parser.add_argument("--check-s", type=float, default=0.0, help="seconds for the check; 0: none")
    parser.add_argument("--store", default=None, help="default: runs/NAME")
    parser.add_argument("--profile", default="all")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--retake-s", type=float, default=None, help="0: take the machine as it is")
    parser.add_argument("--models", default="", help="catalog names or files, comma-separated")
    parser.add_argument("--dtypes", default="", help="number formats, comma-separated")
    parser.add_argument("--hardware", default="", help="name of the system in the records")
    parser.add_argument("--out", default=".", help="folder that holds benchmark-perf")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run, export, say what came of it; 0 when something was measured."""
    chosen = arguments(given)
    store = chosen.store or f"runs/{chosen.name}"
    options = Options(
        store=store,
        device=chosen.device,
        size=chosen.size,
        budget_s=chosen.budget_s,
        threads=chosen.threads,
        retake_s=chosen.retake_s,
        hardware=chosen.hardware,
        models=tuple(name for name in chosen.models.split(",") if name),
        dtypes=tuple(name for name in chosen.dtypes.split(",") if name),
    )
    try:
        result = run(chosen.profile, options, reporter=show)
        checked = f"{store}-check"
        if chosen.check_s > 0:
            # Never on the campaign's own models, whatever those are.
            mine = msgspec.structs.replace(
                options, store=checked, budget_s=chosen.check_s, models=()
            )
            for done in check.run(mine, reporter=show):
                conclude(done)
        export(store, chosen.name, Path(chosen.out), checked)
    except PlumblineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    conclude(result)
    return 0 if result.measured or result.resumed else 1


def show(progress: Progress) -> None:
    """One line per batch, failure and retry."""
    if progress.event == "done":
        return
    print(
        f"[{progress.elapsed_s:6.1f} s, {progress.eta_s:5.0f} s to go] "
        f"{progress.done}/{progress.total} {progress.event}: {progress.current} {progress.note}",
        flush=True,
    )


def export(store: str, name: str, out: Path, checked: str = "") -> None:
    """Copy the records to the data folders, and what they say of the machine beside them."""
    records = published(load_records(store))
    if checked and Path(checked).is_dir():
        target = out / "benchmark-perf" / name / "check.jsonl"
        count = write_records(published(load_records(checked)), target, replace=True)
        print(f"{count:5} records in {target}")
    for place, group in split_by_folder(records).items():
        room, file = place.split("/")
        target = out / f"benchmark-{room}" / name / file
        print(f"{write_records(group, target, replace=True):5} records in {target}")
    try:
        text = to_toml(system_document(name, records))
    except CalibrationError as error:
        print(f"no system file: {error}")
        return
    target = out / "benchmark-perf" / name / "measured-system.toml"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    print(f"      ceilings in {target}")
    print(f"      doubts: {overview(records).by_doubt}")


def conclude(result: CampaignResult) -> None:
    """What was done and what is left."""
    print(
        f"{result.machine}: {result.measured} measured, {result.failed} failed, "
        f"{result.resumed} done before, {result.left} left, {result.over_budget} beyond the budget "
        f"in {result.seconds:.0f} s; quality {result.quality}"
    )
    if result.interrupted or result.left:
        print("run the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
