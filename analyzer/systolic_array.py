"""A machine made of systolic arrays, as a system's file describes it."""

from __future__ import annotations

import msgspec

from analyzer.errors import ConfigError, nearest

DATAFLOWS = ("ws", "os", "is")
"""What stays in place: weights, outputs, inputs."""


class SystolicArray(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arrays of multiply-add cells, all alike."""

    rows: int
    columns: int
    dataflow: str = "ws"
    """One of DATAFLOWS."""
    arrays: int = 1
    """Arrays that share a multiplication's columns."""
    clock_Hz: float
    input_sram_B: float = 4096e3
    weight_sram_B: float = 4096e3
    output_sram_B: float = 2048e3

    def __post_init__(self) -> None:
        if self.dataflow not in DATAFLOWS:
            hint = nearest(self.dataflow, DATAFLOWS)
            raise ConfigError(f"systolic array: unknown dataflow {self.dataflow!r}{hint}")
        for name in self.__struct_fields__:
            if name != "dataflow" and not getattr(self, name) > 0:
                raise ConfigError(f"systolic array: {name} must be above 0")

    @property
    def peak_Fps(self) -> float:
        """FLOP/s with every cell busy."""
        return 2.0 * self.rows * self.columns * self.arrays * self.clock_Hz
