"""Builds transfers from cases and times them: one builder per kind of transfer."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from analyzer.errors import ConfigError, ProfilerError, nearest
from profilers.cases import Case, Failure, Outcome, outcome
from profilers.device import CpuDevice
from profilers.measure import Bench, measure_together
from profilers.stopping import Rules
from profilers.work import Work
from profilers.worker import failure

if TYPE_CHECKING:
    from profilers.workbench import Workbench

Transfer = Callable[[Mapping[str, Any], "Workbench", ExitStack], Work]
SECTOR_B = 4096


def measure_links(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """Build all, time them in random turns, answer each. Files are gone when this ends."""
    with ExitStack() as stack:
        benches: list[Bench] = []
        built: dict[str, tuple[Case, Work]] = {}
        for case in cases:
            try:
                work = _build(case, bench, stack)
                work.run()
                bench.kit.device.synchronize()
            except (RuntimeError, OSError, MemoryError, ProfilerError) as error:
                yield failure(case, error)
                continue
            built[case.id] = (case, work)
            benches.append(Bench(name=case.id, run=work.run))
        on_disk = str(cases[0].case["op"]).startswith("disk")
        kit = replace(bench.kit, device=CpuDevice(bench.clock)) if on_disk else bench.kit
        results = measure_together(benches, kit, rules, seed) if benches else {}
        for name, measured in results.items():
            case, work = built[name]
            more = {"bandwidth_Bps": work.moved_B / measured.summary.median_s}
            yield outcome(case, measured, more=more, notes=dict(work.notes))


def _build(case: Case, bench: Workbench, stack: ExitStack) -> Work:
    name = str(case.case.get("op", ""))
    if name not in TRANSFERS:
        raise ConfigError(f"unknown transfer {name!r}{nearest(name, TRANSFERS)}")
    return TRANSFERS[name](case.case, bench, stack)


def _floats(case: Mapping[str, Any], bench: Workbench) -> Any:
    return bench.normal(int(case["bytes"]) // 4, dtype="fp32")


def _memory_read(case: Mapping[str, Any], bench: Workbench, stack: ExitStack) -> Work:
    source = _floats(case, bench)
    return Work(run=source.sum, moved_B=source.nbytes, notes={"counted": "bytes read"})


def _memory_copy(case: Mapping[str, Any], bench: Workbench, stack: ExitStack) -> Work:
    source = _floats(case, bench)
    target = bench.torch.empty_like(source)
    return Work(
        run=lambda: target.copy_(source),
        moved_B=2.0 * source.nbytes,
        notes={"counted": "bytes read and bytes written"},
    )


def _memory_triad(case: Mapping[str, Any], bench: Workbench, stack: ExitStack) -> Work:
    """a ← b + s·c, as STREAM has it."""
    b, c = _floats(case, bench), _floats(case, bench)
    a = bench.torch.empty_like(b)
    return Work(
        run=lambda: bench.torch.add(b, c, alpha=3.0, out=a),
        moved_B=3.0 * b.nbytes,
        notes={"counted": "two arrays read and one written"},
    )


def _host_and_device(case: Mapping[str, Any], bench: Workbench, stack: ExitStack) -> Work:
    torch, nbytes = bench.torch, int(case["bytes"])
    host = torch.randn(nbytes // 4, dtype=torch.float32)
    if case["variant"] == "pinned":
        host = host.pin_memory()
    device = torch.empty_like(host, device=bench.device)
    source, target = (host, device) if case["op"] == "h2d" else (device, host)
    return Work(run=lambda: target.copy_(source, non_blocking=True), moved_B=float(nbytes))


def _between_devices(case: Mapping[str, Any], bench: Workbench, stack: ExitStack) -> Work:
    source = _floats(case, bench)
    target = source.to("cuda:1")
    peer = bench.torch.cuda.can_device_access_peer(bench.device.index or 0, 1)
    return Work(
        run=lambda: target.copy_(source, non_blocking=True),
        moved_B=source.nbytes,
        notes={"peer_access": bool(peer)},
    )


def _disk_read(case: Mapping[str, Any], bench: Workbench, stack: ExitStack) -> Work:
    """The whole file from its start. `cached`: it was just written, so it is in memory."""
    nbytes = int(case["bytes"])
    path, buffer = _file(bench, stack, nbytes), _buffer(stack, nbytes)
    descriptor = _open(path, os.O_RDONLY, str(case["variant"]), stack)

    def run() -> None:
        done = 0
        while done < nbytes:
            part = os.preadv(descriptor, [memoryview(buffer)[done:]], done)
            if part <= 0:
                raise ProfilerError(f"the test file ended after {done} of {nbytes} bytes")
            done += part

    return Work(run=run, moved_B=float(nbytes), notes={"page_cache": _cache_note(case)})


def _disk_write(case: Mapping[str, Any], bench: Workbench, stack: ExitStack) -> Work:
    """The whole file in place. `direct` returns when the device has it, `cached` at once."""
    nbytes = int(case["bytes"])
    path, buffer = _file(bench, stack, nbytes), _buffer(stack, nbytes)
    descriptor = _open(path, os.O_WRONLY, str(case["variant"]), stack)

    def run() -> None:
        done = 0
        while done < nbytes:
            done += os.pwritev(descriptor, [memoryview(buffer)[done:]], done)

    return Work(run=run, moved_B=float(nbytes), notes={"page_cache": _cache_note(case)})


def _cache_note(case: Mapping[str, Any]) -> str:
    return "bypassed by O_DIRECT" if case["variant"] == "direct" else "in use"


def _file(bench: Workbench, stack: ExitStack, nbytes: int) -> Path:
    """A file of random bytes in the scratch folder, on the disk before we begin."""
    folder = Path(
        stack.enter_context(TemporaryDirectory(dir=bench.scratch_folder(), prefix="disk-"))
    )
    path = folder / "payload"
    block = os.urandom(min(nbytes, 1 << 20))
    with path.open("wb") as file:
        for _ in range(nbytes // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return path


def _buffer(stack: ExitStack, nbytes: int) -> mmap.mmap:
    """Page-aligned memory, which O_DIRECT insists on."""
    buffer = mmap.mmap(-1, -(-nbytes // SECTOR_B) * SECTOR_B)
    buffer.write(os.urandom(min(nbytes, 1 << 16)))
    return buffer


def _open(path: Path, flags: int, variant: str, stack: ExitStack) -> int:
    if variant == "direct":
        if not hasattr(os, "O_DIRECT"):
            raise ProfilerError("this system has no O_DIRECT; only cached figures can be had")
        flags |= os.O_DIRECT
    descriptor = os.open(path, flags)
    stack.callback(os.close, descriptor)
    return descriptor


TRANSFERS: dict[str, Transfer] = {
    "memory_read": _memory_read,
    "memory_copy": _memory_copy,
    "memory_triad": _memory_triad,
    "h2d": _host_and_device,
    "d2h": _host_and_device,
    "d2d": _between_devices,
    "disk_read": _disk_read,
    "disk_write": _disk_write,
}
