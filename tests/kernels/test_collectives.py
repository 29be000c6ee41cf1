"""Closed forms of collectives: exact values, lower bounds, monotonicity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import ConfigError
from analyzer.timing.collectives import (
    ALGORITHMS,
    PARAMETERS,
    CollectiveParams,
    Fabric,
    collective_time,
)

NODE = Fabric(link_Bps=100e9, link_latency_s=1e-6, multicast=True)
CLUSTER = Fabric(
    link_Bps=400e9, link_latency_s=1e-6, devices_per_node=8, net_Bps=50e9, net_latency_s=5e-6
)
CASES = [(kind, name) for kind, names in ALGORITHMS.items() for name in names]


def test_ring_all_reduce_by_hand() -> None:
    seconds = collective_time("all_reduce", 8e6, 4, NODE, algorithm="ring")
    assert seconds == pytest.approx(6 * 1e-6 + 2 * 3 / 4 * 8e6 / 100e9, rel=1e-12)


def test_two_level_all_reduce_by_hand() -> None:
    inside = 2 * (7 * 1e-6 + 7 / 8 * 1e9 / 400e9)
    between = 2 * (5e-6 + 1 / 2 * 1e9 / 8 / 50e9)
    seconds = collective_time("all_reduce", 1e9, 16, CLUSTER, algorithm="ring")
    flat = 30 * (14 * 1e-6 + 2 * 5e-6) / 16 + 2 * 15 / 16 * 1e9 / 400e9
    assert seconds == pytest.approx(min(inside + between, flat), rel=1e-12)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_one_rank_costs_nothing(kind: str, name: str) -> None:
    assert collective_time(kind, 1e6, 1, NODE, algorithm=name) == 0.0


@pytest.mark.parametrize(("kind", "name"), CASES)
@given(
    payload=st.floats(1.0, 1e11),
    ranks=st.integers(2, 256),
    share=st.floats(0.02, 1.0),
    fixed=st.floats(0.0, 1e-4),
)
def test_never_faster_than_light_nor_than_its_ideal(
    kind: str, name: str, payload: float, ranks: int, share: float, fixed: float
) -> None:
    ideal = collective_time(kind, payload, ranks, NODE, algorithm=name)
    least = {"all_reduce": 1.0, "p2p": 1.0}.get(kind, (ranks - 1) / ranks)
    assert ideal >= least * payload / 100e9 * (1 - 1e-9)
    params = CollectiveParams(
        base_s=fixed, hop_s=fixed, custom_base_s=fixed, ramp_s=fixed,
        link_eff=share, multicast_eff=share,
    )  # fmt: skip
    assert collective_time(kind, payload, ranks, NODE, params, name) >= ideal * (1 - 1e-12)


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_more_payload_or_less_bandwidth_is_never_faster(kind: str) -> None:
    payload = np.geomspace(1e2, 1e10, 60)
    for ranks in (2, 3, 8, 16, 24, 64):
        seconds = collective_time(kind, payload, ranks, CLUSTER, algorithm="library")
        assert np.all(np.diff(seconds) >= 0)
        slower = Fabric(
            link_Bps=200e9,
            link_latency_s=1e-6,
            devices_per_node=8,
            net_Bps=25e9,
            net_latency_s=5e-6,
        )
        assert np.all(collective_time(kind, payload, ranks, slower) >= seconds)


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_arrays_agree_with_scalars(kind: str) -> None:
    payload, ranks = np.array([1e3, 1e6, 1e9])[:, None], np.array([1.0, 2, 8, 12, 16, 32])
    together = collective_time(kind, payload, ranks, CLUSTER, stride=2)
    alone = [
        [float(collective_time(kind, b, r, CLUSTER, stride=2)) for r in ranks]
        for b in payload.ravel()
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_stride_says_who_leaves_the_node() -> None:
    near = collective_time("all_reduce", 1e8, 8, CLUSTER, stride=1)
    far = collective_time("all_reduce", 1e8, 8, CLUSTER, stride=8)
    assert far == pytest.approx(14 * 5e-6 + 2 * 7 / 8 * 1e8 / 50e9)
    assert far > near
    assert collective_time("p2p", 1e8, 2, CLUSTER, stride=8) == pytest.approx(5e-6 + 1e8 / 50e9)
    assert collective_time("p2p", 1e8, 2, CLUSTER, stride=4) == pytest.approx(1e-6 + 1e8 / 400e9)


def test_host_path_shared_link_and_pairs() -> None:
    host = Fabric(link_Bps=25e9, link_latency_s=1e-6, through_host=True, shared_Bps=60e9)
    two = collective_time("p2p", 1e9, 2, host)
    assert two == pytest.approx(2e-6 + 1e9 / 25e9)
    eight = collective_time("all_reduce", 1e9, 8, host, algorithm="ring")
    assert eight == pytest.approx(14 * 2e-6 + 2 * 7 / 8 * 1e9 / (60e9 / 8))
    pairs = Fabric(link_Bps=448e9, pair_Bps=64e9, topology="full")
    pair = collective_time("all_reduce", 1e9, 2, pairs, algorithm="ring")
    assert pair == pytest.approx(1e9 / 64e9)


def test_the_engine_takes_the_fastest() -> None:
    custom = CollectiveParams(
        base_s=15e-6, hop_s=1e-6, multicast_base_s=2e-5, custom_base_s=4e-6, custom_hop_s=2e-7
    )
    payload = np.geomspace(1e3, 1e9, 30)
    library = collective_time("all_reduce", payload, 8, NODE, custom)
    engine = collective_time("all_reduce", payload, 8, NODE, custom, "engine")
    assert np.all(engine <= library)
    assert engine[0] < library[0] / 2
    plain = Fabric(link_Bps=100e9)
    with pytest.raises(ConfigError, match="without multicast"):
        collective_time("all_reduce", 1.0, 8, plain, algorithm="multicast")


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="did you mean all_reduce"):
        collective_time("allreduce", 1.0, 2, NODE)
    with pytest.raises(ConfigError, match=r"no algorithm 'rign'.*ring"):
        collective_time("all_reduce", 1.0, 2, NODE, algorithm="rign")
    with pytest.raises(ConfigError, match="topology"):
        collective_time("all_reduce", 1.0, 2, Fabric(link_Bps=1.0, topology="swich"))


def test_parameters_are_the_fields() -> None:
    assert tuple(PARAMETERS) == CollectiveParams.__struct_fields__
    assert CollectiveParams.ideal() == CollectiveParams()
