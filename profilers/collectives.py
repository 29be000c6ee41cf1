"""Profile `collectives`: torch.distributed between processes, NCCL on GPUs and Gloo on CPUs.

Every rank times each call; a sample is the slowest rank's. `bytes` is the size of the whole tensor
that a rank holds (of the result for all-gather, of the input for reduce-scatter), as in the
published tables; bus bandwidth follows the usual convention of nccl-tests.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from analyzer.errors import CaseTimeout
from analyzer.records import Scalar, Scenario
from profilers import estimates
from profilers.cases import Ask, Case, Failure, Machine, Outcome, Planned
from profilers.environment import redact
from profilers.options import Options
from profilers.stopping import Rules

if TYPE_CHECKING:
    from profilers.workbench import Workbench

RULES = Rules(
    min_samples=10,
    min_time_s=0.05,
    max_noise=0.02,
    max_samples=200,
    cap_s=1.0,
    warmup_s=0.3,
    retake_s=2.0,
)
OPS = ("allreduce", "allgather", "reducescatter", "alltoall", "broadcast", "p2p")
KIB, MIB = 1024, 1024**2
SIZES = {
    "tiny": (64 * KIB,),
    "small": (4 * KIB, 32 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB),
    "large": tuple(2**power for power in range(12, 29, 2)),
}
START_S = 8.0
LIMIT_S = 60.0


def plan(options: Options, machine: Machine) -> list[Planned]:
    """Every collective for each group size that this machine can form."""
    size = estimates.size_of(options, machine)
    backend = "gloo" if machine.device == "cpu" else "nccl"
    planned = []
    for ranks in group_sizes(machine):
        for op in OPS:
            for nbytes in SIZES[size]:
                case: dict[str, Scalar] = {"op": op, "bytes": nbytes, "gpus": ranks}
                call = 1e-4 + 6 * nbytes / machine.bandwidth_Bps
                planned.append(
                    Planned(
                        case=Case(
                            profile="collectives",
                            kind="collective",
                            scenario=Scenario(engine="torch", gpus=ranks, variant=backend),
                            case={**case, "variant": backend},
                        ),
                        estimate_s=estimates.measuring_s(call, RULES, machine) + 0.3,
                        priority=0 if op in ("allreduce", "p2p") else 1,
                        batch=f"{ranks} ranks",
                        memory_B=4.0 * nbytes * ranks,
                    )
                )
    return planned


def group_sizes(machine: Machine) -> tuple[int, ...]:
    """2, 4, 8 … devices; on a CPU two processes, which is what shares its memory at the least."""
    if machine.device == "cpu":
        return (2,)
    return tuple(ranks for ranks in (2, 4, 8, 16) if ranks <= machine.devices)


def measure(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """Run one process per rank; the first answers for all."""
    ranks = int(cases[0].case["gpus"])
    limit_s = LIMIT_S + len(cases) * (rules.cap_s + rules.warmup_s + rules.retake_s)
    with ExitStack() as stack:
        meeting = stack.enter_context(TemporaryDirectory(prefix="ranks-"))
        errors = stack.enter_context((Path(meeting) / "errors").open("w+b"))
        processes = [
            subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-m", "profilers.collective_rank", str(rank), str(ranks), meeting,
                 bench.device.type],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )
            for rank in range(ranks)
        ]  # fmt: skip
        for process in processes:
            stack.callback(_end, process)
        ask = msgspec.json.encode(Ask(cases=tuple(cases), rules=rules, seed=seed))
        try:
            answers = _talk(processes, ask, limit_s)
        except subprocess.TimeoutExpired:
            raise CaseTimeout(f"{ranks} ranks did not finish within {limit_s:.0f} s") from None
        errors.seek(0)
        last_words = errors.read().decode(errors="replace").strip().splitlines()[-1:]
    yield from _decode(answers, cases, " ".join(last_words))


def _talk(processes: list[subprocess.Popen[bytes]], ask: bytes, limit_s: float) -> bytes:
    """Give all ranks the same cases; what rank 0 prints is the answer."""
    for process in processes[1:]:
        if process.stdin is not None:
            process.stdin.write(ask)
            process.stdin.close()
            process.stdin = None
    answers, _ = processes[0].communicate(ask, timeout=limit_s)
    for process in processes[1:]:
        process.wait(timeout=limit_s)
    return answers


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _decode(answers: bytes, cases: Sequence[Case], last_words: str) -> Iterator[Outcome | Failure]:
    answered = set()
    for line in answers.splitlines():
        reply = msgspec.json.decode(line, type=Outcome | Failure)
        answered.add(reply.case)
        yield reply
    for case in cases:
        if case.id not in answered:
            reason = redact(f"a rank ended early: {last_words}")[:300]
            yield Failure(case=case.id, code="crash", reason=reason)
