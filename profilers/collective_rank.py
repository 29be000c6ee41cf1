"""One rank of the collectives profile: `-m profilers.collective_rank RANK RANKS FOLDER KIND`.

All ranks read the same cases from stdin and walk through them in step. Rank 0 judges the machine
for all (cores used by others, time that any rank queued) and prints one answer per case.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from profilers.cases import Ask, Case, Outcome, outcome
from profilers.device import CpuDevice, Device, SystemClock
from profilers.measurement import Warmup, conclude_samples
from profilers.stopping import Rules, StopRule, is_warm
from profilers.telemetry import CpuWatch, ProcFiles, Reading

PATIENCE = timedelta(seconds=60)
WARMUP_CALLS = 5


class GroupProc:
    """Counters of the operating system with the work of all ranks counted as our own."""

    def __init__(self, add_up: Callable[[float], float]) -> None:
        self._own = ProcFiles()
        self._add_up = add_up

    def machine_busy_s(self) -> float:
        return self._own.machine_busy_s()

    def own_busy_s(self) -> float:
        return self._add_up(self._own.own_busy_s())

    def own_waiting_s(self) -> float:
        return self._add_up(self._own.own_waiting_s())


class Rank:
    """This process's part of a group."""

    def __init__(self, rank: int, ranks: int, meeting: str, kind: str) -> None:
        import torch
        import torch.distributed as dist

        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        self.torch, self.dist, self.rank, self.ranks = torch, dist, rank, ranks
        self.is_cpu = kind == "cpu"
        self.device = torch.device("cpu" if self.is_cpu else f"cuda:{rank}")
        torch.set_num_threads(1)
        if not self.is_cpu:
            torch.cuda.set_device(self.device)
        dist.init_process_group(
            "gloo" if self.is_cpu else "nccl",
            init_method=f"file://{meeting}/meeting",
            rank=rank,
            world_size=ranks,
            timeout=PATIENCE,
        )
        self.clock = SystemClock()
        self.timer = self._timer()
        others = 0.15 if self.is_cpu else float("inf")
        self.watch = CpuWatch(self.clock, GroupProc(self.add_up), others, 0.05 * ranks)

    def _timer(self) -> Device:
        if self.is_cpu:
            return CpuDevice(self.clock)
        from profilers.cuda import CudaDevice

        return CudaDevice(str(self.device))

    def add_up(self, value: float) -> float:
        """Sum over the ranks."""
        total = self.torch.tensor([value], dtype=self.torch.float64, device=self.device)
        self.dist.all_reduce(total)
        return float(total.item())

    def slowest(self, samples: Sequence[float]) -> list[float]:
        """Each sample's longest time over the ranks."""
        times = self.torch.tensor(samples, dtype=self.torch.float64, device=self.device)
        self.dist.all_reduce(times, op=self.dist.ReduceOp.MAX)
        return [float(value) for value in times.tolist()]

    def agree(self, value: float) -> float:
        """Rank 0's value, for all."""
        shared = self.torch.tensor([value], dtype=self.torch.float64, device=self.device)
        self.dist.broadcast(shared, 0)
        return float(shared.item())

    def operation(self, case: Case) -> tuple[Callable[[], object], float]:
        """The call and the share of `bytes` that crosses each rank's link (nccl-tests)."""
        op, n = str(case.case["op"]), self.ranks
        elements = max(n, int(case.case["bytes"]) // 4 // n * n)
        whole = self.torch.randn(elements, device=self.device)
        part = self.torch.randn(elements // n, device=self.device)
        dist, shared = self.dist, (n - 1) / n
        calls: dict[str, tuple[Callable[[], object], float]] = {
            "allreduce": (lambda: dist.all_reduce(whole), 2 * shared),
            "allgather": (lambda: dist.all_gather_into_tensor(whole, part), shared),
            "reducescatter": (lambda: dist.reduce_scatter_tensor(part, whole), shared),
            "alltoall": (self._alltoall(whole), shared),
            "broadcast": (lambda: dist.broadcast(whole, 0), 1.0),
            "p2p": (lambda: self._exchange(whole), 1.0),
        }
        return calls[op]

    def _alltoall(self, whole: Any) -> Callable[[], object]:
        received = self.torch.empty_like(whole)
        return lambda: self.dist.all_to_all_single(received, whole)

    def _exchange(self, whole: Any) -> None:
        """Rank 0 sends to rank 1; the others wait."""
        if self.rank == 0:
            self.dist.send(whole, 1)
        elif self.rank == 1:
            self.dist.recv(whole, 0)

    def measure(self, case: Case, rules: Rules) -> Outcome:
        """Samples in step with all ranks, taken again while the machine is disturbed."""
        run, share = self.operation(case)
        began = self.clock.now()
        first_s = self.timer.time_calls(run, 1, 1, self.dist.barrier)[0]
        values = self.slowest(self.timer.time_calls(run, WARMUP_CALLS, 1, self.dist.barrier))
        spent_s = self.clock.now() - began
        warmup = Warmup(
            calls=1 + WARMUP_CALLS, seconds=spent_s, first_call_s=first_s, stable=is_warm(values)
        )
        samples, reading = self._samples(run, rules, min(values))
        retaken, patience_s = 0, self.clock.now() + rules.retake_s
        while reading.troubles and self.agree(float(self.clock.now() < patience_s)):
            retaken += len(samples)
            samples, reading = self._samples(run, rules, min(values))
        measured = conclude_samples(
            samples, [reading], warmup, rules, timer=self.timer.timer, retaken=retaken
        )
        bus_Bps = float(case.case["bytes"]) * share / measured.summary.median_s
        more = {"bandwidth_Bps": bus_Bps}
        return outcome(case, measured, more=more, notes={"bandwidth": "bus, as nccl-tests"})

    def _samples(
        self, run: Callable[[], object], rules: Rules, typical_s: float
    ) -> tuple[list[float], Reading]:
        rule, samples = StopRule(rules), []
        deadline = self.clock.now() + rules.cap_s
        count = int(max(1, min(100, self.agree(rules.block_s / 2 / max(typical_s, 1e-7)))))
        self.watch.start()
        while True:
            block = self.slowest(self.timer.time_calls(run, count, 1, self.dist.barrier))
            samples += block
            for sample in block:
                rule.add(sample)
            late = self.clock.now() > deadline and rule.count >= rules.min_samples
            if self.agree(float(rule.reason() is not None or late)):
                break
        reading = self.watch.stop()
        troubled = self.agree(float(bool(reading.troubles)))
        troubles = ("contended",) if troubled else ()
        return samples, Reading(troubles=troubles, figures=reading.figures)  # type: ignore[arg-type]


def main() -> None:
    """Measure every case of stdin in step with the other ranks."""
    rank, ranks, meeting, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    ask = msgspec.json.decode(sys.stdin.buffer.read(), type=Ask)
    member = Rank(rank, ranks, meeting, kind)
    for case in ask.cases:
        answer = member.measure(case, ask.rules)
        if rank == 0:
            sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
            sys.stdout.buffer.flush()
    member.dist.destroy_process_group()


if __name__ == "__main__":
    main()
