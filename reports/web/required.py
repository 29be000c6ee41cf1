"""What a promise needs of a machine, and what a better part would buy, as figures and tables."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.errors import ConfigError
from analyzer.requirements import Need, Required
from analyzer.sensitivity import Effect, Sensitivity
from analyzer.system import System
from analyzer.units import show
from reports.web.figure import Figure, Rule, figure

DIMENSIONS = {"FLOP/s": "compute", "B/s": "bandwidth", "B": "bytes", "s": "time"}
NAMES = {
    "compute": "compute",
    "memory_bandwidth": "memory bandwidth",
    "memory": "memory",
    "link_bandwidth": "link bandwidth",
    "link_latency": "link latency",
}
METRICS = {
    "ttft_s": "time to first token",
    "tpot_s": "time per output token",
    "e2e_s": "end to end",
    "total_tok_s": "throughput",
    "energy_J_per_token": "energy per token",
    "max_batch": "largest batch",
}
MOST = 14
LEAST = 5e-4
"""Change of a metric below which an effect is not drawn."""
HEADS = ("figure of one device", "binds", "needed", "at least, whatever the rest")


def needs(found: Required) -> list[tuple[str, ...]]:
    """Each figure: whether it binds, how much is needed, and the least of any machine."""
    return [
        (
            f"{NAMES[each.figure]}: {each.meaning}",
            ", ".join(each.binds) or "no",
            amount(each, each.value),
            amount(each, each.alone),
        )
        for each in found.needs
    ]


def amount(need: Need, value: float | None) -> str:
    """A need with its unit."""
    if value is None:
        return "any will do"
    shown = show(value, DIMENSIONS[need.unit], 3)
    return f"at most {shown}" if need.at_most else shown


def coverage(found: Required, systems: Sequence[System]) -> Figure:
    """What real systems have of each figure, over what is needed."""
    rows, missing = [], []
    for system in systems:
        try:
            shares = found.share(system)
        except ConfigError as error:
            missing.append(f"{system.name}: {error}")
            continue
        rows += [
            (NAMES[name], share, system.name)
            for name, share in shares.items()
            if 1e-6 < share < 1e6
        ]
    order = list(NAMES.values())
    rows.sort(key=lambda row: order.index(row[0]))
    return figure(
        "plumbline-require-coverage",
        "What systems have of each figure, over what is needed",
        "bar",
        (("figure", "figure"), ("share", "times what is needed"), ("system", "system")),
        rows,
        x="share",
        y="figure",
        color="system",
        log_x=True,
        rules=(Rule("x", 1.0, "needed"),),
        caption=" ".join(["Left of the line falls short.", *missing]),
    )


def tornado(found: Sensitivity, metric: str) -> Figure:
    """What each figure and rate does to a metric when it is moved alone."""
    rows = []
    for each in found.tornado(metric, LEAST)[:MOST]:
        rows.append((_label(each), each.at_low[metric], f"{each.low - 1:+.0%}".replace("-", "−"),
                     each.elasticity[metric], each.meaning))  # fmt: skip
        rows.append((_label(each), each.at_high[metric], f"{each.high - 1:+.0%}",
                     each.elasticity[metric], each.meaning))  # fmt: skip
    return figure(
        "plumbline-sensitivity",
        f"Change of {METRICS[metric]} when one thing moves by {found.spread:.0%}",
        "bar",
        (("what", "what moves"), ("change", f"change of {METRICS[metric]}", "share"),
         ("moved", "moved by"), ("elasticity", "d ln metric / d ln figure"),
         ("meaning", "meaning")),
        rows,
        x="change",
        y="what",
        color="moved",
        overlaid=True,
        caption="The widest first. Rates end at their bounds, so some move by less.",
    )  # fmt: skip


def _label(effect: Effect) -> str:
    return effect.name.replace("_", " ") + (" (rate)" if effect.kind == "rate" else "")
