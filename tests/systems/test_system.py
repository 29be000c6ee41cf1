"""Devices, links and systems: what runs as what, how far a system reaches, what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import ConfigError
from analyzer.system import DTYPES, Device, Link, System, figures, wider
from analyzer.systems_catalog import load_system

# Significand bits (with the hidden one) and least and greatest exponent of each format's values.
_FLOAT = {
    "fp64": (53, -1074, 1024),
    "fp32": (24, -149, 128),
    "tf32": (11, -136, 128),
    "bf16": (8, -133, 128),
    "fp16": (11, -24, 16),
    "fp8": (4, -9, 9),
    "fp8-block": (4, -9, 9),
    "fp6": (4, -3, 3),
    "fp4": (2, -1, 3),
    "int8": (7, 0, 7),
    "int4": (3, 0, 3),
}


def device(**peaks: float) -> Device:
    return Device(name="toy", peak_flops=peaks, memory_B=1e9, memory_bandwidth_Bps=1e9)


def system(**fields: Any) -> System:
    link = Link(name="wire", bandwidth_Bps=1e9, latency_s=1e-6)
    defaults: dict[str, Any] = {"name": "toy", "device": device(fp32=1.0), "devices_per_node": 4}
    return System(**{**defaults, "intra_node": link, **fields})


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wider_format_holds_every_value_of_the_narrower(dtype: str) -> None:
    bits, least, greatest = _FLOAT[dtype]
    for other in wider(dtype):
        more_bits, lower, higher = _FLOAT[other]
        assert more_bits >= bits
        assert lower <= least
        assert higher >= greatest


@given(
    st.dictionaries(st.sampled_from(DTYPES), st.floats(1e9, 1e16), min_size=1),
    st.sampled_from(DTYPES),
)
def test_the_peak_is_the_fastest_legal_one(peaks: dict[str, float], dtype: str) -> None:
    toy = device(**peaks)
    legal = [peaks[name] for name in wider(dtype) if name in peaks]
    if not legal:
        with pytest.raises(ConfigError, match=f"cannot compute in {dtype}"):
            toy.peak(dtype)
        return
    ran = toy.execution(dtype)
    assert toy.peak(dtype) == ran.flops == peaks[ran.dtype] == max(legal)


def test_what_is_missing_runs_in_the_next_wider_format() -> None:
    ampere = device(fp32=19.5e12, tf32=156e12, bf16=312e12, fp16=312e12, int8=624e12)
    assert ampere.execution("fp8").dtype in ("bf16", "fp16")
    assert ampere.peak("fp8") == 312e12
    assert ampere.peak("fp4") == 312e12
    assert ampere.execution("int4") == ("int8", 624e12)
    turing = device(fp32=8.1e12, fp16=65e12, int8=130e12)
    assert turing.execution("bf16") == ("fp32", 8.1e12)
    with pytest.raises(ConfigError, match="bf16"):
        turing.peak("bf61")


def test_devices_fill_nodes() -> None:
    cluster = system(nodes=3, inter_node=Link(name="net", bandwidth_Bps=1e8, latency_s=1e-5))
    assert [cluster.nodes_for(n) for n in (1, 4, 5, 8, 9, 12)] == [1, 1, 2, 2, 3, 3]
    assert cluster.with_devices(5).nodes == 2
    assert cluster.max_devices == 12
    assert cluster.link_for(1) is None
    assert cluster.link_for(4) == cluster.intra_node
    assert cluster.link_for(5) == cluster.inter_node
    with pytest.raises(ConfigError, match=r"12 devices, the plan needs 13"):
        cluster.nodes_for(13)
    with pytest.raises(ConfigError, match="at least 1"):
        cluster.nodes_for(0)


def test_nodes_without_end_where_a_link_joins_them_and_one_where_none_does() -> None:
    net = Link(name="net", bandwidth_Bps=1e8, latency_s=1e-5)
    assert system(inter_node=net).nodes_for(4001) == 1001
    with pytest.raises(ConfigError, match="inter-node link"):
        system().nodes_for(5)


def test_impossible_systems_are_refused() -> None:
    with pytest.raises(ConfigError, match="give \\[intra_node\\]"):
        system(intra_node=None)
    with pytest.raises(ConfigError, match="give \\[inter_node\\]"):
        system(nodes=2)
    with pytest.raises(ConfigError, match="memory_B is -1"):
        Device(name="x", peak_flops={"fp32": 1.0}, memory_B=-1, memory_bandwidth_Bps=1)
    with pytest.raises(ConfigError, match=r"peak_flops\.fp32 is 0"):
        device(fp32=0.0)
    with pytest.raises(ConfigError, match="fp32"):
        device(fp23=1.0)
    with pytest.raises(ConfigError, match="peak_flops is empty"):
        device()
    with pytest.raises(ConfigError, match="did you mean switch"):
        Link(name="x", bandwidth_Bps=1, latency_s=1, topology="swich")
    with pytest.raises(ConfigError, match="source 'data sheet' is unknown"):
        system(sources={"device": "data sheet: none"})


def test_sources_are_found_by_the_longest_path() -> None:
    toy = system(sources={"device": "datasheet: a", "device.peak_flops.fp32": "measured: b"})
    assert toy.source_of("device.peak_flops.fp32") == "measured: b"
    assert toy.source_of("device.memory_B") == "datasheet: a"
    assert toy.source_of("intra_node.latency_s") == ""


def test_figures_lists_every_number_once_and_no_defaults() -> None:
    assert figures(system(nodes=1)) == {
        "device.peak_flops.fp32": 1.0,
        "device.memory_B": 1e9,
        "device.memory_bandwidth_Bps": 1e9,
        "devices_per_node": 4,
        "nodes": 1,
        "intra_node.bandwidth_Bps": 1e9,
        "intra_node.latency_s": 1e-6,
    }


def test_systems_can_be_keys_and_survive_a_round_trip() -> None:
    toy = system()
    assert {toy: 1}[system()] == 1
    assert msgspec.convert(msgspec.to_builtins(toy), System) == toy


def test_devices_without_matrix_units_are_told_by_their_peaks() -> None:
    bare = ("AppleM2Ultra", "P40", "RX7900XTX", "P100-SXM-16GB")
    equipped = ("RTX3090", "L40", "T4", "H100-SXM", "MI250-GCD", "Xeon-8380", "TPUv4", "SN40L")
    assert not any(load_system(name).device.has_matrix_units for name in bare)
    assert all(load_system(name).device.has_matrix_units for name in equipped)
