"""The machine that a promise needs: compute, memory, bandwidth, links, and which of them binds.

  plumbline require --model llama-3.1-70b --use-case rag --tp 8
  plumbline require --model llama-2-7b --input 2000 --output 300 --ttft-ms 500 --tpot-ms 20 \\
                    --against H100-SXM,MI300X

`alone` is the least of a figure when everything else is without bound; `needed` the least in a
machine where all figures are equally scarce. With --system, its calibration and its proportions.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from analyzer.errors import ConfigError
from analyzer.models_catalog import load as load_model
from analyzer.systems_catalog import load_system
from reports.commands.options import basis_of, declare_basis, declare_plan, plan_of, system_of
from reports.console import show, write, write_json

if TYPE_CHECKING:
    from analyzer.basis import Basis
    from analyzer.requirements import Need, Required
    from analyzer.system import System
    from analyzer.workload import Workload

LIKE = "H100-SXM"
"""Whose proportions (formats, units, topology) a machine has where no system is named."""
_SCALES = {"FLOP/s": (1e12, "TFLOP/s"), "B/s": (1e9, "GB/s"), "B": (1e9, "GB"), "s": (1e-6, "us")}


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", help="catalog name, hub id, or a config.json")
    parser.add_argument("--system", help=f"proportions and calibration (proportions of {LIKE})")
    work = parser.add_argument_group("work and promise")
    work.add_argument("--use-case", metavar="NAME", help="chat, qa, rag, summarization, code, ...")
    work.add_argument("--batch", type=int, default=1, metavar="N", help="sequences at once")
    for name in ("input", "output", "beams", "cached"):
        work.add_argument(f"--{name}", type=int, metavar="N")
    for name in ("ttft", "tpot", "e2e"):
        work.add_argument(f"--{name}-ms", type=float, metavar="MS")
    work.add_argument("--arrival", choices=("static", "closed_loop"), default="static")
    declare_plan(parser)
    declare_basis(parser)
    shown = parser.add_argument_group("output")
    shown.add_argument("--against", metavar="LIST", help="systems to hold against the need")
    shown.add_argument("--toml", metavar="FILE", help="the machine as a system file")
    shown.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Invert, and say what binds."""
    from analyzer.requirements import require

    if not options.model:
        raise ConfigError("--model is missing")
    model = load_model(options.model)
    like, _ = system_of(Namespace(system=options.system or LIKE))
    load = _load(options)
    plan = plan_of(options, model)
    found = require(model, plan, load, _basis(options, like), like, options.arrival)
    against = [load_system(name.strip()) for name in (options.against or "").split(",") if name]
    shares = {system.name: found.share(system) for system in against}
    if options.toml:
        _write_toml(found, options.toml)
    if options.json:
        write_json(_document(found, shares))
        return
    _tell(found, shares)


def _basis(options: Namespace, like: System) -> Basis:
    from analyzer import basis

    named = (options.system_eff, options.ideal, options.uncalibrated, options.rates)
    if options.system is None and not any(named):
        return basis.uncalibrated()
    return basis_of(options, like, options.arrival)


def _load(options: Namespace) -> Workload:
    from analyzer.use_cases import use_case
    from analyzer.workload import SLO, Workload

    usual: dict[str, Any] = {"input": 1024, "output": 128, "beams": 1, "cached": 0}
    slo = SLO()
    if options.use_case:
        case = use_case(options.use_case)
        slo = case.slo
        usual = {
            "input": case.input_tokens,
            "output": case.output_tokens,
            "beams": case.beams,
            "cached": case.cached_tokens,
        }
    given = {n: getattr(options, n) if getattr(options, n) is not None else usual[n] for n in usual}
    promised = {
        f"{name}_s": getattr(slo, f"{name}_s") if value is None else value / 1e3
        for name in ("ttft", "tpot", "e2e")
        for value in [getattr(options, f"{name}_ms")]
    }
    return Workload(
        batch=options.batch,
        input_tokens=given["input"],
        output_tokens=given["output"],
        beams=given["beams"],
        cached_tokens=given["cached"],
        slo=SLO(**promised),
    )


def _tell(found: Required, shares: dict[str, dict[str, float]]) -> None:
    from reports.search_text import words
    from reports.table import table

    load, slo = found.workload, found.workload.slo
    promised = ", ".join(
        f"{name.removesuffix('_s').upper()} {1e3 * value:g} ms"
        for name in ("ttft_s", "tpot_s", "e2e_s")
        if (value := getattr(slo, name)) is not None
    )
    write(
        f"{found.model.name}, {words(found.plan)}, {load.batch} x {load.input_tokens} in, "
        f"{load.output_tokens} out, {load.beams} beams; promised: {promised}"
    )
    columns = ["each device", "needed", "alone", "breaks with 1 % less", *shares]
    rows = [[*_cells(need), *(_share(held, need) for held in shares.values())]
            for need in found.needs]  # fmt: skip
    show(table(columns, rows, left=("each device", "breaks with 1 % less")))
    write(f"{found.binding.replace('_', ' ')} binds most")
    write(f"rates: {found.basis.label}; proportions of {found.like.name}")
    if shares:
        write("columns of systems: what they have over what is needed; below 1 they fall short")
    if found.basis.calibration is None:
        write("note: no interval is known, because these rates were not fitted to measurements")


def _cells(need: Need) -> list[str]:
    sign = "at most " if need.at_most else ""
    return [
        need.figure.replace("_", " "),
        sign + _figure(need.value, need.unit),
        sign + _figure(need.alone, need.unit),
        ", ".join(need.binds) or "–",
    ]


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "any"
    scale, name = _SCALES[unit]
    return f"{value / scale:.4g} {name}"


def _share(held: dict[str, float], need: Need) -> str:
    value = held.get(need.figure)
    return "–" if value is None else f"{value:.3g}"


def _document(found: Required, shares: dict[str, dict[str, float]]) -> dict[str, Any]:
    prediction = found.prediction
    return {
        "schema": 1,
        "model": found.model.name,
        "devices": found.plan.devices,
        "needs": [need._asdict() for need in found.needs],
        "binding": found.binding,
        "rates": found.basis.label,
        "like": found.like.name,
        "ttft_s": prediction.ttft_s,
        "tpot_s": prediction.tpot_s,
        "e2e_s": prediction.e2e_s,
        "against": {
            name: {key: value if abs(value) < sys.float_info.max else None
                   for key, value in held.items()}
            for name, held in shares.items()
        },
    }  # fmt: skip


def _write_toml(found: Required, path: str) -> None:
    """The required machine in the form of docs/examples/my-system.toml."""
    from reports.files import replacing

    device, link = found.system.device, found.system.intra_node
    lines = [
        'name = "required"',
        f"devices_per_node = {found.system.devices_per_node}",
        "",
        "[device]",
        'name = "required"',
        f'kind = "{device.kind}"',
        f"units = {device.units!r}",
        f"memory_B = {device.memory_B!r}",
        f"memory_bandwidth_Bps = {device.memory_bandwidth_Bps!r}",
        f"vector_flops = {device.vector_peak!r}",
        "",
        "[device.peak_flops]",
        *(f"{name} = {peak!r}" for name, peak in device.peak_flops.items()),
    ]
    if link is not None:
        lines += [
            "",
            "[intra_node]",
            'name = "required"',
            f"bandwidth_Bps = {link.bandwidth_Bps!r}",
            f"latency_s = {link.latency_s!r}",
            f'topology = "{link.topology}"',
            f"multicast = {str(link.multicast).lower()}",
        ]
    with replacing(path) as stream:
        stream.write("\n".join(lines) + "\n")
