"""Which tensors are alive: an exact count of bytes, on any device.

`Ledger` sees every tensor that an operator returns and notices when its storage is freed, so its
peak is the sum of live tensors, free of an allocator's rounding. `allocator_peak_B` is what the
allocator really handed out at the worst moment, temporaries inside operators included.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from profilers.workbench import Workbench


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of live storages that were made while it is active, and their peak.

    `standing` are tensors that were there before and stay; views of them cost nothing.
    """

    def __init__(self, standing: Iterable[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._standing = {tensor.untyped_storage()._cdata for tensor in standing}
        self._views: dict[int, int] = {}
        self._serial: dict[int, int] = {}
        self._changes: list[tuple[int, int]] = []

    def peak_B(self, without: Iterable[Any] = ()) -> float:
        """Most bytes alive at once, not counting the storages of the tensors `without`."""
        left_out = {self._serial.get(tensor.untyped_storage()._cdata) for tensor in without}
        live = peak = 0
        for serial, nbytes in self._changes:
            if serial not in left_out:
                live += nbytes
                peak = max(peak, live)
        return float(peak)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors_in(result):
            self._enter(tensor)
        return result

    def _enter(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        address, nbytes = storage._cdata, storage.nbytes()
        if address in self._standing:
            return
        if address not in self._views:
            self._views[address] = 0
            self._serial[address] = len(self._changes)
            self._changes.append((self._serial[address], nbytes))
        self._views[address] += 1
        weakref.finalize(tensor, self._leave, address, nbytes)

    def _leave(self, address: int, nbytes: int) -> None:
        """One view of a storage is gone; the storage is gone with its last view."""
        self._views[address] -= 1
        if self._views[address] == 0:
            del self._views[address]
            self._changes.append((self._serial.pop(address), -nbytes))


def _tensors_in(tree: Any) -> list[Any]:
    import torch

    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def allocator_peak_B(run: Callable[[], object], bench: Workbench) -> float:
    """Most bytes that the allocator handed out at once during `run`, beyond those before it."""
    if bench.is_cpu:
        return _cpu_peak_B(run)
    cuda = bench.torch.cuda
    cuda.reset_peak_memory_stats(bench.device)
    before_B = cuda.memory_allocated(bench.device)
    held = run()
    bench.kit.device.synchronize()
    peak_B = float(cuda.max_memory_allocated(bench.device) - before_B)
    del held
    return peak_B


def _cpu_peak_B(run: Callable[[], object]) -> float:
    """From the profiler's list of every allocation and release."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        held = run()
    live = peak = 0
    events = profiler.profiler.kineto_results.events()
    changes = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    for _, nbytes in changes:
        live += nbytes
        peak = max(peak, live)
    del held
    return float(peak)
