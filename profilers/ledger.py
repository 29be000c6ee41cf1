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
        self.live_B = 0.0
        self.peak_B = 0.0
        self._known: dict[int, int] = {}
        self._standing = {tensor.untyped_storage()._cdata for tensor in standing}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors_in(result):
            self._enter(tensor)
        return result

    def _enter(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._standing:
            return
        if address not in self._known:
            self._known[address] = 0
            self.live_B += storage.nbytes()
            self.peak_B = max(self.peak_B, self.live_B)
        self._known[address] += 1
        weakref.finalize(tensor, self._leave, address, storage.nbytes())

    def _leave(self, address: int, nbytes: int) -> None:
        """One view of a storage is gone; the storage is gone with its last view."""
        self._known[address] -= 1
        if self._known[address] == 0:
            del self._known[address]
            self.live_B -= nbytes


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
