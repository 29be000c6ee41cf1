"""From a worker's answer to the record that is stored."""

from __future__ import annotations

import subprocess
import time
from functools import cache
from importlib import metadata
from pathlib import Path

from analyzer.records import Flag, Provenance, Record, Scalar, Scenario
from profilers.cases import Case, Described, Failure, Outcome

DEFINITIONS = {
    "latency_s": "median over the samples; one call, or one unit of a call that repeats it",
    "ttft_s": "start of the prefill call until the first token of every sequence is on the host",
    "tpot_s": "(e2e − ttft) / (output − 1)",
    "e2e_s": "start of the prefill call until the last token of every sequence is on the host",
}


def outcome_record(case: Case, outcome: Outcome, described: Described) -> Record:
    """The record of a case that was measured."""
    repeats = max((len(values) for values in outcome.samples.values()), default=None)
    return Record(
        kind=case.kind,
        metrics=outcome.metrics,
        provenance=provenance(tuple(outcome.metrics)),
        scenario=_with_hardware(case.scenario, described),
        case=case.case,
        samples=outcome.samples,
        spread=outcome.spread,
        repeats=repeats,
        derived=outcome.derived,
        flags=outcome.flags,
        environment={**_environment(case, described), **outcome.notes},
    )


def failure_record(case: Case, failure: Failure, described: Described) -> Record:
    """The record of a case that could not be measured: no metrics, and a flag that says why."""
    return Record(
        kind=case.kind,
        metrics={},
        provenance=provenance(()),
        scenario=_with_hardware(case.scenario, described),
        case=case.case,
        flags=(Flag(code=f"failed-{failure.code}", reason=failure.reason),),
        environment=_environment(case, described),
    )


def _with_hardware(scenario: Scenario, described: Described) -> Scenario:
    import msgspec

    if scenario.hardware:
        return scenario
    return msgspec.structs.replace(scenario, hardware=described.machine.name)


def _environment(case: Case, described: Described) -> dict[str, Scalar]:
    environment = described.environment
    return {
        **environment.facts,
        **environment.circumstances,
        "environment": environment.fingerprint,
        "profile": case.profile,
    }


def provenance(metrics: tuple[str, ...]) -> Provenance:
    """Our own measurement, today, by this version of the suite."""
    version, commit = suite_version()
    return Provenance(
        source="plumbline profile",
        document=f"plumbline {version}",
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        commit=commit,
        definitions={name: DEFINITIONS[name] for name in metrics if name in DEFINITIONS},
    )


@cache
def suite_version() -> tuple[str, str]:
    """Version of the suite and, in a checkout, its commit with `+dirty` where files differ."""
    try:
        version = metadata.version("plumbline")
    except metadata.PackageNotFoundError:
        version = "not installed"
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return version, ""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    dirty = _git(root, "status", "--porcelain", "--untracked-files=no")
    return version, f"{head}+dirty" if head and dirty else head


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            ["git", "-C", str(root), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
