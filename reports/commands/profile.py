"""Measure this machine: operators, links, collectives, layers, generations, memory.

  plumbline profile all --store measured/ --budget 1800
  plumbline profile operators --store measured/ --device cuda

Every case is answered by one record in the store, a failure by one that says why. The same command
goes on with what is missing. What comes out is read by plumbline calibrate --records.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from reports.console import complain, write, write_json

if TYPE_CHECKING:
    from profilers.progress import Progress


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("profile", help="operators, links, collectives, layers, ..., or all")
    parser.add_argument("--store", required=True, metavar="DIR", help="where the records go")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto")
    parser.add_argument("--budget", type=float, metavar="S", help="seconds for all of it")
    parser.add_argument("--models", default="", metavar="LIST", help="names or config.json files")
    parser.add_argument("--dtypes", default="", metavar="LIST", help="number formats")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a CPU measurement")
    parser.add_argument("--size", default="auto", choices=("auto", "tiny", "small", "large"))
    parser.add_argument("--hardware", default="", help="name of the system in the records")
    parser.add_argument("--retry-failed", action="store_true", help="take failures again")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Run the campaign."""
    import msgspec

    from profilers.campaign import Options
    from profilers.campaign import run as measure
    from profilers.options import profiles_of

    profiles_of(options.profile)
    chosen = Options(
        store=options.store,
        device=options.device,
        budget_s=options.budget,
        models=_listed(options.models),
        dtypes=_listed(options.dtypes),
        threads=options.threads,
        size=options.size,
        hardware=options.hardware,
        retry_failed=options.retry_failed,
    )
    done = measure(options.profile, chosen, reporter=_tell)
    if options.json:
        write_json(msgspec.to_builtins(done))
        return
    quality = ", ".join(f"{count} {verdict}" for verdict, count in done.quality.items())
    write(
        f"{done.measured} measured ({quality}), {done.failed} failed, {done.resumed} there before"
    )
    if done.left or done.over_budget:
        write(f"{done.left} not taken, {done.over_budget} beyond the budget; run again to go on")
    write(f"records in {done.store}, of {done.machine}")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _tell(progress: Progress) -> None:
    if progress.event in ("done", "failed"):
        complain(
            f"{progress.done}/{progress.total} {progress.current} {progress.event} "
            f"{progress.note}, {progress.eta_s:.0f} s left"
        )
