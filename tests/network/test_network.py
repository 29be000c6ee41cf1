"""The chunk-level network: equal to closed forms, conserving bytes, honest about contention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError, DataError
from analyzer.network import algorithms, topology
from analyzer.network.astra import read_network
from analyzer.network.hierarchical import overlapped_layers, run
from analyzer.network.schedule import Schedule, nothing
from analyzer.network.simulate import simulate
from analyzer.timing.collectives import Fabric, collective_time

B, L = 100e9, 2e-6
FABRIC = Fabric(link_Bps=B, link_latency_s=L)
PAYLOADS = (1e3, 1e6, 1e9)


def closed(kind: str, payload: float, ranks: int, algorithm: str, fabric: Fabric = FABRIC) -> float:
    return float(collective_time(kind, payload, ranks, fabric, algorithm=algorithm))


@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 13, 16])
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("all_reduce", "ring"),
        ("all_gather", "ring"),
        ("reduce_scatter", "ring"),
        ("all_to_all", "direct"),
        ("all_gather", "direct"),
    ],
)
def test_simulation_equals_the_closed_form(
    kind: str, algorithm: str, payload: float, ranks: int
) -> None:
    simulated = run(topology.switch(ranks, B, L), kind, payload, algorithm).seconds
    assert simulated == pytest.approx(closed(kind, payload, ranks, algorithm), rel=1e-9)


@pytest.mark.parametrize("ranks", [2, 4, 8, 16])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_halving_doubling_equals_its_closed_form(ranks: int, payload: float) -> None:
    simulated = run(topology.switch(ranks, B, L), "all_reduce", payload, "halving_doubling")
    expected = closed("all_reduce", payload, ranks, "halving_doubling")
    assert simulated.seconds == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ranks", [2, 4, 8, 16])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_binomial_tree_equals_its_closed_form(ranks: int, payload: float) -> None:
    simulated = run(topology.switch(ranks, B, L), "all_reduce", payload, "binomial").seconds
    assert simulated == pytest.approx(2 * np.log2(ranks) * (L + payload / B), rel=1e-9)


@pytest.mark.parametrize("ranks", [4, 8, 16])
def test_double_tree_meets_its_closed_form_at_both_ends(ranks: int) -> None:
    """Latency at one end, two payloads through each port at the other; pipelined in between."""
    net = topology.switch(ranks, B, L)
    for payload, pieces in ((1e3, 1), (2e9, 768)):
        schedule = Schedule()
        group = range(ranks)
        algorithms.double_tree_all_reduce(schedule, group, payload, nothing(group), pieces)
        expected = closed("all_reduce", payload, ranks, "tree")
        assert simulate(net, schedule).seconds == pytest.approx(expected, rel=0.01)


def test_bidirectional_ring_is_twice_as_fast_on_a_ring() -> None:
    net = topology.ring(8, B, L)
    one = run(net, "all_reduce", 1e9, "ring").seconds
    two = run(net, "all_reduce", 1e9, "bidirectional_ring").seconds
    assert two == pytest.approx(14 * L + (one - 14 * L) / 2, rel=1e-9)


def test_two_levels_are_the_sum_of_their_parts() -> None:
    net = topology.two_level(4, 8, 400e9, 1e-6, 10e9, 5e-6)
    inside = 7 * (1e-6 + 1e8 / 8 / 400e9)
    between = 3 * (5e-6 + 1e8 / 32 / 10e9)
    simulated = run(net, "all_reduce", 1e8, "hierarchical").seconds
    assert simulated == pytest.approx(2 * (inside + between), rel=1e-9)
    fabric = Fabric(
        link_Bps=400e9, link_latency_s=1e-6, devices_per_node=8, net_Bps=10e9, net_latency_s=5e-6
    )
    assert closed("all_reduce", 1e8, 32, "ring", fabric) == pytest.approx(simulated, rel=0.01)


def test_a_torus_shares_its_work_over_dimensions() -> None:
    net = topology.torus((4, 4), B, L)
    simulated = run(net, "all_reduce", 1e8, "hierarchical").seconds
    assert simulated == pytest.approx(
        2 * (3 * (L + 1e8 / 4 / B) + 3 * (L + 1e8 / 16 / B)), rel=1e-9
    )


def test_host_path_equals_the_closed_form() -> None:
    net = topology.through_host(4, 25e9, 1e-6, shared_Bps=50e9)
    fabric = Fabric(link_Bps=25e9, link_latency_s=1e-6, through_host=True, shared_Bps=50e9)
    simulated = run(net, "all_reduce", 1e9, "ring", packet_B=2e6).seconds
    assert simulated == pytest.approx(closed("all_reduce", 1e9, 4, "ring", fabric), rel=0.01)
    alone = Schedule()
    alone.send(0, 1, 1e9)
    expected = closed("p2p", 1e9, 2, "direct", fabric)
    assert expected == pytest.approx(2e-6 + 1e9 / 25e9)
    assert simulate(net, alone).seconds == pytest.approx(expected, rel=1e-9)


def test_contention_shows() -> None:
    """All to one: the last port carries everything; on a fat tree the trunk does."""
    schedule = Schedule()
    for rank in range(1, 8):
        schedule.send(rank, 0, 1e8)
    outcome = simulate(topology.switch(8, B, L), schedule)
    assert outcome.seconds == pytest.approx(L + 7e8 / B, rel=1e-9)
    crossing = Schedule()
    for rank in range(4):
        crossing.send(rank, rank + 4, 1e8)
    thin = simulate(topology.fat_tree(2, 4, B, L, oversubscription=4.0), crossing, 1e6).seconds
    wide = simulate(topology.fat_tree(2, 4, B, L), crossing, 1e6).seconds
    assert wide == pytest.approx(2 * L + 1e8 / B, rel=0.02)
    assert thin == pytest.approx(2 * L + 4e8 / B, rel=0.02)


def test_a_mesh_is_slower_than_a_torus_and_a_full_mesh_faster() -> None:
    def seconds(net: topology.Topology) -> float:
        return run(net, "all_to_all", 1e8, "direct").seconds

    assert seconds(topology.full(9, B, L)) < seconds(topology.torus((3, 3), B, L))
    assert seconds(topology.torus((4, 4), B, L)) < seconds(topology.mesh((4, 4), B, L))
    on_ring = seconds(topology.ring(16, B, L))
    across_B = 8 * 8 * 1e8 / 16  # one half to the other, over two links
    assert on_ring >= across_B / (2 * B)


@given(
    ranks=st.sampled_from([2, 4, 8]),
    payload=st.floats(1e3, 1e9),
    algorithm=st.sampled_from(["ring", "bidirectional_ring", "halving_doubling", "direct", "tree"]),
    shape=st.sampled_from(["switch", "ring", "full"]),
)
@settings(max_examples=40, deadline=None)
def test_bytes_are_conserved_and_no_port_is_faster_than_light(
    ranks: int, payload: float, algorithm: str, shape: str
) -> None:
    net = getattr(topology, shape)(ranks, B, L)
    outcome = run(net, "all_reduce", payload, algorithm)
    carried_B = outcome.link_busy_s.sum() * B
    least_B = 2 * (ranks - 1) * payload * (2 if shape == "switch" else 1)
    assert carried_B >= least_B * (1 - 1e-9)
    assert np.all(outcome.link_busy_s <= outcome.seconds * (1 + 1e-9))
    assert np.all(outcome.end_s >= outcome.start_s)


def test_pieces_hide_latency_but_not_bandwidth() -> None:
    net = topology.switch(8, B, L)
    whole = run(net, "all_reduce", 1e7, "ring").seconds
    chunked = run(net, "all_reduce", 1e7, "ring", pieces=8).seconds
    assert 2 * 7 / 8 * 1e7 / B <= chunked < whole


def test_a_second_micro_batch_hides_what_it_can() -> None:
    net = topology.switch(4, B, 0.0)
    comm_s = closed("all_reduce", 1e8, 4, "ring", Fabric(link_Bps=B))
    for compute_s in (0.3 * comm_s, comm_s, 3 * comm_s):
        alone = overlapped_layers(net, 20, compute_s, 1e8, micro_batches=1).seconds
        paired = overlapped_layers(net, 20, compute_s, 1e8, micro_batches=2).seconds
        assert alone == pytest.approx(20 * (compute_s + comm_s), rel=1e-9)
        longer, shorter = max(compute_s, comm_s), min(compute_s, comm_s)
        assert paired == pytest.approx(20 * longer + shorter / 2, rel=0.01)


def test_compute_on_one_rank_is_one_after_the_other() -> None:
    schedule = Schedule()
    first, second = schedule.compute(0, 1.0), schedule.compute(0, 2.0)
    schedule.compute(1, 0.5, [first, second])
    outcome = simulate(topology.switch(2, B, L), schedule)
    assert outcome.seconds == pytest.approx(3.5)
    assert outcome.compute_busy_s.tolist() == [3.0, 0.5]


ASTRA = """# two levels
topology: [ Ring, FullyConnected, Switch ]
npus_count: [ 2, 4, 2 ]  # 16
bandwidth: [ 200.0, 100.0, 50.0 ]  # GB/s
latency:
  - 50.0
  - 500.0
  - 2000.0
"""


def test_astra_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.yml"
    path.write_text(ASTRA)
    net = read_network(path)
    assert (net.ranks, net.shape) == (16, (2, 4, 2))
    (link,) = net.route(0, 1)
    assert net.links[link] == topology.Link("0→1", 200e9, pytest.approx(50e-9))
    route = [net.links[index] for index in net.route(0, 15)]
    assert [round(link.Bps / 1e9) for link in route] == [200, 100, 50, 50]
    assert sum(link.latency_s for link in route) == pytest.approx(2550e-9)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Ring, Fully", "Rign, Fully", "did you mean ring"),
        ("npus_count: [ 2, 4, 2 ]", "npus_count: [ 2, 4 ]", "npus_count has 2 entries"),
        ("200.0", "fast", "'fast' is not a number"),
        ("bandwidth:", "bandwith:", "did you mean bandwidth"),
        ("[ 2, 4, 2 ]", "[ 2, 0, 2 ]", "not a whole number"),
    ],
)
def test_faults_in_astra_files_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "net.yml"
    path.write_text(ASTRA.replace(old, new))
    with pytest.raises(DataError, match=said) as caught:
        read_network(path)
    assert "net.yml" in str(caught.value)


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="power of two"):
        run(topology.switch(6, B, L), "all_reduce", 1.0, "halving_doubling")
    with pytest.raises(ConfigError, match="did you mean"):
        run(topology.switch(4, B, L), "all_reduce", 1.0, "rings")
    with pytest.raises(ConfigError, match="not added before"):
        Schedule().send(0, 1, 1.0, [3])
    with pytest.raises(ConfigError, match="bandwidth above 0"):
        topology.switch(4, 0.0, L)
