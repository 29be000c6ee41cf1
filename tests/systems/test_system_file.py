"""A user's own machine: strict, exact, and built on another where that is shorter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError
from analyzer.systems_catalog import load_system
from analyzer.units import show

LEAST = """
name = "mine"
[device]
name = "my card"
memory_B = "24 GiB"
memory_bandwidth_Bps = "936 GB/s"
[device.peak_flops]
bf16 = "71 TFLOP/s"
"""
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "my-system.toml"


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_least_that_a_device_needs(tmp_path: Path) -> None:
    system = load_system(write(tmp_path, LEAST))
    assert system.device.memory_B == 24 * 1024**3
    assert system.device.memory_bandwidth_Bps == 936e9
    assert system.device.peak("int4") == 71e12
    assert system.max_devices == 1
    assert system.source_of("device.memory_B") == "given: mine.toml"


def test_numbers_and_quantities_say_the_same(tmp_path: Path) -> None:
    plain = (
        LEAST.replace('"24 GiB"', "25769803776")
        .replace('"936 GB/s"', "936e9")
        .replace('"71 TFLOP/s"', "71e12")
    )
    assert load_system(write(tmp_path, plain)) == load_system(write(tmp_path, LEAST, "mine.toml"))


POSITIVE = st.floats(1e-9, 1e18)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(memory_B=POSITIVE, bandwidth_Bps=POSITIVE, flops=POSITIVE, binary=st.booleans())
def test_what_is_written_is_what_is_read(
    tmp_path: Path, memory_B: float, bandwidth_Bps: float, flops: float, binary: bool
) -> None:
    text = (
        LEAST.replace("24 GiB", show(memory_B, "bytes", binary=binary))
        .replace("936 GB/s", show(bandwidth_Bps, "bandwidth", binary=binary))
        .replace("71 TFLOP/s", show(flops, "compute"))
    )
    device = load_system(write(tmp_path, text)).device
    assert device.memory_B == memory_B
    assert device.memory_bandwidth_Bps == bandwidth_Bps
    assert device.peak_flops == {"bf16": flops}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("memory_B", "memory", r"mine\.toml: device: unknown key 'memory' \(did you mean memory_B"),
        ('"936 GB/s"', '"936 GB"', r"device\.memory_bandwidth_Bps: '936 GB' is not a bandwidth"),
        ('"24 GiB"', '"24 gib"', r"device\.memory_B: '24 gib' is not a size: write e\.g\."),
        ('"24 GiB"', "-1", r"device: memory_B is -1; it must be above 0|memory_B is -1"),
        ('"24 GiB"', "nan", r"device\.memory_B: nan is not finite"),
        ('"24 GiB"', "true", r"memory_B"),
        ('bf16 = "71 TFLOP/s"', 'bf61 = "71 TFLOP/s"', r"peak_flops 'bf61' is unknown.*bf16"),
        ('bf16 = "71 TFLOP/s"', "", r"peak_flops is empty"),
        ('name = "my card"', "", r"device: key 'name' is missing"),
        ("[device.peak_flops]", "[device.peak_flop]", r"unknown key 'peak_flop'"),
        ('name = "mine"', 'name = "mine"\nbase = "H10O"', r"base: unknown system 'H10O' \(did you"),
        ('name = "mine"', 'name = "mine"\nbase = 3', r"base: give the name"),
        ('name = "mine"', 'name = "mine"\nnodes = 2', r"nodes is 2 but nothing joins them"),
        ('name = "mine"', 'name = "mine', r"not valid TOML"),
    ],
)
def test_mistakes_are_named_with_file_and_key(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    assert old in LEAST
    path = write(tmp_path, LEAST.replace(old, new, 1))
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_system(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_sources_must_cite_figures_that_exist(tmp_path: Path) -> None:
    text = LEAST + '[sources]\n"device.memory_BB" = "measured: by me"\n'
    with pytest.raises(ConfigError, match=r"no figure 'device\.memory_BB' \(did you mean"):
        load_system(write(tmp_path, text))
    text = LEAST + '[sources]\n"device.memory_B" = "somebody told me"\n'
    with pytest.raises(ConfigError, match="source 'somebody told me' is unknown"):
        load_system(write(tmp_path, text))
    text = LEAST + '[sources]\n"device.memory_B" = "measured: by me"\n'
    assert load_system(write(tmp_path, text)).source_of("device.memory_B") == "measured: by me"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        load_system(tmp_path / "nowhere.toml")


def test_a_base_lends_what_is_not_written(tmp_path: Path) -> None:
    text = 'name = "mine"\nbase = "H100-SXM"\n[device]\ntdp_W = 500\n[host]\ncapacity_B = "1 TiB"\n'
    mine, base = load_system(write(tmp_path, text)), load_system("H100-SXM")
    assert mine.device.tdp_W == 500
    assert mine.device.peak_flops == base.device.peak_flops
    assert mine.intra_node == base.intra_node
    assert mine.host
    assert base.host
    assert mine.host.bandwidth_Bps == base.host.bandwidth_Bps
    assert mine.host.capacity_B == 2**40
    assert mine.aliases == ()
    assert mine.source_of("device.tdp_W") == "given: mine.toml"
    assert mine.source_of("host.bandwidth_Bps") == base.source_of("host.bandwidth_Bps")


def test_a_link_with_a_name_of_its_own_is_new(tmp_path: Path) -> None:
    link = 'bandwidth_Bps = "50 GB/s"\nlatency_s = "1 us"\n'
    named = 'name = "mine"\nbase = "RTX3090"\n[intra_node]\nname = "bridge"\n' + link
    changed = 'name = "mine"\nbase = "RTX3090"\n[intra_node]\n' + link
    base = load_system("RTX3090").intra_node
    fresh = load_system(write(tmp_path, named)).intra_node
    same = load_system(write(tmp_path, changed)).intra_node
    assert base
    assert fresh
    assert same
    assert base.through_host
    assert not fresh.through_host
    assert same.through_host
    assert same.name == base.name


def test_files_may_rest_on_files_but_not_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, LEAST, "first.toml")
    second = write(tmp_path, 'name = "second"\nbase = "first.toml"\n', "second.toml")
    assert load_system(second).device.peak("bf16") == 71e12
    write(tmp_path, 'name = "a"\nbase = "b.toml"\n', "a.toml")
    circle = write(tmp_path, 'name = "b"\nbase = "a.toml"\n', "b.toml")
    with pytest.raises(ConfigError, match="in a circle"):
        load_system(circle)


def test_the_example_in_the_documentation() -> None:
    system = load_system(EXAMPLE)
    assert system.max_devices == 8
    assert system.device.tdp_W == 350
    assert system.device.peak("bf16") == load_system("RTX4090").device.peak("bf16")
    assert system.inter_node
    assert system.inter_node.bandwidth_Bps == 3.125e9
    assert system.inter_node.alone_Bps == 12.5e9
    assert system.source_of("intra_node.bandwidth_Bps").startswith("datasheet: PCIe 4.0 x8")
    assert system.source_of("intra_node.latency_s") == "given: my-system.toml"
