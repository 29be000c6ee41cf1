"""What a better part would buy: every figure and every rate moved alone.

  plumbline sensitivity --model llama-3-70b --system H100-SXM --tp 8 --batch 8 --metric tpot
  plumbline sensitivity --model llama-3-8b --system RTX3090 --spread 0.25 --svg tornado.svg

Bars show the metric's change when a figure falls and rises by the spread (10 %).
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from reports.commands.options import (
    basis_of,
    declare_basis,
    declare_plan,
    declare_question,
    model_of,
    plan_of,
    system_of,
)
from reports.console import show, write, write_json

if TYPE_CHECKING:
    from analyzer.sensitivity import Effect, Sensitivity

METRICS = {
    "ttft": "ttft_s",
    "tpot": "tpot_s",
    "e2e": "e2e_s",
    "throughput": "total_tok_s",
    "energy": "energy_J_per_token",
    "sequences": "max_batch",
}
WORDS = {
    "ttft_s": ("time to first token", "s"),
    "tpot_s": ("time per token", "s"),
    "e2e_s": ("end to end", "s"),
    "total_tok_s": ("tokens in and out", "tok/s"),
    "energy_J_per_token": ("energy", "J/token"),
    "max_batch": ("sequences that fit", ""),
}
EXPLAINED = 6
"""Rates at the top of the tornado whose meaning is said."""
_HALF = 20
"""Characters of the longest bar to one side."""


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    declare_question(parser)
    work = parser.add_argument_group("work")
    for name, usual in (("batch", 1), ("input", 1024), ("output", 128), ("beams", 1)):
        work.add_argument(f"--{name}", type=int, default=usual, metavar="N")
    work.add_argument("--arrival", choices=("static", "closed_loop"), default="static")
    declare_plan(parser)
    declare_basis(parser)
    shown = parser.add_argument_group("output")
    shown.add_argument("--metric", choices=tuple(METRICS), default="e2e")
    shown.add_argument("--spread", type=float, default=0.1, metavar="S", help="0.1: ±10 %%")
    shown.add_argument("--top", type=int, default=12, metavar="N", help="figures to show")
    shown.add_argument("--svg", metavar="FILE", help="the tornado as SVG")
    shown.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Shake, and draw the tornado."""
    from analyzer.sensitivity import sensitivity
    from analyzer.workload import Workload

    model, (system, assumed) = model_of(options), system_of(options)
    load = Workload(
        batch=options.batch,
        input_tokens=options.input,
        output_tokens=options.output,
        beams=options.beams,
    )
    basis = basis_of(options, system, options.arrival)
    plan = plan_of(options, model)
    found = sensitivity(model, system, plan, load, basis, options.arrival, options.spread)
    metric = METRICS[options.metric]
    if options.svg:
        from reports.tornado import write_tornado

        write_tornado(found, metric, options.top, options.svg)
    if options.json:
        write_json(_document(found))
        return
    _tell(found, metric, options.top, assumed)


def _tell(found: Sensitivity, metric: str, top: int, assumed: tuple[str, ...]) -> None:
    from reports.table import table

    listed = found.tornado(metric)
    widest = max((_finite(effect, metric) for effect in listed), default=0.0) or 1.0
    rows = [
        [
            effect.name.replace("_", " ") if effect.kind == "figure" else effect.name,
            effect.kind,
            _change(effect.at_low[metric]),
            _bar(effect, metric, widest),
            _change(effect.at_high[metric]),
            f"{effect.elasticity[metric]:+.2f}",
            "stopped at its bound" if effect.limited else "",
        ]
        for effect in listed[:top]
    ]
    down, up = f"-{found.spread:.0%}", f"+{found.spread:.0%}"
    columns = ("", "kind", down, "", up, "elasticity", " ")
    base = float(getattr(found.base.prediction, metric))
    title, unit = WORDS[metric]
    write(f"{title} {base:.5g} {unit}; rates: {found.base.basis.label}")
    show(table(columns, rows, left=("", "kind", " ")))
    if len(listed) > top:
        write(f"{len(listed) - top} more move it less (--top)")
    for effect in listed[: min(top, EXPLAINED)]:
        if effect.kind == "rate":
            write(f"{effect.name}, {effect.unit}: {effect.meaning}")
    for note in (*assumed, *found.base.warnings):
        write(f"note: {note}")


def _finite(effect: Effect, metric: str) -> float:
    ends = (effect.at_low[metric], effect.at_high[metric])
    return max((abs(end) for end in ends if end == end), default=0.0)


def _change(value: float) -> str:
    return f"{value:+.2%}" if value == value else "cannot run"


def _bar(effect: Effect, metric: str, widest: float) -> str:
    """Both ends around the middle: '░' where the figure falls, '█' where it rises."""
    halves = {-1: " " * _HALF, 1: " " * _HALF}
    for value, ink in ((effect.at_low[metric], "░"), (effect.at_high[metric], "█")):
        if value != value or value == 0.0:
            continue
        length = max(round(abs(value) / widest * _HALF), 1)
        side = 1 if value > 0 else -1
        halves[side] = ink * length + halves[side][length:]
    return f"{halves[-1][::-1]}│{halves[1]}"


def _document(found: Sensitivity) -> dict[str, Any]:
    prediction = found.base.prediction
    return {
        "schema": 1,
        "spread": found.spread,
        "rates": found.base.basis.label,
        "base": {name: getattr(prediction, name) for name in METRICS.values()},
        "effects": [effect._asdict() for effect in found.effects],
        "warnings": list(found.base.warnings),
    }
