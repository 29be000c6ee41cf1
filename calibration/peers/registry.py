"""Peers by name."""

from __future__ import annotations

from analyzer.errors import ConfigError, nearest
from calibration.peers.aiconfigurator import aiconfigurator
from calibration.peers.base import Peer
from calibration.peers.genz import genz

PEERS: dict[str, Peer] = {"genz": genz, "aiconfigurator": aiconfigurator}


def peer(name: str) -> Peer:
    """The peer of this name."""
    if name not in PEERS:
        raise ConfigError(f"no peer {name!r}{nearest(name, PEERS)}; known: {', '.join(PEERS)}")
    return PEERS[name]
