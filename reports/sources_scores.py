"""Scores of the sources, as Markdown: what docs/sources.md shows, made anew.

Operators of real models on measured devices, whole shapes held out; all-reduce curves of which half
of the sizes were seen; and a systolic array's closed form beside a measured one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from analyzer.errors import ConfigError
from analyzer.sources.operator_rows import OperatorRows, read_operator_rows
from analyzer.sources.systolic import cycles
from analyzer.sources.table import of_device, own_records
from analyzer.systems_catalog import load_system
from analyzer.timing.kernels.common import Array
from calibration.operators import geomean_error
from calibration.operators_collectives import every_other
from calibration.operators_protocols import Staged, fit_staged
from calibration.operators_scored import lines, scored

SCORED = ("A100-SXM-80GB", "H100-SXM")
LINKED = ("A100-SXM-80GB", "H100-SXM", "B200-SXM-180GB")
LEAST_B = 65536.0
SEEN_FROM_B = 16384.0
"""Smaller messages than this say nothing of those that are scored."""
_OPERATORS = """| device | class | operators | analytic | residual | table | table answered |
|---|---|---:|---:|---:|---:|---:|"""
_CURVES = """| device | ranks | hands over at | geomean | worst | within 15 % |
|---|---:|---|---:|---:|---:|"""


def scores(systems: Sequence[str] = ()) -> Iterator[str]:
    """The pages' tables, one after the other."""
    records = [path for path in own_records() if path.name.startswith("aiconfigurator")]
    if not records:
        raise ConfigError("scores need the project's operator records (benchmark-perf/operators)")
    yield "Geomean error exp(mean |ln(predicted/measured)|) − 1 on shapes that were held out."
    yield _OPERATORS
    for name in systems or SCORED:
        yield from _operators(name, records)
    yield ""
    yield "All-reduce (NCCL), error on the half of the sizes that the fit did not see, from 64 KiB."
    yield _CURVES
    for name in systems or LINKED:
        yield from _curves(name, records)
    if not systems:
        yield ""
        yield from _systolic()


def _operators(name: str, records: Sequence[Path]) -> Iterator[str]:
    system = load_system(name)
    for line in lines(scored(read_operator_rows(records, of_device(system)), system)):
        errors = (line.analytic, line.residual, line.table)
        cells = (line.device, line.op, str(line.operators), *(f"{e:.1%}" for e in errors))
        yield f"| {' | '.join(cells)} | {line.answered:.0%} |"


def _curves(name: str, records: Sequence[Path]) -> Iterator[str]:
    system = load_system(name)
    rows = read_operator_rows(records, of_device(system))
    rows = rows.take((rows.text["op"] == "allreduce") & (rows.text["dtype"] == "fp16"))
    link = system.intra_node
    if not len(rows) or link is None:
        return
    for ranks in np.unique(rows.number("gpus")):
        size_B, seconds = _curve(rows, float(ranks))
        seen = every_other(size_B).astype(bool)
        adds = link.multicast and ranks == system.devices_per_node
        fit = fit_staged(int(ranks), size_B[seen], seconds[seen], link.bandwidth_Bps, adds)
        yield _curve_line(name, int(ranks), fit, size_B[~seen], seconds[~seen])


def _curve(rows: OperatorRows, ranks: float) -> tuple[Array, Array]:
    one = rows.take(rows.number("gpus") == ranks)
    order = np.argsort(one.number("bytes"))
    size_B, seconds = one.number("bytes")[order], one.seconds[order]
    kept = size_B >= SEEN_FROM_B
    return size_B[kept], seconds[kept]


def _curve_line(name: str, ranks: int, fit: Staged, size_B: Array, seconds: Array) -> str:
    asked = size_B >= LEAST_B
    off = np.log(fit.seconds(size_B[asked]) / seconds[asked])
    worst = int(np.argmax(np.abs(off)))
    ends = ", ".join(f"{end_B / 2**20:.2f} MiB" for end_B in fit.ends_B) or "nowhere"
    within = int((np.abs(np.expm1(off)) <= 0.15).sum())
    at = f"{np.expm1(off[worst]):+.0%} at {size_B[asked][worst] / 2**20:g} MiB"
    return (
        f"| {name} | {ranks} | {ends} | {geomean_error(off):.1%} | {at} | {within} of {len(off)} |"
    )


def _systolic() -> Iterator[str]:
    """The trend of the simulated array beside measured multiplications of the same device."""
    system = load_system("TPUv6e")
    rows = read_operator_rows(own_records(), of_device(system)).where(op="gemm")
    array = system.device.systolic
    if array is None or not len(rows):
        return
    m, n, k = (rows.number(name) for name in ("m", "n", "k"))
    bytes_s = 2.0 * (m * k + n * k + m * n) / system.device.memory_bandwidth_Bps
    computed_s = cycles(m, np.ceil(n / array.arrays), k, array) / array.clock_Hz
    yield "| TPU v6e, matrix multiplications | rows | simulated/measured | rank correlation |"
    yield "|---|---:|---:|---:|"
    simulated_s = np.maximum(computed_s, bytes_s)
    for label, which in (
        ("all", np.ones(len(m), dtype=bool)),
        ("up to 128 rows", m <= 128),
        ("more than 128 rows", m > 128),
    ):
        if which.sum() > 2:
            ratio = float(np.exp(np.log(simulated_s / rows.seconds)[which].mean()))
            together = _ranked(simulated_s[which], rows.seconds[which])
            yield f"| {label} | {which.sum()} | {ratio:.2f} | {together:.2f} |"


def _ranked(a: Array, b: Array) -> float:
    """Spearman's correlation."""
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])
