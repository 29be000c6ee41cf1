"""Clocks, limits, heat, power and neighbours of an NVIDIA GPU, through NVML.

A block is throttled when the clock fell below three quarters of the reference, or when the GPU
names heat, a hardware slowdown or a power brake as its reason. Reaching the board's power limit is
how a GPU runs large matrix products in service too, so it is recorded and not re-taken.
Nothing here changes a setting of the GPU.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from analyzer.errors import ProfilerError
from profilers.telemetry import Reading, Trouble

POWER_CAP = 0x4
HARMFUL = {
    0x8: "hw_slowdown",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
}
CLOCK_FLOOR = 0.75


class Gpu(Protocol):
    """The questions that we ask of one GPU; a fake answers them in tests."""

    def sm_clock_MHz(self) -> float: ...

    def reference_clock_MHz(self) -> float: ...

    def event_reasons(self) -> int: ...

    def temperature_C(self) -> float: ...

    def power_W(self) -> float: ...

    def energy_J(self) -> float | None:
        """Energy since the driver was loaded; None where the GPU does not count it."""
        ...

    def process_ids(self) -> frozenset[int]: ...

    def memory_used_B(self) -> float: ...


def open_nvml(index: int, uuid: str = "") -> tuple[Any, Any]:
    """(library, handle) of a GPU. NVML counts all GPUs and CUDA only the visible ones, so the
    identifier that torch reports is preferred; raises ProfilerError where there is no NVML."""
    try:
        import pynvml

        pynvml.nvmlInit()
        if uuid:
            return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)
    except ImportError:
        raise ProfilerError("nvidia-ml-py is not installed") from None
    except pynvml.NVMLError as error:
        raise ProfilerError(f"NVML does not answer: {error}") from None


class NvmlGpu:
    """One GPU, asked through nvidia-ml-py."""

    def __init__(self, index: int = 0, uuid: str = "") -> None:
        self._nvml, self._handle = open_nvml(index, uuid)

    def sm_clock_MHz(self) -> float:
        return float(self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM))

    def reference_clock_MHz(self) -> float:
        kind = self._nvml.NVML_CLOCK_SM
        try:
            return float(self._nvml.nvmlDeviceGetDefaultApplicationsClock(self._handle, kind))
        except self._nvml.NVMLError:
            return float(self._nvml.nvmlDeviceGetMaxClockInfo(self._handle, kind))

    def event_reasons(self) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        except (AttributeError, self._nvml.NVMLError):
            return int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))

    def temperature_C(self) -> float:
        kind = self._nvml.NVML_TEMPERATURE_GPU
        return float(self._nvml.nvmlDeviceGetTemperature(self._handle, kind))

    def power_W(self) -> float:
        return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1e3

    def energy_J(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError:
            return None

    def process_ids(self) -> frozenset[int]:
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        return frozenset(int(process.pid) for process in running)

    def memory_used_B(self) -> float:
        return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)


class NvmlWatch:
    """Judges a block by what the GPU reports before and after it."""

    def __init__(self, gpu: Gpu, own_pids: frozenset[int] | None = None) -> None:
        self._gpu = gpu
        self._own = own_pids if own_pids is not None else frozenset({os.getpid()})
        self._reference_MHz = gpu.reference_clock_MHz()
        self._energy_J: float | None = None

    def start(self) -> None:
        self._energy_J = self._gpu.energy_J()

    def stop(self) -> Reading:
        gpu = self._gpu
        reasons = gpu.event_reasons()
        clock_MHz = gpu.sm_clock_MHz()
        figures = {
            "sm_clock_MHz": clock_MHz,
            "temperature_C": gpu.temperature_C(),
            "power_W": gpu.power_W(),
            "power_capped": float(bool(reasons & POWER_CAP)),
            "gpu_memory_used_B": gpu.memory_used_B(),
        }
        energy_J = gpu.energy_J()
        if energy_J is not None and self._energy_J is not None:
            figures["block_energy_J"] = energy_J - self._energy_J
        troubles: list[Trouble] = []
        if self._foreign():
            troubles.append("shared_gpu")
        if clock_MHz < CLOCK_FLOOR * self._reference_MHz or any(reasons & bit for bit in HARMFUL):
            troubles.append("throttled")
        return Reading(troubles=tuple(troubles), figures=figures)

    def _foreign(self) -> bool:
        """True where another process computes on this GPU.

        Inside a container NVML lists process ids of the host, where ours has another number: a
        single process that is not us is then taken to be us.
        """
        pids = self._gpu.process_ids()
        return len(pids) > 1 if not pids & self._own else bool(pids - self._own)
