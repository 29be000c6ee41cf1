"""Timing on a CUDA device: event pairs around every sample, one wait at the end."""

from __future__ import annotations

from typing import Any

from profilers.device import Call

GRAPH_WARMUPS = 3


class CudaDevice:
    """One GPU. Samples are timed by CUDA events; the host waits once per block."""

    timer = "cuda_event"
    min_sample_s = 100e-6

    def __init__(self, name: str) -> None:
        import torch

        self.name = name
        self._torch: Any = torch
        self._device = torch.device(name)
        torch.cuda.set_device(self._device)
        cache_B = torch.cuda.get_device_properties(self._device).L2_cache_size
        self._ballast = torch.ones(
            max(2 * cache_B, 64 * 1024**2) // 4, dtype=torch.float32, device=self._device
        )

    def time_calls(self, run: Call, count: int, inner: int, before: Call | None) -> list[float]:
        """Seconds per call. Cache flushes run on the stream ahead of each sample's first event,
        so that the host has launched the sample before the GPU gets to it."""
        event = self._torch.cuda.Event
        pairs = []
        for _ in range(count):
            if before is not None:
                before()
            start, end = event(enable_timing=True), event(enable_timing=True)
            start.record()
            for _ in range(inner):
                run()
            end.record()
            pairs.append((start, end))
        self.synchronize()
        return [start.elapsed_time(end) / 1e3 / inner for start, end in pairs]

    def flush(self) -> None:
        """Write twice the L2 cache."""
        self._ballast.add_(1.0)

    def synchronize(self) -> None:
        self._torch.cuda.synchronize(self._device)


def captured(run: Call) -> Call:
    """The call as a CUDA graph replay, captured after a few runs on a side stream.

    What cannot be captured (it waits for the device, say) raises NotImplementedError: the device is
    unharmed, and the case is answered as unsupported.
    """
    try:
        return _capture(run)
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), "no reason given")
        raise NotImplementedError(f"no CUDA graph can be captured of it: {reason}") from None


def _capture(run: Call) -> Call:
    import torch

    cuda: Any = torch.cuda
    stream = cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(GRAPH_WARMUPS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    replay: Call = graph.replay
    return replay
