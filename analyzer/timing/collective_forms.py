"""What collectives are made of: fabrics, parameters, and per algorithm its hops and bytes.

`collectives.py` turns these counts into seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.timing.rates import Parameter

Array = NDArray[np.float64]

TOPOLOGIES = ("switch", "ring", "torus2d", "torus3d", "full")


class Fabric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The links between devices; bandwidths per device, per direction. Values may be arrays."""

    link_Bps: Any
    """Inside a node: all of a device's links together."""
    link_latency_s: Any = 0.0
    """One hop inside a node, as the data sheet has it."""
    devices_per_node: Any = float("inf")
    net_Bps: Any = float("inf")
    """Between nodes: one device's share of its node's network adapters."""
    net_latency_s: Any = 0.0
    pair_Bps: Any = float("inf")
    """Between two devices of a fully connected node (xGMI); a group uses only its own pairs."""
    shared_Bps: Any = float("inf")
    """What all ranks of a node share: root complex, host memory, a pair of sockets."""
    through_host: bool = False
    """Without peer-to-peer access every transfer is two: to host memory and back."""
    multicast: bool = False
    """The switch reduces and multiplies (NVLink SHARP)."""
    topology: str = "switch"


PARAMETERS: dict[str, Parameter] = {
    entry.name: entry
    for entry in (
        Parameter("base_s", "s", 0.0, 0.0, 0.0, 1e-3, "fixed cost of a library collective"),
        Parameter("hop_s", "s", 0.0, 0.0, 0.0, 1e-3, "cost of a hop beyond the link's latency"),
        Parameter("custom_base_s", "s", 0.0, 0.0, 0.0, 1e-3, "fixed cost of one- and two-shot"),
        Parameter("custom_hop_s", "s", 0.0, 0.0, 0.0, 1e-3, "cost of a one- or two-shot's peer"),
        Parameter("multicast_base_s", "s", 0.0, 0.0, 0.0, 1e-3, "fixed cost of in-switch sums"),
        Parameter("ramp_s", "s", 0.0, 0.0, 0.0, 1e-2, "wire time below which bandwidth is not met"),
        Parameter("link_eff", "share of peak", 1.0, 0.75, 0.01, 1.1, "bandwidth inside a node"),
        Parameter("multicast_eff", "share of peak", 1.0, 0.75, 0.01, 1.1, "with in-switch sums"),
        Parameter("net_eff", "share of peak", 1.0, 0.75, 0.01, 1.1, "bandwidth between nodes"),
    )
}


class CollectiveParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far collectives are from their closed forms; the entries of PARAMETERS."""

    base_s: Any = 0.0
    hop_s: Any = 0.0
    custom_base_s: Any = 0.0
    custom_hop_s: Any = 0.0
    multicast_base_s: Any = 0.0
    ramp_s: Any = 0.0
    link_eff: Any = 1.0
    multicast_eff: Any = 1.0
    net_eff: Any = 1.0

    @classmethod
    def ideal(cls) -> CollectiveParams:
        """The pure closed forms."""
        return cls(**{name: entry.ideal for name, entry in PARAMETERS.items()})

    @classmethod
    def default(cls) -> CollectiveParams:
        """The guess for links that nobody measured."""
        return cls(**{name: entry.default for name, entry in PARAMETERS.items()})


class Shape(NamedTuple):
    """What an algorithm does with a payload of 1 byte among n ranks."""

    hops: Array
    """Transfers that wait for one another."""
    wire: Array
    """Bytes through the busiest port in one direction."""
    custom: bool = False
    multicast: bool = False


def _log2(n: Array) -> Array:
    steps: Array = np.ceil(np.log2(np.maximum(n, 1.0)) - 1e-9)
    return steps


def _once(n: Array) -> Array:
    return np.ones_like(n)


def _halving(n: Array, passes: float) -> Shape:
    """Halving and doubling among a power of two; ranks beyond it hand their all to a partner."""
    folded = np.exp2(np.floor(np.log2(np.maximum(n, 1.0)) + 1e-9))
    beyond = np.where(folded == n, 0.0, 1.0)
    hops = passes * (_log2(folded) + beyond)
    return Shape(hops, passes * _share(folded) + beyond)


def _share(n: Array) -> Array:
    return (n - 1.0) / n


def _binomial_wire(n: Array) -> Array:
    return np.where(n > 2.0, 2.0, 2.0 * _share(n))


ALGORITHMS: dict[str, dict[str, Callable[[Array], Shape]]] = {
    "all_reduce": {
        "ring": lambda n: Shape(2.0 * (n - 1.0), 2.0 * _share(n)),
        "tree": lambda n: Shape(2.0 * _log2(n), _binomial_wire(n)),
        "halving_doubling": lambda n: _halving(n, 2.0),
        "one_shot": lambda n: Shape(_once(n), n - 1.0, custom=True),
        "two_shot": lambda n: Shape(2.0 * _once(n), 2.0 * _share(n), custom=True),
        "multicast": lambda n: Shape(2.0 * _once(n), (n + 1.0) / n, multicast=True),
    },
    "all_gather": {
        "ring": lambda n: Shape(n - 1.0, _share(n)),
        "direct": lambda n: Shape(_once(n), _share(n)),
        "halving_doubling": lambda n: _halving(n, 1.0),
    },
    "reduce_scatter": {
        "ring": lambda n: Shape(n - 1.0, _share(n)),
        "direct": lambda n: Shape(_once(n), _share(n)),
        "halving_doubling": lambda n: _halving(n, 1.0),
    },
    "all_to_all": {
        "direct": lambda n: Shape(_once(n), _share(n)),
        "pairwise": lambda n: Shape(n - 1.0, _share(n)),
        "bruck": lambda n: Shape(_log2(n), 0.5 * _log2(n)),
    },
    "p2p": {"direct": lambda n: Shape(_once(n), _once(n))},
}
"""Per kind: the algorithm's hops and bytes per byte of payload (payloads as in optable.Op)."""

LIBRARY = {
    "all_reduce": ("ring", "multicast"),
    "all_gather": ("ring",),
    "reduce_scatter": ("ring",),
    "all_to_all": ("direct",),
    "p2p": ("direct",),
}
"""What NCCL chooses among in a node (trees only join nodes: measured latencies grow as the ring's
do); the rest are custom kernels and textbook forms."""

ENGINE = {**LIBRARY, "all_reduce": ("ring", "multicast", "one_shot", "two_shot")}
"""What a serving engine with a custom all-reduce chooses among."""
