"""`--system auto` on imitated machines: measured where they speak, said so where they do not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from analyzer.detect import Probe, detect_system, this_machine
from analyzer.errors import ConfigError
from analyzer.systems_catalog import load_system

MEMINFO = "MemTotal:       263780416 kB\nMemFree:  1000 kB\n"


def machine(
    gpus: Sequence[str] = (),
    files: dict[str, str] | None = None,
    cores: int = 16,
    sysctl: dict[str, str] | None = None,
) -> Probe:
    texts = {"/proc/meminfo": MEMINFO, **(files or {})}

    def run(command: Sequence[str]) -> str | None:
        if command[0] == "nvidia-smi":
            return "\n".join(gpus) + "\n" if gpus else None
        return (sysctl or {}).get(command[-1])

    return Probe(run=run, read=texts.get, cores=lambda: cores)


def cpuinfo(model: str, flags: str, cores: int, threads: int = 1, **more: str) -> str:
    blocks = []
    for index in range(cores * threads):
        lines = [
            f"processor\t: {index}",
            "vendor_id\t: GenuineIntel",
            f"model name\t: {model}",
            "physical id\t: 0",
            f"core id\t\t: {index % cores}",
            f"flags\t\t: {flags}",
        ]
        blocks.append("\n".join(lines + [f"{key}\t: {value}" for key, value in more.items()]))
    return "\n\n".join(blocks) + "\n"


CARD = "NVIDIA GeForce RTX 3090, 24576, 350.00, 4, 16"


def test_two_cards_are_one_node_of_the_catalogs_kind() -> None:
    found = detect_system(machine([CARD, CARD]))
    known = load_system("RTX3090")
    assert found.system.name == "RTX3090"
    assert found.system.max_devices == 2
    assert found.system.device == known.device
    assert found.system.intra_node == known.intra_node
    assert found.system.host
    assert found.system.host.capacity_B == 263780416 * 1024
    assert found.system.source_of("devices_per_node") == "measured: nvidia-smi"
    assert any("PCIe 4.0 x16" in line and "not probed" in line for line in found.assumptions)
    assert any("not measured" in line for line in found.assumptions)


def test_what_the_card_says_counts_more_than_the_catalog() -> None:
    found = detect_system(machine(["NVIDIA GeForce RTX 3090, 24576, 250.00, 4, 8"])).system
    assert found.device.tdp_W == 250
    assert found.source_of("device.tdp_W") == "measured: nvidia-smi"
    assert found.host_link
    assert found.intra_node
    assert found.host_link.h2d_Bps == found.intra_node.bandwidth_Bps == pytest.approx(15.75e9, 1e-3)
    slice_ = detect_system(machine(["NVIDIA A100-SXM4-80GB, 40192, 400.00, 4, 16"])).system
    assert slice_.device.memory_B == 40192 * 2**20
    assert slice_.intra_node == load_system("A100").intra_node
    assert slice_.source_of("device.memory_bandwidth_Bps").startswith("datasheet")


def test_cells_that_say_nothing_change_nothing() -> None:
    row = "NVIDIA H100 80GB HBM3, 81559, [N/A], [Not Supported], [N/A]"
    found = detect_system(machine([row] * 8)).system
    known = load_system("H100-SXM")
    assert (found.device, found.host_link) == (known.device, known.host_link)
    assert found.max_devices == 8


def test_gpus_of_two_kinds_and_unknown_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"2 kinds \(NVIDIA GeForce RTX 3090, NVIDIA L4\)"):
        detect_system(machine([CARD, "NVIDIA L4, 23034, 72.00, 4, 16"]))
    laptop = "NVIDIA GeForce RTX 4090 Laptop GPU, 16376, 150.00, 4, 16"
    with pytest.raises(ConfigError, match=r"not in the catalog .*give --system FILE\.toml"):
        detect_system(machine([laptop]))


def test_a_processor_of_the_catalog_is_cut_to_the_cores_at_hand() -> None:
    text = cpuinfo("Intel(R) Xeon(R) Platinum 8480+", "sse2 avx avx2 fma avx512f", 14, threads=2)
    found = detect_system(machine(files={"/proc/cpuinfo": text}, cores=28)).system
    whole = load_system("Xeon-8480+").device
    assert found.name == "Xeon-8480+"
    assert found.device.units == 14
    assert found.device.peak("bf16") == pytest.approx(whole.peak("bf16") / 4)
    assert found.device.memory_bandwidth_Bps <= whole.memory_bandwidth_Bps
    assert found.device.memory_B == 263780416 * 1024


def test_fewer_processors_may_be_used_than_there_are() -> None:
    text = cpuinfo("Some CPU @ 2.00GHz", "sse2 avx fma", 8, threads=2)
    found = detect_system(machine(files={"/proc/cpuinfo": text}, cores=3)).system
    assert found.device.units == 3
    assert found.device.peak("fp32") == 3 * 32 * 2.0e9 * 1.5


@pytest.mark.parametrize(
    ("flags", "per_clock"),
    [
        ("sse2", {"fp32": 8}),
        ("sse2 avx", {"fp32": 16}),
        ("sse2 avx fma avx2", {"fp32": 32}),
        ("sse2 avx fma avx512f avx512_vnni", {"fp32": 64, "int8": 256}),
        (
            "fma avx512f avx512_vnni avx512_bf16 amx_bf16 amx_int8",
            {"fp32": 64, "bf16": 2048, "int8": 4096},
        ),
    ],
)
def test_instruction_sets_set_the_peaks(flags: str, per_clock: dict[str, float]) -> None:
    text = cpuinfo("Some CPU", flags, 4)
    fastest = {"/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3000000\n"}
    found = detect_system(machine(files={"/proc/cpuinfo": text, **fastest}))
    assert found.system.device.peak_flops == {
        dtype: ops * 4 * 3.0e9 for dtype, ops in per_clock.items()
    }
    assert any("operations per clock" in line for line in found.assumptions)
    assert any("not measured" in line for line in found.assumptions)


def test_an_arm_processor_and_one_that_hides_its_clock() -> None:
    text = "processor : 0\nFeatures : fp asimd asimdhp asimddp i8mm bf16\n\nprocessor : 1\n"
    found = detect_system(machine(files={"/proc/cpuinfo": text}, cores=2))
    assert found.system.device.units == 2
    assert set(found.system.device.peak_flops) == {"fp32", "bf16", "fp16", "int8"}
    assert any("a guess" in line for line in found.assumptions)


def test_family_25_runs_wide_operations_in_halves() -> None:
    text = cpuinfo("AMD EPYC", "fma avx512f avx512_bf16", 2).replace("GenuineIntel", "AuthenticAMD")
    text = text.replace("core id", "cpu family\t: 25\ncpu MHz\t\t: 2600.0\ncore id")
    peaks = detect_system(machine(files={"/proc/cpuinfo": text})).system.device.peak_flops
    assert peaks["fp32"] == 2 * 32 * 2.6e9 * 1.5
    assert peaks["bf16"] == 4 * peaks["fp32"]


def test_a_mac() -> None:
    probe = Probe(
        run=machine(
            sysctl={"machdep.cpu.brand_string": "Apple M3 Max\n", "hw.memsize": "68719476736\n"}
        ).run,
        read=lambda _: None,
        cores=lambda: 14,
    )
    found = detect_system(probe).system
    assert found.name == "AppleM3Max"
    assert found.device.memory_B == 64 * 2**30


def test_a_machine_that_says_nothing_is_not_guessed() -> None:
    silent = Probe(run=lambda _: None, read=lambda _: None, cores=lambda: 1)
    with pytest.raises(ConfigError, match="cannot be recognised"):
        detect_system(silent)
    no_memory = machine(files={"/proc/cpuinfo": cpuinfo("x", "fma", 1), "/proc/meminfo": ""})
    with pytest.raises(ConfigError, match="name a system"):
        detect_system(no_memory)


def test_the_real_probe_survives_missing_commands_and_files() -> None:
    probe = this_machine()
    assert probe.run(["no-such-command-as-this"]) is None
    assert probe.run(["false"]) is None
    assert probe.read("/no/such/file") is None
    assert probe.cores() >= 1
