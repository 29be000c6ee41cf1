"""Measure this machine.

  plumbline profile all --budget 10m
  plumbline profile operators,links --store measured --device cuda
  plumbline profile check
  plumbline profile all --budget 10m --check 10m    # both, in turns

{profiles}

Every case is answered by one record in the store, a failure by one that says why. Interrupt at any
time: the same command goes on with what is missing. `plumbline calibrate --system auto` fits this
machine to what was measured.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError
from reports.commands.stores import CHECK_STORE, DEFAULT_STORE
from reports.console import complain, write, write_json
from reports.durations import seconds, shown

if TYPE_CHECKING:
    from profilers.campaign import CampaignResult, Options
    from profilers.progress import Progress


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.description = (parser.description or "").format(profiles=_profiles())
    parser.add_argument("profile", help="one of the profiles above, several with commas, or all")
    declare_campaign(parser, DEFAULT_STORE)
    parser.add_argument("--retry-failed", action="store_true", help="take failures again")
    parser.add_argument(
        "--check", type=seconds, metavar="TIME",
        help="measure the check too, in turns with the campaign, so that both see the same machine",
    )  # fmt: skip
    parser.add_argument(
        "--check-store", default=CHECK_STORE, metavar="DIR", help=f"for the check ({CHECK_STORE})"
    )


def declare_campaign(parser: ArgumentParser, store: str) -> None:
    """Options that all campaigns share."""
    parser.add_argument("--store", default=store, metavar="DIR", help=f"records go here ({store})")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto")
    parser.add_argument(
        "--budget", type=seconds, metavar="TIME", help="for all of it: 90s, 10m, 1h; default: all"
    )
    parser.add_argument("--models", default="", metavar="LIST", help="names or config.json files")
    parser.add_argument("--dtypes", default="", metavar="LIST", help="number formats")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a CPU measurement")
    parser.add_argument("--size", default="auto", choices=("auto", "tiny", "small", "large"))
    parser.add_argument("--hardware", default="", help="name of the system in the records")
    parser.add_argument(
        "--retake", type=seconds_or_none, metavar="TIME",
        help="wait so long per batch for a disturbed machine; 0: take it as it is",
    )  # fmt: skip
    parser.add_argument(
        "--retry-noisy", action="store_true", help="take noisy, short and throttled cases again"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def seconds_or_none(text: str) -> float:
    """A duration that may be 0."""
    return 0.0 if text.strip() in ("0", "0s") else seconds(text)


def _profiles() -> str:
    """The profiles by name, those with options of their own too."""
    from profilers.options import ABOUT
    from reports.commands.shell import PROFILES

    own = {name: f"{command.about} (options of its own)" for name, command in PROFILES.items()}
    known = {**ABOUT, "all": f"{', '.join(ABOUT)}", **own}
    return "\n".join(f"  {name:<12} {about}" for name, about in known.items())


def run(options: Namespace) -> None:
    """Run the campaign."""
    from profilers.campaign import run as measure
    from profilers.options import profiles_of

    profiles_of(options.profile)
    chosen = campaign_options(options, options.retry_failed)
    if options.check is not None:
        _in_turns(options, chosen)
        return
    done = measure(options.profile, chosen, reporter=teller())
    if options.json:
        import msgspec

        write_json(msgspec.to_builtins(done))
        return
    conclude(done)
    write(f"Next: plumbline calibrate --system auto{_records(options.store)}")


def _in_turns(options: Namespace, chosen: Options) -> None:
    """The campaign and the check beside it."""
    import msgspec

    from profilers import together

    checked = msgspec.structs.replace(
        chosen, store=options.check_store, budget_s=options.check, models=()
    )
    turns = []
    for turn in together.run(options.profile, chosen, checked, reporter=teller()):
        turns.append(turn)
        if not options.json:
            conclude(turn.result)
    if options.json:
        write_json(msgspec.to_builtins(turns))
        return
    write(f"Next: plumbline calibrate --system auto{_records(options.store)}")
    write(f"and then: plumbline validate --records {options.check_store}")


def _records(store: str) -> str:
    return "" if store == DEFAULT_STORE else f" --records {store}"


def campaign_options(options: Namespace, retry_failed: bool = False) -> Options:
    """What was asked of the campaign."""
    from importlib.util import find_spec

    from profilers.campaign import Options

    if find_spec("torch") is None or find_spec("transformers") is None:
        raise ConfigError(
            "profiling needs torch and transformers: pip install 'plumbline[profile]'"
        )
    return Options(
        store=options.store,
        device=options.device,
        budget_s=options.budget,
        models=_listed(options.models),
        dtypes=_listed(options.dtypes),
        threads=options.threads,
        size=options.size,
        hardware=options.hardware,
        retake_s=options.retake,
        retry_failed=retry_failed,
        retry_noisy=options.retry_noisy,
    )


def conclude(done: CampaignResult) -> None:
    """What came of a campaign, in a few lines."""
    quality = ", ".join(f"{count} {verdict}" for verdict, count in done.quality.items())
    took = shown(done.seconds)
    write(
        f"{done.measured} measured ({quality or 'none'}), {done.failed} failed, "
        f"{done.resumed} there before, in {took}"
    )
    if done.left or done.over_budget:
        write(f"{done.left} not taken, {done.over_budget} beyond the budget; run again to go on")
    write(f"Records in {done.store}, of {done.machine}")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def teller() -> Callable[[Progress], None]:
    """Tells of the plan, every answer and every failure, with the time that is left."""

    def tell(progress: Progress) -> None:
        if progress.event == "plan":
            complain(f"{progress.total} cases to take ({progress.note})")
        elif progress.event in ("done", "failed"):
            complain(
                f"{progress.done}/{progress.total} {progress.current} {progress.event} "
                f"{progress.note}, {shown(progress.eta_s)} left"
            )

    return tell
