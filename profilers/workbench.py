"""A torch device with its clock, watch and random data: what a worker process measures on."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from analyzer.errors import ConfigError, ProfilerError
from profilers.cases import Case, Described, Failure, Machine, Outcome
from profilers.device import CpuDevice, Device, SystemClock, last_level_cache_B
from profilers.environment import capture, cpu_name, memory_B
from profilers.measure import Kit
from profilers.stopping import Rules
from profilers.telemetry import CpuWatch, Watch, WatchAll

PROBE_N = {"cpu": 512, "cuda": 4096}
PROBE_B = {"cpu": 64 * 1024**2, "cuda": 1024**3}
FORMATS = ("bf16", "fp32", "fp16", "int8", "fp8", "int4")


class Workbench:
    """Everything that the torch side of the profiles shares."""

    def __init__(self, device: str, threads: int | None, scratch: str) -> None:
        import torch

        self.torch: Any = torch
        self.name = resolve_device(device)
        self.is_cpu = self.name == "cpu"
        self.device = torch.device(self.name)
        self.scratch = scratch
        self.threads = self._bind(threads)
        torch.manual_seed(0)
        torch.set_grad_enabled(False)
        self.clock = SystemClock()
        self.kit = Kit(device=self._timer(), clock=self.clock, watch=self._watch())

    def _bind(self, threads: int | None) -> int:
        """Pin this process to as many cores as it has threads; on a GPU leave the host alone."""
        if self.is_cpu and threads:
            allowed = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, set(allowed[:threads]))
            self.torch.set_num_threads(threads)
        return int(self.torch.get_num_threads())

    def _timer(self) -> Device:
        if self.is_cpu:
            return CpuDevice(self.clock)
        from profilers.cuda import CudaDevice

        return CudaDevice(self.name)

    def _watch(self) -> Watch:
        if self.is_cpu:
            return CpuWatch(self.clock, threads=self.threads)
        from profilers.nvml import NvmlGpu, NvmlWatch

        index = self.device.index or 0
        uuid = str(getattr(self.torch.cuda.get_device_properties(index), "uuid", ""))
        # On a GPU others may use spare cores of the host: only queueing of our own threads counts.
        host = CpuWatch(self.clock, max_others=float("inf"), max_waiting=0.10)
        try:
            return WatchAll([NvmlWatch(NvmlGpu(index, uuid)), host])
        except ProfilerError:
            return host  # the facts of the environment say that nothing watched the GPU

    def dtype(self, name: str) -> Any:
        """The torch type of a plain number format."""
        torch = self.torch
        types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if name not in types:
            raise ConfigError(f"format {name!r} is not one that activations can have")
        return types[name]

    def normal(self, *shape: int, dtype: str = "bf16", scale: float = 1.0) -> Any:
        """Random normal values: multiplying zeros draws less power and so runs faster."""
        values = self.torch.empty(shape, dtype=self.dtype(dtype), device=self.device)
        return fill_normal(values, scale)

    def describe(self) -> Described:
        machine = Machine(
            device=self.name,
            name=self._hardware_name(),
            devices=1 if self.is_cpu else self.torch.cuda.device_count(),
            memory_B=self._memory_B(),
            cache_B=self._cache_B(),
            threads=self.threads,
            formats=tuple(name for name in FORMATS if self._can_multiply(name)),
            flops=self._rough_flops(),
            bandwidth_Bps=self._rough_bandwidth(),
            launch_s=self._rough_launch(),
        )
        facts = {
            **self._device_facts(),
            "device_memory_B": f"{self._memory_B():.0f}",
            "cache_B": f"{self._cache_B():.0f}",
            "disk_B": f"{shutil.disk_usage(self.scratch_folder()).total}",
        }
        environment = capture(facts, self.threads)
        return Described(machine=machine, environment=environment)

    def measure(
        self, cases: Sequence[Case], rules: Rules, seed: int
    ) -> Iterator[Outcome | Failure]:
        """Hand the cases to their profiles' modules."""
        for profile, group in groupby(cases, key=lambda case: case.profile):
            module = importlib.import_module(f"profilers.{profile}")
            yield from module.measure(list(group), self, rules, seed)
        if not self.is_cpu:
            self.torch.cuda.empty_cache()

    def scratch_folder(self) -> Path:
        """The folder on the disk that is measured; made if need be."""
        folder = Path(self.scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def free(self) -> None:
        """Give unused memory back to the device."""
        import gc

        gc.collect()
        if not self.is_cpu:
            self.torch.cuda.empty_cache()

    def _hardware_name(self) -> str:
        if self.is_cpu:
            return f"{cpu_name()} ({os.cpu_count()} cores, {self.threads} threads used)"
        return str(self.torch.cuda.get_device_name(self.device))

    def _memory_B(self) -> float:
        if self.is_cpu:
            return memory_B()
        return float(self.torch.cuda.get_device_properties(self.device).total_memory)

    def _cache_B(self) -> float:
        if self.is_cpu:
            return float(last_level_cache_B())
        return float(self.torch.cuda.get_device_properties(self.device).L2_cache_size)

    def _can_multiply(self, name: str) -> bool:
        from profilers.operator_gemm import gemm

        try:
            gemm({"dtype": name, "m": 32, "n": 256, "k": 256}, self).run()
            self.kit.device.synchronize()
        except (RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError):
            return False
        return True

    def _rough_flops(self) -> dict[str, float]:
        """Best of three products of square matrices; planning needs no more."""
        n = PROBE_N[self.device.type]
        speeds = {}
        for name in ("bf16", "fp32"):
            a, b = self.normal(n, n, dtype=name), self.normal(n, n, dtype=name)
            product = self.torch.empty_like(a)
            speeds[name] = (
                2.0 * n**3 / self._best(lambda a=a, b=b, c=product: self.torch.mm(a, b, out=c))
            )
        speeds["fp16"] = speeds["bf16"] / (10 if self.is_cpu else 1)
        return speeds

    def _rough_bandwidth(self) -> float:
        source = self.normal(PROBE_B[self.device.type] // 4, dtype="fp32")
        target = self.torch.empty_like(source)
        return 2.0 * float(source.nbytes) / self._best(lambda: target.copy_(source))

    def _rough_launch(self) -> float:
        """Time of an operator that does next to nothing, as the host sees it."""
        one = self.normal(1, dtype="fp32")
        return self._best(lambda: [one.add_(1.0) for _ in range(100)]) / 100

    def _best(self, run: Any) -> float:
        run()
        self.kit.device.synchronize()
        return min(self.kit.device.time_calls(run, 3, 1, None))

    def _device_facts(self) -> dict[str, str]:
        if self.is_cpu:
            return {"device": "cpu", "torch_build": str(self.torch.__version__)}
        from profilers.gpu_facts import gpu_facts

        return gpu_facts(self.torch, self.device.index or 0)


def resolve_device(name: str) -> str:
    """`cpu` or `cuda:N`; `auto` takes a GPU where there is one."""
    import torch

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda:0" if available else "cpu"
    if name == "cpu":
        return name
    kind, _, index = name.partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        raise ConfigError(f"unknown device {name!r}; use cpu, cuda, cuda:N or auto")
    if not available:
        raise ConfigError(f"device {name!r}: torch finds no CUDA device here; use --device cpu")
    if int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r}: there are {torch.cuda.device_count()} GPUs")
    return f"cuda:{index or 0}"


def fill_normal(tensor: Any, scale: float = 1.0) -> Any:
    """Fill with normal values. Large tensors repeat one random block: drawing each value anew
    would take longer than everything that is to be measured."""
    import torch

    flat = tensor.view(-1)
    if not flat.numel():
        return tensor
    block = torch.randn(min(flat.numel(), 1 << 20), device=tensor.device) * scale
    block = block.to(tensor.dtype)
    for start in range(0, flat.numel(), block.numel()):
        part = flat[start : start + block.numel()]
        part.copy_(block[: part.numel()])
    return tensor
