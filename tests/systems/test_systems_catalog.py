"""The catalog: every figure has a source, every name finds one system, peaks are dense and hold."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from analyzer.errors import ConfigError
from analyzer.system import System, figures
from analyzer.systems_catalog import CATALOG, fold, load_system, system_aliases, system_names

FILES = sorted(CATALOG.glob("*.toml"))
NAMES = system_names()
TERA, GIGA = 1e12, 1e9
TEXTS = {
    "name",
    "aliases",
    "note",
    "base",
    "vendor",
    "kind",
    "market",
    "family",
    "unit",
    "accumulate",
}
TEXTS |= {"topology", "through_host", "multicast"}

# What the corpora of measurements, GenZ and its offspring call their machines.
SPELLINGS = {
    "A100-SXM-80GB": "A100_80GB_GPU A100-SXM4-80GB A100-80GB(vidur) A100-80GB-unspecified A100-DGX",
    "A100-SXM-40GB": "A100_40GB_GPU a100-sxm4-40gb",
    "A100-PCIe-80GB": "A100-PCIE-80GB",
    "H100-SXM": "H100 H100_GPU H100-SXM5-80GB H100-80GB(vidur) H100-DGX dgx_h100 hgx-h100",
    "H200-SXM": "H200",
    "H20-96GB": "H20 h20_96gb",
    "H800-SXM": "H800",
    "B200-SXM-180GB": "B200-SXM b200 B200-SXM-192GB",
    "B300-SXM": "B300",
    "GB200": "GB200_GPU GB200-NVL72",
    "GH200-96GB": "GH200 GH200-480GB GH200_GPU",
    "GH200-144GB": "gh200-144gb",
    "RTX3090": "RTX3090_GPU RTX-3090 rtx_3090_24gb RTX3090_24GB(unstated)",
    "RTX4090": "RTX4090_GPU",
    "RTXA6000": "A6000_GPU RTX-A6000",
    "RTX3090-PCIe-IB100G": "RTX3090_PCIE_G4_IB100G",
    "RTX4090-PCIe-25G": "RTX4090_PCIE_G4_IB25G",
    "RTX3080-10GB": "RTX3080",
    "RTXPRO6000-Blackwell-SE": "RTX-PRO-6000-BSE",
    "RTXPRO6000-Blackwell-WS": "RTXPRO6000",
    "MI250-GCD": "MI250",
    "MI300X": "MI300X(304CU) 4xMI300X",
    "MI308X": "MI308X(80CU)",
    "MI355X": "MI355X(256CU)",
    "ArcB60": "Intel-Arc-B60",
    "Ascend-910B": "ascend910b",
    "Max1550": "max-1550",
    "TPUv6e": "TPUv6 TPU-v6e",
    "TPUv5e": "TPU_v5e",
    "AppleM2Ultra": "M2Ultra apple-m2-ultra",
    "AppleM1": "M1",
    "AppleM3Max": "M3Max",
    "Xeon-8592+": "xeon8592+",
    "JetsonAGXOrin-64GB": "JetsonOrin",
    "Gaudi3": "gaudi_3",
}
# What the machines' own tools call them.
DRIVER_NAMES = {
    "NVIDIA A100-SXM4-80GB": "A100-SXM-80GB",
    "NVIDIA A100-SXM4-40GB": "A100-SXM-40GB",
    "NVIDIA A100 80GB PCIe": "A100-PCIe-80GB",
    "NVIDIA A100-PCIE-40GB": "A100-PCIe-40GB",
    "NVIDIA H100 80GB HBM3": "H100-SXM",
    "NVIDIA H100 PCIe": "H100-PCIe",
    "NVIDIA H100 NVL": "H100-NVL",
    "NVIDIA H200": "H200-SXM",
    "NVIDIA B200": "B200-SXM-180GB",
    "NVIDIA B300 SXM6 AC": "B300-SXM",
    "NVIDIA GH200 480GB": "GH200-96GB",
    "NVIDIA GH200 144G HBM3e": "GH200-144GB",
    "NVIDIA GeForce RTX 3080 Ti": "RTX3080Ti",
    "NVIDIA GeForce RTX 5090": "RTX5090",
    "NVIDIA RTX 6000 Ada Generation": "RTX6000Ada",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTXPRO6000-Blackwell-SE",
    "Tesla T4": "T4",
    "Tesla V100-SXM2-16GB": "V100-SXM-16GB",
    "Tesla P100-PCIE-16GB": "P100-PCIe-16GB",
    "Intel(R) Xeon(R) Platinum 8480+": "Xeon-8480+",
    "Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz": "Xeon-8380",
    "AMD EPYC 9654 96-Core Processor": "EPYC-9654",
    "Apple M3 Max": "AppleM3Max",
    "Mac Studio M3 Ultra": "AppleM3Ultra",
    "AMD Instinct MI300X OAM": "MI300X",
    "8x H100 SXM": "H100-SXM",
    "2x RTX 3090": "2xRTX3090",
}
# Systems that measurements name exactly as the catalog does.
VERBATIM = """
    A10 A10G A40 A100-PCIe-pairNVL A100-SXM-80GB-330W L4 L40S T4 H100-PCIe H100-NVL GB300 Gaudi2
    MI210 MI250X-GCD MI325X RTX3070 RTX3080Ti RTX4070Ti RTX4080 RTX4000Ada RTX5000Ada RTX6000Ada
    Inferentia2 Inferentia2-core Trainium1 Trainium1-core SN40L Xeon-8380 Xeon-8480+ Xeon-8580
    Xeon-SPR-48c Xeon-6980P EPYC-9755 Grace AppleM1Max AppleM3 AppleM4Max TPUv4 TPUv5p
    V100-SXM-32GB B100 RTX5090 H200-NVL Trainium2 GB10 CoreUltra-258V-iGPU CoreUltra-155H-iGPU
"""
# Best matrix-multiplication TFLOP/s and weight-streaming GB/s that public kernel tables hold.
MEASURED = {
    ("A100-SXM-80GB", "bf16"): (298.3, 1678),
    ("A100-SXM-80GB", "int8"): (584.3, None),
    ("A40", "fp16"): (129.4, 587),
    ("B200-SXM-180GB", "bf16"): (2027.8, 6788),
    ("B200-SXM-180GB", "fp8"): (3432.5, None),
    ("B300-SXM", "bf16"): (2134.3, 6511),
    ("GB200", "bf16"): (2004.2, 7124),
    ("GB300", "bf16"): (2227.6, 6628),
    ("H100-SXM", "bf16"): (921.3, 3091),
    ("H200-SXM", "bf16"): (926.4, 4318),
    ("H20-96GB", "fp8"): (281.7, None),
    ("L40S", "bf16"): (279.1, 745),
    ("ArcB60", "bf16"): (97.8, 451),
    ("MI300X", "bf16"): (668.4, None),
    ("MI308X", "fp8"): (395.4, None),
    ("MI355X", "fp8"): (2800.8, 6029),
    ("RTX3090", "fp16"): (75.1, 887),
    ("RTX4090", "bf16"): (167.1, 958),
    ("RTXA6000", "fp16"): (137.5, 747),
    ("RTXPRO6000-Blackwell-SE", "bf16"): (443.7, 1532),
    ("TPUv6e", "bf16"): (808.1, None),
}


def leaves(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every written figure of a file by its path, found without the code under test."""
    for key, value in table.items():
        if key == "sources" and not prefix:
            continue
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        elif key not in TEXTS:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_figure_written_has_a_source(path: Any) -> None:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    cited = document["sources"]
    for figure in leaves(document):
        if figure == "devices_per_node" and document[figure] == 1:
            continue
        assert any(figure == key or figure.startswith(f"{key}.") for key in cited), figure
    for text in cited.values():
        kind, _, citation = text.partition(": ")
        assert kind in {"datasheet", "published", "measured", "derived", "assumed"}
        assert citation.strip()


@pytest.mark.parametrize("name", NAMES)
def test_every_system_is_whole(name: str) -> None:
    system = load_system(name)
    assert system.name == name
    assert set(system.sources) == set(figures(system))
    assert not any(source.startswith("given") for source in system.sources.values())
    device = system.device
    assert device.vendor
    assert device.family
    assert device.units > 1 or device.unit in ("NeuronCore", "TensorCore")
    assert device.peak("bf16") >= device.peak("fp32")
    for dtype, sparse in device.sparse_peak_flops.items():
        assert sparse > device.peak_flops[dtype]
    if system.host_link:
        assert system.host
        assert system.host_link.h2d_Bps < device.memory_bandwidth_Bps


def test_files_are_named_after_their_systems() -> None:
    assert len(FILES) == len(NAMES) >= 100
    assert {fold(path.stem) for path in FILES} == {fold(name) for name in NAMES}


def test_no_two_systems_answer_to_one_name() -> None:
    owner: dict[str, str] = {}
    for name, aliases in system_aliases().items():
        for spelling in (name, *aliases):
            folded = fold(spelling)
            assert folded, spelling
            assert folded not in owner, (spelling, owner.get(folded), name)
            owner[folded] = name


def test_the_scan_for_aliases_sees_what_the_parser_sees() -> None:
    scanned = system_aliases()
    for name in NAMES:
        assert scanned[name] == load_system(name).aliases


@pytest.mark.parametrize(
    ("spelling", "name"),
    [(text, name) for name, texts in SPELLINGS.items() for text in texts.split()]
    + list(DRIVER_NAMES.items())
    + [(name, name) for name in VERBATIM.split()],
)
def test_machines_are_found_under_the_names_that_people_use(spelling: str, name: str) -> None:
    assert load_system(spelling).name == name
    assert load_system(spelling.swapcase()).name == name


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("H10O-SXM", "H100-SXM"),
        ("RTX3909", "RTX3090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX4090"),
        ("MI-300-Y", "MI300X"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown system '{wrong}' \(did you mean .*{meant}"):
        load_system(wrong)


@pytest.mark.parametrize("nothing", ["", "gpu", "NVIDIA GPU", "-"])
def test_a_name_that_says_nothing_is_no_name(nothing: str) -> None:
    with pytest.raises(ConfigError, match="unknown system"):
        load_system(nothing)


@pytest.mark.parametrize(("key", "best"), MEASURED.items(), ids=lambda item: str(item))
def test_peaks_hold_against_what_was_measured(
    key: tuple[str, str], best: tuple[float, float | None]
) -> None:
    """Cards clock a little above their rating, hence 6 %; a sparse or halved peak is off by 2."""
    device = load_system(key[0]).device
    flops, bandwidth = best
    assert 0.5 < flops * TERA / device.peak(key[1]) < 1.06
    if bandwidth:
        assert 0.7 < bandwidth * GIGA / device.memory_bandwidth_Bps < 1.0


def test_the_figures_that_others_get_wrong() -> None:
    def bf16(name: str) -> float:
        return load_system(name).device.peak("bf16") / TERA

    def link(name: str) -> float:
        joined = load_system(name).intra_node
        assert joined
        return joined.bandwidth_Bps / GIGA

    assert bf16("RTX3090") == 71
    assert bf16("RTX4090") == 165.2
    assert bf16("RTXA6000") == 154.8
    assert bf16("GH200") == bf16("H100") == 989.4
    assert bf16("B100") == 1750
    assert bf16("GB200") == 2500
    assert link("A100") == 300
    assert link("H100") == 450
    assert link("B200") == 900
    assert load_system("RTX4090").device.l2_B == 72 * 1024**2
    assert load_system("RTX3090").device.l2_B == 6 * 1024**2


def test_the_seeds_clusters() -> None:
    six = load_system("6x8xRTX4090")
    assert six.max_devices == 48
    assert six.nodes_for(48) == 6
    assert six.devices_per_node == 8
    with pytest.raises(ConfigError, match="48 devices"):
        six.nodes_for(49)
    assert six.inter_node
    assert six.inter_node.alone_Bps == 3.125 * GIGA
    assert six.inter_node.bandwidth_Bps * 8 == six.inter_node.alone_Bps
    pair = load_system("2xRTX3090")
    assert pair.max_devices == 2
    assert pair.device == load_system("RTX3090").device


def test_variants_differ_only_where_they_say() -> None:
    capped, free = load_system("A100-SXM-80GB-330W"), load_system("A100-SXM-80GB")
    assert capped.device.tdp_W == 330
    assert capped.device.peak_flops == free.device.peak_flops
    assert capped.intra_node == free.intra_node
    assert "gpt-fast" in capped.source_of("device.tdp_W")
    chip, core = load_system("Inferentia2").device, load_system("Inferentia2-core").device
    assert {dtype: peak / 2 for dtype, peak in chip.peak_flops.items()} == core.peak_flops
    assert core.memory_bandwidth_Bps * 2 == chip.memory_bandwidth_Bps


def test_a_lookup_is_read_once() -> None:
    first: System = load_system("H100-SXM")
    assert load_system("H100-SXM") is first
