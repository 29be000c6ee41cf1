"""Serving, simulated: what requests see when they come at a rate and share an engine.

Lives here: continuous batching as vLLM V1 does it (replica.py), its KV blocks and prefix cache
(kv.py), all decoding sequences as sums (decoding.py), the event clock with routing and
disaggregation (cluster.py), the report (result.py, summary.py) and the search for the highest rate
under an SLO (search.py).
Comes in: `SimOptions` and a `StepTimer` (how long a step takes; timers.py, tables.py).
Goes out: `SimResult`. Only numpy and the standard library; nothing here knows a model or a machine.
"""

from analyzer.serving.cluster import Cluster
from analyzer.serving.options import (
    Disaggregation,
    EngineOptions,
    Graphs,
    Host,
    SimOptions,
    Speculation,
)
from analyzer.serving.result import Collector, SimResult, gather
from analyzer.serving.search import MaxRate, max_rate
from analyzer.serving.sequence import RequestTimes
from analyzer.serving.summary import Distribution, distribution
from analyzer.serving.tables import TableTimer
from analyzer.serving.timers import AffineTimer, StepLoad, StepTimer

__all__ = [
    "AffineTimer",
    "Disaggregation",
    "Distribution",
    "EngineOptions",
    "Graphs",
    "Host",
    "MaxRate",
    "RequestTimes",
    "SimOptions",
    "SimResult",
    "Speculation",
    "StepLoad",
    "StepTimer",
    "TableTimer",
    "distribution",
    "max_rate",
    "simulate",
]


def simulate(options: SimOptions, timer: StepTimer) -> SimResult:
    """Serve the load of `options` with steps that take what `timer` says (seconds)."""
    seen = Collector(options)
    cluster = Cluster(options, timer, seen.done)
    cluster.run()
    return gather(options, cluster, seen)
