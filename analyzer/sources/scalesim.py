"""The source of cycle-level answers for systolic arrays: the `scalesim` package, run lazily.

Small multiplications are simulated by the package, cycle by cycle; larger ones, for which it would
write out more operands than fit in memory, use the closed form of its cycles (`systolic.py`), and
the remarks say how many. Weights stream from memory meanwhile: the longer of the two counts.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from analyzer.errors import ConfigError
from analyzer.optable import OpTable
from analyzer.sources.base import Answer, Context, Source
from analyzer.sources.systolic import cycles
from analyzer.systolic_array import SystolicArray
from analyzer.timing.kernels.common import Array

MOST_MACS = 2_000_000
"""Multiply-adds up to which the package simulates; beyond, seconds become minutes."""
PACKAGE = "scalesim"
UNCERTAINTY = 0.2
"""Relative; memory stalls and what a compiler fuses are not simulated."""

_CONFIG = """[general]
run_name = plumbline
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = {input_sram_kB:.0f}
FilterSramSzkB = {weight_sram_kB:.0f}
OfmapSramSzkB = {output_sram_kB:.0f}
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Bandwidth = 100
Dataflow = {dataflow}
ReadRequestBuffer = 512
WriteRequestBuffer = 512
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


@dataclass(frozen=True)
class ScaleSim:
    """Matrix multiplications on a systolic machine."""

    array: SystolicArray
    memory_Bps: float
    most_macs: float = MOST_MACS
    cache: dict[tuple[int, int, int], float] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    name: str = "scalesim"

    def answer(self, table: OpTable) -> Answer:
        """Times of the dense multiplications; everything else is left to the next source."""
        shape = (len(table.names), *table.shape)
        seconds, remarks = np.full(shape, np.nan), dict[str, int]()
        for index, kind in enumerate(table.kinds):
            if kind != "gemm":
                _note(remarks, f"{table.names[index]}: not a dense multiplication", seconds[index])
                continue
            m, n, k = (np.ceil(getattr(table, name)[index]) for name in ("m", "n", "k"))
            columns = np.ceil(n / self.array.arrays)
            taken = self._cycles(table.names[index], m, columns, k, remarks) / self.array.clock_Hz
            moved_s = table.bytes_moved_B[index] / self.memory_Bps
            seconds[index] = np.maximum(taken, moved_s)
        return Answer(seconds, np.where(np.isnan(seconds), np.nan, UNCERTAINTY), remarks)

    def _cycles(self, name: str, m: Array, n: Array, k: Array, remarks: dict[str, int]) -> Array:
        total = cycles(m, n, k, self.array)
        small = m * n * k <= self.most_macs
        _note(remarks, f"{name}: too large to simulate, closed form of the cycles", ~small)
        if not _installed():
            _note(remarks, f"{name}: {PACKAGE} is not installed, closed form of its cycles", small)
            return total
        simulated = np.array(total, dtype=float)
        for place in np.argwhere(small):
            at = tuple(place)
            simulated[at] = self._simulated(int(m[at]), int(n[at]), int(k[at]))
        return simulated

    def _simulated(self, m: int, n: int, k: int) -> float:
        if (m, n, k) not in self.cache:
            self.cache[m, n, k] = simulate_cycles(m, n, k, self.array)
        return self.cache[m, n, k]


def simulate_cycles(m: int, n: int, k: int, array: SystolicArray) -> float:
    """Compute cycles as the `scalesim` package counts them."""
    package = _package()
    with tempfile.TemporaryDirectory() as folder:
        config, topology, layout = (Path(folder) / name for name in ("c.cfg", "t.csv", "l.csv"))
        described = msgspec.to_builtins(array) | {
            f"{name}_kB": getattr(array, f"{name}_B") / 1e3
            for name in ("input_sram", "weight_sram", "output_sram")
        }
        config.write_text(_CONFIG.format(**described), encoding="utf-8")
        topology.write_text(f"Layer,M,N,K,\nlayer,{m},{n},{k},\n", encoding="utf-8")
        names, ones = ",".join(["x"] * 20), ",".join(["1"] * 20)
        layout.write_text(f"Layer,{names},\nlayer,{ones},\n", encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()):
            run = package.scalesim(
                save_disk_space=True, verbose=False, config=str(config),
                topology=str(topology), layout=str(layout), input_type_gemm=True,
            )  # fmt: skip
            return _run(run, folder)


def _run(run: Any, folder: str) -> float:
    try:
        run.run_scale(top_path=folder)
    except TypeError as error:  # it turns one-element arrays into ints, as numpy 2.4 no longer does
        raise ConfigError(
            f"scalesim does not run with numpy {np.__version__} ({error}); use numpy below 2.4"
        ) from None
    layer = run.runner.single_layer_sim_object_list[0]
    return float(layer.get_compute_report_items()[1])


def _note(remarks: dict[str, int], reason: str, cells: Any) -> None:
    """Count a reason for every cell that is true, or NaN."""
    times = int(np.count_nonzero(cells))
    if times:
        remarks[reason] = remarks.get(reason, 0) + times


def _installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


def _package() -> Any:
    if not _installed():
        raise ConfigError(f"{PACKAGE} is not installed; pip install {PACKAGE}")
    return importlib.import_module("scalesim.scale_sim")


def build(context: Context) -> Source:
    """Options `scalesim`: `array` (default: the one that the system's file describes), and
    `most_macs` up to which the package simulates (0: closed form only)."""
    given = context.options.get("scalesim", {})
    array = given.get("array", context.system.device.systolic)
    if not isinstance(array, SystolicArray):
        raise ConfigError(
            f"scalesim: {context.system.name} does not describe its arrays; add [device.systolic] "
            f"with rows, columns, arrays, dataflow and clock_Hz to its file"
        )
    most_macs = float(given.get("most_macs", MOST_MACS))
    return ScaleSim(array, context.system.device.memory_bandwidth_Bps, most_macs)
