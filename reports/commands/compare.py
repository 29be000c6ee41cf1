"""Models, systems, plans and use cases side by side.

  plumbline compare --model llama-2-7b,llama-2-70b --system A100-SXM-80GB,H100-SXM --tp 1,8
  plumbline compare --model llama-2-7b,llama-2-70b --system H100-SXM --match latency --devices 16
  plumbline compare --model llama-3.1-8b --system L40S --use-case chat,rag,code

Commas make columns; lists of one length go together, single values go with all. With --match, the
fewest devices on which each other model keeps the first one's pace.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

import msgspec

from analyzer.errors import ConfigError
from analyzer.models_catalog import load as load_model
from reports.commands.options import basis_of, declare_basis, declare_plan, plan_of, system_of
from reports.commands.sweep_axes import axis
from reports.console import show, write, write_json

if TYPE_CHECKING:
    from analyzer.workload import Workload
    from reports.compare import Case, Compared

_UNITS = {
    "ttft_s": ("TTFT, ms", 1e3),
    "tpot_s": ("TPOT, ms", 1e3),
    "e2e_s": ("E2E, s", 1.0),
    "decode_tok_s": ("decoding, tok/s", 1.0),
    "total_tok_s": ("in and out, tok/s", 1.0),
    "memory_B": ("memory, GB per device", 1e-9),
    "max_batch": ("sequences that fit", 1.0),
    "energy_J_per_token": ("J per token", 1.0),
    "usd_per_million_tokens": ("$ per million tokens", 1.0),
}


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", metavar="LIST", help="catalog names, hub ids, config.json files")
    parser.add_argument("--system", metavar="LIST", help="catalog names or .toml files")
    work = parser.add_argument_group("work")
    work.add_argument("--use-case", metavar="LIST", help="chat, qa, rag, summarization, code, ...")
    for name, usual in (("batch", 1), ("input", 1024), ("output", 128)):
        work.add_argument(f"--{name}", type=int, default=usual, metavar="N")
    work.add_argument("--arrival", choices=("static", "closed_loop"), default="static")
    declare_plan(parser)
    declare_basis(parser)
    parser.set_defaults(tp="1")
    next(a for a in parser._actions if a.dest == "tp").type = str
    pace = parser.add_argument_group("keeping pace with the first")
    pace.add_argument("--match", metavar="WHAT", help="ttft, tpot, e2e or latency (both)")
    pace.add_argument("--devices", type=int, default=8, metavar="N", help="most to look at")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Answer all and lay them side by side."""
    from reports.compare import compare

    found = compare(cases(options))
    paces = _paces(found, options) if options.match else []
    if options.json:
        write_json(_document(found, paces))
        return
    _tell(found)
    for line in paces:
        write(str(line["says"]))


def cases(options: Namespace) -> list[Case]:
    """One case per column."""
    from reports.compare import Case

    for name in ("model", "system"):
        if not getattr(options, name):
            raise ConfigError(f"--{name} is missing")
    columns: dict[str, list[Any]] = {
        "model": options.model.split(","),
        "system": options.system.split(","),
        "tp": list(axis("tp", options.tp)),
        "use_case": options.use_case.split(",") if options.use_case else [""],
    }
    listed = []
    for one in _together(columns):
        model = load_model(one["model"].strip())
        system, _ = system_of(Namespace(system=one["system"].strip()))
        given = Namespace(**{**vars(options), "tp": one["tp"]})
        load = _load(options, one["use_case"].strip())
        words = (model.name, system.name, f"tp{one['tp']}", one["use_case"])
        label = " ".join(word for word in words if word)
        basis = basis_of(given, system, options.arrival)
        plan = plan_of(given, model)
        listed.append(Case(label, model, system, plan, load, basis, options.arrival))
    return listed


def _together(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Lists of one length side by side; a single value goes with all of them."""
    lengths = {name: len(values) for name, values in columns.items() if len(values) > 1}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise ConfigError(f"lists must have one length: {said}")
    count = max(lengths.values(), default=1)
    return [
        {name: values[place] if len(values) > 1 else values[0] for name, values in columns.items()}
        for place in range(count)
    ]


def _load(options: Namespace, named: str) -> Workload:
    from analyzer.use_cases import use_case
    from analyzer.workload import Workload

    if named:
        return use_case(named).workload(options.batch)
    return Workload(batch=options.batch, input_tokens=options.input, output_tokens=options.output)


def _tell(found: Compared) -> None:
    from reports.table import table

    rows = []
    for metric, (title, scale) in _UNITS.items():
        best = found.best(metric)
        cells = []
        for place, side in enumerate(found.sides):
            value = side.value(metric)
            if value != value:
                cells.append("–")
                continue
            text = f"{value * scale:.4g}"
            held = side.interval(metric)
            if held is not None:
                text += f" ({held[0] * scale:.3g}–{held[1] * scale:.3g})"
            if place and found.sides[0].value(metric) > 0:
                text += f" ×{found.ratio(metric, place):.3g}"
                text += " tie" if found.tied(metric, place) else ""
            cells.append(text + (" *" if best == place and len(found.sides) > 1 else ""))
        rows.append([title, *cells])
    rows.append(["keeps its promise", *(_promise(side) for side in found.sides)])
    show(table(["", *(side.case.label for side in found.sides)], rows, left=("",)))
    write("* best; in brackets where measured ones lie; × and ties against the first")
    for side in found.sides:
        if side.problem:
            write(f"{side.case.label}: {side.problem}")
        elif side.answer is not None:
            write(f"{side.case.label}: rates {side.answer.basis.label}")
            for warning in side.answer.warnings:
                write(f"  note: {warning}")


def _promise(side: Any) -> str:
    slo = side.case.workload.slo
    if slo is None or side.answer is None:
        return "–"
    broken = [
        name.removesuffix("_s").upper()
        for name, promised in msgspec.structs.asdict(slo).items()
        if promised is not None and side.value(name) > promised
    ]
    return f"breaks {', '.join(broken)}" if broken else "yes"


def _paces(found: Compared, options: Namespace) -> list[dict[str, Any]]:
    from analyzer.search import Offer
    from reports.compare import keep_pace
    from reports.search_text import layout

    first = found.sides[0]
    if first.answer is None:
        raise ConfigError(f"--match: the first cannot run: {first.problem}")
    paces: list[dict[str, Any]] = []
    for side in found.sides[1:]:
        case = side.case
        offers = [Offer(case.system, case.basis)]
        searched = keep_pace(first.answer, case.model, offers, options.match, options.devices)
        best = searched.best()
        name = f"{case.model.name} on {case.system.name}"
        if best is None:
            says = f"{name}: no plan of up to {options.devices} devices keeps the first one's pace"
            paces.append({"case": case.label, "devices": None, "plan": None, "says": says})
            continue
        row = searched.row(best)
        says = (
            f"{name}: {row.devices} devices ({layout(row)}) keep the first one's pace: TTFT "
            f"{1e3 * row.ttft_s:.4g} ms, TPOT {1e3 * row.tpot_s:.4g} ms"
        )
        paces.append(
            {"case": case.label, "devices": row.devices, "plan": layout(row), "says": says}
        )
    return paces


def _document(found: Compared, paces: list[dict[str, Any]]) -> dict[str, Any]:
    from reports.compare import METRICS

    sides = [
        {
            "label": side.case.label,
            "problem": side.problem or None,
            "rates": side.case.basis.label,
            **{metric: side.value(metric) for metric in METRICS},
            "interval": {metric: side.interval(metric) for metric in METRICS},
            "warnings": list(side.answer.warnings) if side.answer else [],
        }
        for side in found.sides
    ]
    return {"schema": 1, "sides": sides, "pace": paces}
