"""What identifies a GPU and its driver, without its serial numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from analyzer.errors import ProfilerError
from profilers.nvml import open_nvml


def gpu_facts(torch: Any, index: int) -> dict[str, str]:
    """Facts of one GPU that change a measurement; the identifier is hashed."""
    properties = torch.cuda.get_device_properties(index)
    facts = {
        "device": f"cuda {properties.name}",
        "torch_build": str(torch.__version__),
        "gpu_count": str(torch.cuda.device_count()),
        "gpu_memory_B": str(properties.total_memory),
        "gpu_units": str(properties.multi_processor_count),
        "gpu_capability": f"{properties.major}.{properties.minor}",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "tf32": str(torch.backends.cuda.matmul.allow_tf32),
    }
    return {**facts, **nvml_facts(index, str(getattr(properties, "uuid", "")))}


def nvml_facts(index: int, uuid: str) -> dict[str, str]:
    """What only the driver knows; a question that it does not answer is left out."""
    try:
        pynvml, handle = open_nvml(index, uuid)
    except ProfilerError as error:
        return {"gpu_watch": f"none: {error}"}
    questions: dict[str, Callable[[], Any]] = {
        "driver": pynvml.nvmlSystemGetDriverVersion,
        "gpu_id": lambda: _hashed(pynvml.nvmlDeviceGetUUID(handle)),
        "vbios": lambda: pynvml.nvmlDeviceGetVbiosVersion(handle),
        "power_limit_W": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3,
        "max_sm_clock_MHz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "max_memory_clock_MHz": lambda: pynvml.nvmlDeviceGetMaxClockInfo(
            handle, pynvml.NVML_CLOCK_MEM
        ),
        "ecc": lambda: pynvml.nvmlDeviceGetEccMode(handle)[0],
        "mig": lambda: pynvml.nvmlDeviceGetMigMode(handle)[0],
        "persistence": lambda: pynvml.nvmlDeviceGetPersistenceMode(handle),
        "pcie": lambda: (
            f"gen{pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)}"
            f" x{pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle)}"
        ),
        "nvlinks": lambda: _active_nvlinks(pynvml, handle),
    }
    facts = {"clocks": "not locked by this suite", "gpu_watch": "nvml"}
    for name, ask in questions.items():
        try:
            answer = ask()
        except pynvml.NVMLError:
            continue
        facts[name] = answer.decode() if isinstance(answer, bytes) else str(answer)
    return facts


def _hashed(identifier: Any) -> str:
    raw = identifier if isinstance(identifier, bytes) else str(identifier).encode()
    return hashlib.sha256(raw).hexdigest()[:12]


def _active_nvlinks(pynvml: Any, handle: Any) -> int:
    active = 0
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            active += int(pynvml.nvmlDeviceGetNvLinkState(handle, link))
        except pynvml.NVMLError:
            break
    return active
