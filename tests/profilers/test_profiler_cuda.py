"""The CUDA path without a GPU: order of events, graphs that cannot be captured, a driver that is
not there. A stand-in for torch notes what is asked of it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from analyzer.errors import ProfilerError
from profilers import nvml
from profilers.measure import Bench, Kit, measure
from profilers.stopping import Rules
from profilers.telemetry import NoWatch
from profilers.worker import classify


class FakeTorch:
    """A device on which every kernel takes a millisecond and the queue is a list."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gpu_time_ms = 0.0
        outer = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at_ms = outer.gpu_time_ms
                outer.log.append("event")

            def elapsed_time(self, later) -> float:
                assert outer.log[-1] == "wait", (
                    "times are read only after the device was waited for"
                )
                return later.at_ms - self.at_ms

        self.cuda = SimpleNamespace(
            Event=Event,
            set_device=lambda device: None,
            synchronize=lambda device: self.log.append("wait"),
            get_device_properties=lambda device: SimpleNamespace(L2_cache_size=50 * 1024**2),
        )
        self.float32 = "float32"
        self.ballast = SimpleNamespace(add_=lambda value: self.kernel("flush"))

    def device(self, name):
        return name

    def ones(self, count, dtype, device):
        self.ballast_B = 4 * count
        return self.ballast

    def kernel(self, name="kernel") -> None:
        self.log.append(name)
        self.gpu_time_ms += 1.0


@pytest.fixture
def torch(monkeypatch):
    fake = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


def test_samples_lie_between_events_and_the_device_is_waited_for_once(torch):
    from profilers.cuda import CudaDevice

    device = CudaDevice("cuda:0")
    times = device.time_calls(torch.kernel, 3, 2, device.flush)
    assert times == [1e-3] * 3
    one = ["flush", "event", "kernel", "kernel", "event"]
    assert torch.log == [*one, *one, *one, "wait"]


def test_a_flush_writes_at_least_twice_the_cache(torch):
    from profilers.cuda import CudaDevice

    CudaDevice("cuda:0")
    assert torch.ballast_B >= 2 * 50 * 1024**2


def test_the_kernel_runs_on_the_cuda_device(torch):
    from profilers.cuda import CudaDevice
    from profilers.device import SystemClock

    kit = Kit(device=CudaDevice("cuda:0"), clock=SystemClock(), watch=NoWatch())
    result = measure(Bench(name="k", run=torch.kernel, cold=True, cuda_graph=True), kit, Rules(
        min_time_s=0.01, warmup_s=0.05, block_s=0.01,
    ))  # fmt: skip
    assert result.summary.median_s == pytest.approx(1e-3)
    assert result.timer == "cuda_event"
    assert result.cuda_graph
    assert result.quality == "ok"


def test_what_cannot_be_captured_is_unsupported_and_no_broken_device(monkeypatch):
    from profilers import cuda

    def refuse(run):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(cuda, "_capture", refuse)
    with pytest.raises(NotImplementedError, match="no CUDA graph can be captured") as caught:
        cuda.captured(lambda: None)
    assert classify(caught.value) == "unsupported"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (MemoryError(), "oom"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "crash"),
        (RuntimeError("NCCL Error 3: internal error"), "crash"),
        (RuntimeError("\"addmm\" not implemented for 'Float8_e4m3fn'"), "unsupported"),
        (NotImplementedError("CUDA error inside"), "unsupported"),
        (ValueError("bad shape"), "error"),
    ],
)
def test_failures_are_told_apart(error, code):
    assert classify(error) == code


class FakeNvml:
    """A driver that answers some questions and refuses others."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, NVML_NVLINK_MAX_LINKS = 1, 2, 0, 3

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.asked_uuid = ""

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.asked_uuid = uuid
        return "handle"

    def nvmlDeviceGetUUID(self, handle):
        return "GPU-secret-serial"

    def nvmlSystemGetDriverVersion(self):
        return "580.1"

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return 1755

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        return 1980

    def nvmlDeviceGetPowerUsage(self, handle):
        return 691_000

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return 0x4

    def nvmlDeviceGetTemperature(self, handle, kind):
        return 61

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=7)]

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=5)

    def nvmlDeviceGetNvLinkState(self, handle, link):
        return link < 2

    def __getattr__(self, name):
        def refuse(*_args):
            raise self.NVMLError("not supported")

        return refuse


@pytest.fixture
def driver(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_the_gpu_is_found_by_its_identifier_and_watched(driver):
    watch = nvml.NvmlWatch(nvml.NvmlGpu(0, "abc"), own_pids=frozenset({7}))
    assert driver.asked_uuid == "GPU-abc"
    watch.start()
    reading = watch.stop()
    assert reading.troubles == ()
    assert reading.figures["power_W"] == 691.0
    assert reading.figures["power_capped"] == 1.0
    assert "block_energy_J" not in reading.figures  # this driver does not count energy


def test_facts_of_a_gpu_hide_its_serial_and_leave_out_what_is_refused(driver):
    from profilers.gpu_facts import nvml_facts

    facts = nvml_facts(0, "abc")
    assert facts["driver"] == "580.1"
    assert facts["nvlinks"] == "2"
    assert "secret" not in repr(facts)
    assert len(facts["gpu_id"]) == 12
    assert "vbios" not in facts
    assert facts["clocks"] == "not locked by this suite"


def test_a_machine_without_a_driver_is_said_so(monkeypatch):
    from profilers.gpu_facts import nvml_facts

    class Absent(FakeNvml):
        def nvmlInit(self) -> None:
            raise self.NVMLError("library not found")

    monkeypatch.setitem(sys.modules, "pynvml", Absent())
    with pytest.raises(ProfilerError, match="NVML does not answer: library not found"):
        nvml.NvmlGpu(0)
    assert nvml_facts(0, "")["gpu_watch"].startswith("none: ")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ProfilerError, match="not installed"):
        nvml.NvmlGpu(0)
