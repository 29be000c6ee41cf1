"""Collectives chunk by chunk over real links: the check of the closed forms, and the only answer
where none exists (odd topologies, contention, overlap with compute).

In come a topology (built here or read from an ASTRA-sim style file) and a schedule of transfers and
compute; out come the seconds at which each was done and how busy each link was. Pure: no machine's
efficiency is known here, links have the bandwidth and latency they are given.
"""

from analyzer.network.simulate import Outcome, simulate
from analyzer.network.topology import Topology

__all__ = ["Outcome", "Topology", "simulate"]
