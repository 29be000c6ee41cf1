"""Host memory for transfers: one registered block per purpose, never pinned per transfer.

torch's own pinned allocator rounds every block up to a power of two; registering ordinary memory
does not. Without CUDA, or with pinning off, it is ordinary memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analyzer.errors import CapacityError

if TYPE_CHECKING:
    import torch


def cuda() -> Any:
    """torch.cuda, untyped as it is."""
    import torch

    return torch.cuda


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's contiguous bytes, flat."""
    import torch

    return tensor.contiguous().view(-1).view(torch.uint8)


class HostMemory:
    """Hands out byte buffers and unregisters all of them at the end."""

    def __init__(self, pinned: bool) -> None:
        self.pinned = pinned
        self._registered: list[torch.Tensor] = []

    def bytes(self, size_B: int) -> torch.Tensor:
        """A uint8 buffer of `size_B`, registered with the driver when pinning is on."""
        import torch

        try:
            buffer = torch.empty(size_B, dtype=torch.uint8)
        except RuntimeError as error:
            raise CapacityError(f"no host memory left for {size_B / 1e9:.2f} GB") from error
        if self.pinned and size_B:
            status = cuda().cudart().cudaHostRegister(buffer.data_ptr(), size_B, 0)
            if int(status):
                raise CapacityError(
                    f"the driver will not pin {size_B / 1e9:.2f} GB of host memory "
                    f"(status {int(status)}); turn weight pinning off or raise the limit"
                )
            self._registered.append(buffer)
        return buffer

    def close(self) -> None:
        """Unregister every buffer."""
        while self._registered:
            cuda().cudart().cudaHostUnregister(self._registered.pop().data_ptr())
