"""Device time plus everything around it: CUDA-graph padding, drafting and the host."""

from __future__ import annotations

import bisect

import numpy as np
from numpy.typing import NDArray

from analyzer.serving.options import EngineOptions
from analyzer.serving.timers import StepLoad, StepTimer

_FEW = 4


class RunTimer:
    """Times the steps of one replica."""

    def __init__(self, options: EngineOptions, timer: StepTimer) -> None:
        self._timer = timer
        self._host = options.host
        self._sizes = options.graphs.sizes if options.graphs else ()
        self._eager_s = options.graphs.eager_s if options.graphs else 0.0
        self._draft_s = options.speculation.draft_s if options.speculation else 0.0

    def padding(self, tokens: int) -> int:
        """Tokens that fill a step up to the next graph; 0 for steps without a graph."""
        if not self._sizes or tokens > self._sizes[-1]:
            return 0
        return self._sizes[bisect.bisect_left(self._sizes, tokens)] - tokens

    def step_s(self, load: StepLoad) -> float:
        """Seconds from a step's beginning to the next one's."""
        device_s = self._timer.step_time_s(load) + self._around(load)
        host_s = self._host_s(load)
        return max(device_s, host_s) if self._host.overlapped else device_s + host_s

    def run_ends(self, now_s: float, load: StepLoad, contexts: NDArray[np.int64]) -> list[float]:
        """Ends of decoding steps that follow each other from `now_s` on."""
        if len(contexts) <= _FEW:
            ends = []
            for context in contexts.tolist():
                now_s += self.step_s(load._replace(decode_context=context))
                ends.append(now_s)
            return ends
        device = self._timer.decode_times_s(load, contexts.astype(np.float64))
        device = device + self._around(load)
        host_s = self._host_s(load)
        steps = np.maximum(device, host_s) if self._host.overlapped else device + host_s
        # Summed as the steps are, one after another, so that runs and steps agree to the bit.
        steps[0] += now_s
        planned: list[float] = np.add.accumulate(steps).tolist()
        return planned

    def _around(self, load: StepLoad) -> float:
        extra = self._draft_s if load.decode_batch else 0.0
        if self._sizes and load.prefill_tokens + load.decode_tokens > self._sizes[-1]:
            extra += self._eager_s
        return extra

    def _host_s(self, load: StepLoad) -> float:
        return self._host.step_s + self._host.sequence_s * (load.decode_batch + load.prefill_chunks)
