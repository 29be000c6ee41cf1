"""What a search leaves on disk: every plan with its verdict, and a deployment of the best."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

from analyzer.errors import ConfigError
from analyzer.search import Found
from reports.deploy import LAUNCHERS, Launch, launch, server_of
from reports.deploy_apart import SAME, fits_nodes, plural, pools, scripts
from reports.deploy_apart import manifest as split_manifest
from reports.deploy_files import benchmark_line, manifest, measurement_plan, served_of
from reports.files import replacing
from reports.search_text import layout

COLUMNS = (
    "row", "system", "plan", "tp", "pp", "ep", "attention_dp", "replicas", "batch", "devices",
    "ttft_s", "tpot_s", "e2e_s", "tok_s", "tok_s_per_device", "tok_s_per_user",
    "memory_B", "J_per_token", "usd_per_million", "keeps", "verdict",
)  # fmt: skip


def write_plans(found: Found, path: str) -> None:
    """Every plan, in the order of its rows."""
    with replacing(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number in range(found.plans):
            row = found.row(number)
            numbers = {**row._asdict(), "plan": layout(row), "verdict": found.why(number)}
            for name in ("tp", "pp", "ep", "attention_dp"):
                numbers[name] = getattr(row.plan, name)
            numbers["keeps"] = "yes" if row.keeps else "no"
            writer.writerow([_cell(numbers[name]) for name in COLUMNS])


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.7g}" if value == value else ""
    return value


def write_deployment(found: Found, row: int, folder: str) -> None:
    """Commands, manifest, measurement plan and a page that says what each is."""
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from None
    files = _apart(found, row) if found.columns.prefill[row] >= 0 else _together(found, row)
    for name, text in files.items():
        with replacing(place / name) as stream:
            stream.write(text)


def _apart(found: Found, row: int) -> dict[str, str]:
    """Of a plan with prefill servers of their own."""
    both = pools(found, row)
    files = scripts(both)
    notes = [
        f"{plural(pool.servers, pool.role + ' server')}: `vllm-{pool.role}.sh`" for pool in both
    ]
    notes += ["`proxy.sh`: vLLM's example proxy, which clients talk to", SAME]
    if fits_nodes(both):
        files["deployment.yaml"] = split_manifest(both)
        notes.append("`deployment.yaml`: the same on Kubernetes")
    else:
        notes.append("no manifest: a server spans nodes; start its ranks by hand")
    notes.append("what requests wait in queues is not in these figures: measure before you buy")
    files["README.md"] = _page(found, row, notes)
    return files


def _together(found: Found, row: int) -> dict[str, str]:
    """Of a plan whose devices read prompts and write answers."""
    served = served_of(found, row)
    chosen = server_of(served.plan)
    launches = [launch(served, server) for server in LAUNCHERS]
    own = next(each for each in launches if each.server == chosen)
    files = {
        "deployment.yaml": manifest(served, own),
        "measure.csv": measurement_plan(found, row),
        "README.md": _page(found, row, _notes(found, row, launches, own)),
    }
    for each in launches:
        files[f"{each.server}.sh"] = _script(each)
        files |= dict(each.files)
    return files


def _script(each: Launch) -> str:
    notes = "".join(f"# {note}\n" for note in each.notes)
    return f"#!/bin/sh\n{notes}exec {each.line}\n"


def _notes(found: Found, row: int, launches: list[Launch], own: Launch) -> list[str]:
    """What each file is."""
    system = shlex.quote(found.system(row).name)
    return [
        f"`deployment.yaml`: {own.server} on Kubernetes",
        *(f"`{each.server}.sh`: {each.server}'s command line" for each in launches),
        "`measure.csv`: what to measure; fill in ttft_ms, tpot_ms and e2e_ms, then run\n"
        f"  `plumbline calibrate --system {system} --perf-dir .`",
    ]


def _page(found: Found, row: int, notes: list[str]) -> str:
    one = found.row(row)
    answered = found.answer(row)
    lines = [
        f"# {found.question.model.name} on {one.system}: {layout(one)}",
        "",
        f"Predicted for {one.batch:g} sequences per replica, {plural(one.replicas, 'replica')}: "
        f"TTFT {1e3 * one.ttft_s:.4g} ms, TPOT {1e3 * one.tpot_s:.4g} ms, "
        f"{one.tok_s_per_device:.4g} tokens/s per device. Rates: {answered.basis.label}.",
        "",
    ]
    for name, title in (("ttft_s", "TTFT"), ("tpot_s", "TPOT")):
        held = found.interval(row, name, answered)
        if held is not None:
            ends = f"{1e3 * float(held.low):.4g} to {1e3 * float(held.high):.4g} ms"
            lines.append(f"- {title}: {held.level:.0%} of measurements lay in {ends}.")
    lines += [f"- {warning}" for warning in answered.warnings]
    lines += ["", *(f"- {note}" for note in notes)]
    lines += [
        "",
        "To measure the point itself:",
        "",
        f"    {benchmark_line(found, one)}",
        "",
    ]
    return "\n".join(lines)
