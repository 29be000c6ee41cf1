"""A worker process whose cases exit, crash, hang or run out of memory, for real."""

from __future__ import annotations

import os
import signal
import sys
import time

from profilers.cases import Described, Machine, Outcome
from profilers.environment import Environment
from profilers.worker import failure, run

MACHINE = Machine(
    device="cpu", name="faulty", devices=1, memory_B=1e9, cache_B=1e6, threads=1,
    formats=("fp32",), flops={"fp32": 1e9}, bandwidth_Bps=1e9, launch_s=1e-6,
)  # fmt: skip


def raise_named(name: str) -> None:
    errors = {
        "memory error": MemoryError("DefaultCPUAllocator: can't allocate memory"),
        "cuda oom": RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"),
        "cuda error": RuntimeError("CUDA error: an illegal memory access was encountered"),
        "no kernel": NotImplementedError("no kernel for fp3"),
        "secret": ValueError("bad token hf_" + "abcdefghijkl" + " in header"),
    }
    if name in errors:
        raise errors[name]


class Faulty:
    def describe(self) -> Described:
        print("libraries may chatter on stdout")
        return Described(machine=MACHINE, environment=Environment(facts={"cpu": "faulty"}))

    def measure(self, cases, rules, seed):
        for case in cases:
            behaviour = str(case.case["do"])
            if behaviour == "exit 137":
                os._exit(137)
            if behaviour == "segfault":
                print("about to fall over", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGSEGV)
            if behaviour == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if behaviour == "hang":
                time.sleep(60)
            if behaviour == "raise":
                raise RuntimeError("the whole batch is lost")
            try:
                raise_named(behaviour)
            except (RuntimeError, MemoryError, NotImplementedError, ValueError) as error:
                yield failure(case, error)
                continue
            yield Outcome(case=case.id, metrics={"latency_s": 1.0}, notes={"pid": os.getpid()})


if __name__ == "__main__":
    run(Faulty())
