"""Other people's predictors, asked about the rows that ours is scored on.

In:  measured rows of fixed batches (`Asked`). Out: `Answer`s, one per row, or why there is none.
A peer is a function registered in `PEERS`. Peers that need packages of their own run in a process
of their own (`run_worker`), under an interpreter that has them; a CSV of predictions is a peer too.
"""

from calibration.peers.base import Answer, Asked, Peer, PeerMissing, run_worker
from calibration.peers.registry import PEERS, peer

__all__ = ["PEERS", "Answer", "Asked", "Peer", "PeerMissing", "peer", "run_worker"]
