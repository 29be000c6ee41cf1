"""Facts are complete and stable; secrets, hosts and users never get out; watches judge rightly."""

from __future__ import annotations

import pytest
from profiler_fakes import FakeClock

from profilers import environment as env
from profilers.nvml import NvmlWatch
from profilers.telemetry import CpuWatch, NoWatch, ProcFiles, Reading, WatchAll, spans

HF_TOKEN = "hf_" + "AbCdEfGhIjKl"


@pytest.mark.parametrize(
    "text",
    [
        f"login {HF_TOKEN} ok",
        "OPENAI sk-" + "proj_abcdefgh12345",
        "ghp_" + "abcdefghij1234567890",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxIn0.c2ln",
    ],
)
def test_secret_shapes_are_hidden_wherever_they_stand(text):
    hidden = env.redact(text, names=[])
    assert env.REDACTED in hidden
    assert "abcdefgh" not in hidden.lower()


def test_host_user_and_home_are_hidden_as_words():
    names = ["gpu-box-7", "alice", "/home/alice"]
    names.sort(key=len, reverse=True)
    assert env.redact("at gpu-box-7 by alice in /home/alice/x", names) == (
        "at <redacted> by <redacted> in <redacted>/x"
    )
    assert env.redact("malice aforethought", names) == "malice aforethought"


def test_credentials_in_addresses_are_hidden():
    assert env.redact("http://user:pass@proxy:80/x", []) == "http://<redacted>@proxy:80/x"


def test_values_of_secret_options_are_hidden():
    shown = env.redact_arguments(
        ["prog", "--api-key", "abc", "--hf-token=xyz", "--model", "llama", "--token"], []
    )
    assert shown == [
        "prog", "--api-key", env.REDACTED, f"--hf-token={env.REDACTED}", "--model", "llama",
        "--token",
    ]  # fmt: skip


def test_planted_secrets_do_not_reach_a_captured_environment(monkeypatch):
    monkeypatch.setattr(env.socket, "gethostname", lambda: "secret-host.example.org")
    monkeypatch.setattr(env.platform, "node", lambda: "secret-host.example.org")
    monkeypatch.setenv("USER", "bobthebuilder")
    monkeypatch.setattr(
        env.sys, "argv", ["/home/bobthebuilder/bin/plumbline", "--token", HF_TOKEN, "secret-host"]
    )
    captured = env.capture({"gpu": "on secret-host.example.org"}, threads=1)
    text = repr(captured)
    for private in ("secret-host", "bobthebuilder", HF_TOKEN):
        assert private not in text
    assert captured.facts["threads"] == "1"
    assert {"cpu", "cpu_cores", "kernel", "python", "memory_GiB"} <= set(captured.facts)


def test_the_fingerprint_follows_the_facts_and_nothing_else():
    facts = {"cpu": "abacus", "torch": "2"}
    one = env.Environment(facts=facts, circumstances={"load": "1"})
    other = env.Environment(facts=dict(reversed(facts.items())), circumstances={"load": "9"})
    assert one.fingerprint == other.fingerprint
    assert env.Environment(facts={**facts, "torch": "3"}).fingerprint != one.fingerprint
    assert env.capture({}, 1).fingerprint == env.capture({}, 1).fingerprint


class FakeProc:
    """Counters of the operating system that move by a script: (wall, busy, own, waiting)."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.busy = self.own = self.waiting = 0.0

    def machine_busy_s(self) -> float:
        return self.busy

    def own_busy_s(self) -> float:
        return self.own

    def own_waiting_s(self) -> float:
        return self.waiting

    def advance(self, wall: float, others: float, own: float, waiting: float) -> None:
        self.clock.time_s += wall
        self.busy += others + own
        self.own += own
        self.waiting += waiting


@pytest.mark.parametrize(
    ("wall", "others", "own", "waiting", "contended"),
    [
        (1.0, 0.0, 1.0, 0.0, False),
        (1.0, 0.1, 2.0, 0.0, False),
        (1.0, 0.2, 1.0, 0.0, True),  # someone used a fifth of a core
        (1.0, 0.0, 1.0, 0.05, True),  # our threads queued for a core
        (0.1, 0.02, 0.1, 0.0, False),  # two ticks of 10 ms cannot be told from none
        (0.1, 0.09, 0.1, 0.0, True),
        (0.0, 0.0, 0.0, 0.0, False),
    ],
)
def test_contention_is_others_on_our_cores_or_us_in_the_queue(
    wall, others, own, waiting, contended
):
    clock = FakeClock()
    proc = FakeProc(clock)
    watch = CpuWatch(clock, proc)
    watch.start()
    proc.advance(wall, others, own, waiting)
    assert bool(watch.stop().troubles) is contended


def test_counters_of_this_machine_move_forward():
    proc = ProcFiles()
    before = (proc.machine_busy_s(), proc.own_busy_s(), proc.own_waiting_s())
    sum(index * index for index in range(300_000))
    after = (proc.machine_busy_s(), proc.own_busy_s(), proc.own_waiting_s())
    assert all(late >= early >= 0 for early, late in zip(before, after, strict=True))


def test_missing_scheduler_accounting_counts_as_no_waiting(tmp_path):
    (tmp_path / "self" / "task" / "1").mkdir(parents=True)
    (tmp_path / "stat").write_text("cpu  100 1 2 900 5 3 4 5 0 0\ncpu0 1\n")
    proc = ProcFiles(tmp_path)
    assert proc.own_waiting_s() == 0.0
    assert proc.machine_busy_s() == pytest.approx(115 * proc._tick_s)


class FakeGpu:
    def __init__(self, **overrides) -> None:
        self.values = {
            "sm_clock_MHz": 1900.0,
            "reference_clock_MHz": 1980.0,
            "event_reasons": 0,
            "temperature_C": 60.0,
            "power_W": 500.0,
            "process_ids": frozenset({42}),
            "memory_used_B": 1e9,
            **overrides,
        }
        self.energies = iter([100.0, 130.0])
        self.asked: set[str] = set()

    def __getattr__(self, name):
        self.asked.add(name)
        if name == "energy_J":
            return lambda: next(self.energies)
        return lambda: self.values[name]


@pytest.mark.parametrize(
    ("overrides", "troubles"),
    [
        ({}, ()),
        ({"event_reasons": 0x4}, ()),  # the board's power limit is how it runs in service
        ({"event_reasons": 0x8}, ("throttled",)),
        ({"event_reasons": 0x20}, ("throttled",)),
        ({"event_reasons": 0x40}, ("throttled",)),
        ({"event_reasons": 0x80 | 0x4}, ("throttled",)),
        ({"sm_clock_MHz": 1400.0}, ("throttled",)),
        ({"sm_clock_MHz": 1500.0}, ()),
        ({"process_ids": frozenset({42, 43})}, ("shared_gpu",)),
        ({"process_ids": frozenset()}, ()),
        ({"process_ids": frozenset({7})}, ()),  # one process with a number of the host
        ({"process_ids": frozenset({7, 8})}, ("shared_gpu",)),
    ],
)
def test_a_gpu_is_judged_by_clock_reasons_and_neighbours(overrides, troubles):
    watch = NvmlWatch(FakeGpu(**overrides), own_pids=frozenset({42}))
    watch.start()
    assert watch.stop().troubles == troubles


def test_a_gpu_reading_has_clock_heat_power_and_energy():
    watch = NvmlWatch(FakeGpu(event_reasons=0x4), own_pids=frozenset({42}))
    watch.start()
    figures = watch.stop().figures
    assert figures["block_energy_J"] == 30.0
    assert figures["power_capped"] == 1.0
    assert {"sm_clock_MHz", "temperature_C", "power_W", "gpu_memory_used_B"} <= set(figures)


def test_the_watch_only_reads():
    gpu = FakeGpu()
    watch = NvmlWatch(gpu)
    watch.start()
    watch.stop()
    assert gpu.asked <= {
        "sm_clock_MHz", "reference_clock_MHz", "event_reasons", "temperature_C", "power_W",
        "energy_J", "process_ids", "memory_used_B",
    }  # fmt: skip


def test_watches_add_up():
    class Troubled(NoWatch):
        def stop(self) -> Reading:
            return Reading(troubles=("throttled",), figures={"x": 1.0})

    both = WatchAll([NoWatch(), Troubled(), Troubled()])
    both.start()
    assert both.stop() == Reading(troubles=("throttled",), figures={"x": 1.0})
    assert spans([Reading(figures={"x": 1.0}), Reading(figures={"x": 3.0})])["x"].mean == 2.0


def test_tokens_that_are_counted_are_shown() -> None:
    command = ["--max-num-batched-tokens", "2048", "--hf-token", "abc", "--api-tokens", "d"]
    hidden = env.REDACTED
    assert env.redact_arguments(command)[1::2] == ["2048", hidden, hidden]
    facts = {"server_block_tokens": "16", "server_max_model_tokens": "8192", "TOKENS": "x"}
    assert env.redact_mapping(facts) == {**facts, "TOKENS": hidden}


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("plumbline p --store /home/me/box/records", "plumbline p --store records"),
        ("plumbline p --models=/a/b/config.json", "plumbline p --models=config.json"),
        ("campaign ~/runs/h200 --out .", "campaign h200 --out ."),
        ("plumbline p --store records/mine", "plumbline p --store records/mine"),
    ],
)  # fmt: skip
def test_commands_keep_no_folders_of_the_machine(command, shown):
    assert env.short_paths(command) == shown


def _module(size_MiB: int, speed: int, large_MiB: int = 0) -> bytes:
    """One memory module as SMBIOS writes it, with one string behind it."""
    body = bytearray(0x22)
    body[0], body[1] = 17, len(body)
    body[0x0C:0x0E] = size_MiB.to_bytes(2, "little")
    body[0x15:0x17] = speed.to_bytes(2, "little")
    body[0x1C:0x20] = large_MiB.to_bytes(4, "little")
    return bytes(body) + b"DIMM 0\0\0"


def test_memory_modules_are_read_from_the_firmwares_table(tmp_path):
    table = tmp_path / "DMI"
    other = bytes([4, 6, 0, 0, 0, 0]) + b"CPU\0\0"
    empty = _module(0, 0)
    end = bytes([127, 4, 0, 0, 0, 0])
    big = _module(0x7FFF, 4800, 65536)
    table.write_bytes(other + _module(16384, 5600) + empty + _module(16384, 5600) + big + end)
    assert env.memory_modules(table) == "2 x 16 GiB 5600 MT/s, 1 x 64 GiB 4800 MT/s"
    table.write_bytes(other + end)
    assert env.memory_modules(table) == "none"
    for cut in range(len(other)):
        table.write_bytes(other[:cut])
        assert env.memory_modules(table) == "none"
    assert env.memory_modules(tmp_path / "absent") == "unreadable"


def test_a_container_is_named_by_its_digest_where_the_image_tells_it(tmp_path, monkeypatch):
    monkeypatch.delenv("IMAGE_DIGEST", raising=False)
    assert env.container(tmp_path) == "none seen"
    (tmp_path / ".dockerenv").touch()
    assert env.container(tmp_path) == "yes, digest not told"
    monkeypatch.setenv("IMAGE_DIGEST", "sha256:" + "0a" * 32)
    assert env.container(tmp_path) == "sha256:" + "0a" * 32
    monkeypatch.setenv("IMAGE_DIGEST", "latest")
    assert env.container(tmp_path) == "yes, digest not told"
