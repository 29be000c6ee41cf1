"""An answer for people: what was asked, what it takes, what fills the memory, what would help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from analyzer.answer import Answer
from analyzer.basis import ORIGINS
from analyzer.explain import Line, bound, levers, lines
from analyzer.predict import sizes
from analyzer.units import show

_TIMES = {
    "ttft_s": "time to first token",
    "tpot_s": "time per output token",
    "e2e_s": "end to end",
}
_THROUGHPUTS = {
    "prefill_tok_s": "prefill",
    "decode_tok_s": "decoding",
    "total_tok_s": "prompt and output",
}
_BAR = 30
_REMEDIES = {
    "compute": "narrower arithmetic (--compute fp8), more devices, or shorter prompts would help",
    "network": "fewer tensor-parallel ranks, or faster links, would help",
    "host link": "less on the host, narrower weights, or a larger batch would help",
    "overhead": "a larger batch or fewer, fused kernels would help",
}


def summary(found: Answer, detail: bool = False) -> Iterator[Any]:
    """Renderables, top to bottom."""
    listed = lines(found)
    yield Text(_headline(found), style="bold")
    yield Text(_layout(found), style="dim")
    yield _figures(found)
    yield _memory(found)
    yield from _remarks(found, listed)
    if detail:
        yield from _operators(found, listed)


def _headline(found: Answer) -> str:
    total, active = sizes(found.model)
    size = f"{_billions(total)} parameters"
    if active < total:
        size += f", {_billions(active)} active"
    devices = int(found.plan.devices)
    return f"{found.model.name} ({size}) on {devices} x {found.system.device.name}"


def _billions(number: int) -> str:
    return f"{number / 1e9:.4g} billion"


def _layout(found: Answer) -> str:
    plan, load = found.plan, found.workload
    cuts = {name: getattr(plan, name) for name in ("tp", "pp", "dp", "ep", "attention_dp")}
    parts = [f"{name} {value}" for name, value in cuts.items() if value != 1]
    parts += [f"weights {plan.weights}", f"cache {plan.kv or plan.activations}"]
    arrival = "batch" if found.arrival == "static" else found.arrival.replace("_", " ")
    parts += [f"{arrival} {load.batch}", f"{load.input_tokens} in, {load.output_tokens} out"]
    return " · ".join(parts)


def _figures(found: Answer) -> Table:
    some = found.interval("tpot_s")
    whose = "by the sources" if found.basis.ladder else "of measurements"
    heading = f"{some.level:.0%} {whose}" if some else ""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("latency")
    table.add_column("predicted", justify="right")
    table.add_column(heading)
    for name, label in _TIMES.items():
        value = float(getattr(found.prediction, name))
        table.add_row(label, show(value, "time", 3), _between(found, name, "time", ""))
    table.add_section()
    for name, label in _THROUGHPUTS.items():
        value = float(getattr(found.prediction, name))
        table.add_row(
            f"{label}, whole system",
            f"{_count(value)} tok/s",
            _between(found, name, "count", " tok/s"),
        )
    for label, text in _costs(found):
        table.add_row(label, text, "")
    return table


def _between(found: Answer, metric: str, dimension: str, unit: str) -> str:
    held = found.interval(metric)
    if held is None:
        return ""
    write = _count if dimension == "count" else lambda value: show(value, dimension, 3)
    return f"{write(float(held.low))} to {write(float(held.high))}{unit}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _costs(found: Answer) -> Iterator[tuple[str, str]]:
    energy_J, usd = found.prediction.energy_J_per_token, found.prediction.usd_per_million_tokens
    if energy_J is not None:
        yield "energy per output token", f"{float(energy_J):.3g} J"
    if usd is not None:
        yield "cost per million output tokens", f"{float(usd):.3g} USD"


def _memory(found: Answer) -> Table:
    memory, has_B = found.prediction.memory, found.system.device.memory_B
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("memory of the fullest device")
    table.add_column("", justify="right")
    table.add_column("")
    for name, value in memory._asdict().items():
        if float(value) > 0:
            label = name.removesuffix("_B")
            table.add_row(label, show(float(value), "bytes", 3), _bar(float(value) / has_B))
    total_B = float(memory.total_B)
    of = f"{show(total_B, 'bytes', 3)} of {show(has_B, 'bytes', 3)}"
    table.add_section()
    table.add_row("total", of, _bar(total_B / has_B))
    for label, text in _readings(found):
        table.add_row(label, text, "")
    most = float(found.prediction.max_batch)
    if most < 1e9:
        table.add_row("largest batch that fits", f"{most:.0f}", "")
    return table


def _readings(found: Answer) -> Iterator[tuple[str, str]]:
    """The peak as others count it."""
    read = found.peaks()
    yield "peak of the allocator", show(float(read.allocated_B), "bytes", 3)
    if read.pool_B is None:
        yield "in nvidia-smi, at least", show(float(read.driver_B), "bytes", 3)
        return
    yield "in nvidia-smi, set aside", show(float(read.driver_B), "bytes", 3)
    if float(read.cache_tokens) > 0:
        room = f"{show(float(read.cache_B), 'bytes', 3)}, {float(read.cache_tokens):,.0f} tokens"
        yield "of it for the cache", room


def _bar(share: float) -> str:
    return "█" * max(round(min(share, 1.0) * _BAR), 0) + ("" if share <= 1 else "▶")


def _remarks(found: Answer, listed: list[Line]) -> Iterator[Text]:
    binds = bound(found, listed)
    yield Text(
        f"Prefill is bound by {binds.prefill}, decoding by {binds.decode}, "
        f"the whole by {binds.overall}: {_remedy(found, binds.overall)}."
    )
    gains = [f"{one.name} {one.gain:.1%}" for one in levers(found) if one.gain >= 0.0005]
    if gains:
        by = ", by the rates alone" if found.basis.ladder else ""
        yield Text(
            f"10 % more of one of these takes so much off the whole{by}: {', '.join(gains)}."
        )
    yield Text(f"Rates: {_basis(found)}.")
    if found.basis.ladder:
        from reports.sources_text import credits

        yield from credits(found)
    for warning in found.warnings:
        yield Text(f"Note: {warning}.", style="yellow")


def _remedy(found: Answer, binds: str) -> str:
    if binds != "memory":
        return _REMEDIES[binds]
    memory = found.prediction.memory
    cache_B = float(memory.kv_B) + float(memory.state_B)
    if cache_B > float(memory.weights_B):
        return "a narrower cache (--kv fp8), or shorter contexts, would help"
    room = float(found.prediction.max_batch) > float(found.workload.batch)
    bigger = "a larger batch (more tokens per read), " if room else ""
    return f"{bigger}narrower weights (--weights fp8 or int4), or more tp would help"


def _basis(found: Answer) -> str:
    basis = found.basis
    if basis.calibration is None:
        return basis.label
    held = basis.calibration
    known = sum(fitted.identified for fitted in held.rates.values())
    return (
        f"{basis.label}, fitted to {held.rows} measurements of {held.models} models; "
        f"{known} of {len(held.rates)} rates identified"
    )


def _operators(found: Answer, listed: list[Line]) -> Iterator[Any]:
    for phase, title in (("prefill", "prefill of the batch"), ("decode", "one output token")):
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
        for heading, align in _COLUMNS.items():
            table.add_column(heading, justify=align, no_wrap=True)
        if found.basis.ladder:
            table.add_column("by", no_wrap=True)
        for line in listed:
            if line.phase == phase:
                table.add_row(*_cells(line), *([_by(line)] if found.basis.ladder else []))
        yield table
    used = dict.fromkeys(line.origin for line in listed)
    for origin in used:
        yield Text(f"{origin}: {ORIGINS[origin]}", style="dim")


_COLUMNS: dict[str, Literal["left", "right"]] = {
    "operator": "left",
    "times": "right",
    "time": "right",
    "share": "right",
    "bound by": "left",
    "light": "right",
    "rate": "left",
    "from": "left",
}
"""`light` is the least possible time over the predicted one: percent of the speed of light."""


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.name,
        f"{line.repeat:.0f}",
        show(line.time_s, "time", 3),
        f"{line.share:.1%}",
        line.bound,
        f"{line.of_light:.0%}" if line.of_light else "-",
        line.rate,
        line.origin,
    )


def _by(line: Line) -> str:
    """Who timed an operator, and how sure it is of it."""
    sure = "" if line.uncertainty is None else f" ±{line.uncertainty:.0%}"
    return f"{line.source or 'rates'}{sure}"
