"""Serving, measured: a real server, a real load, and figures that say how far to trust them.

Lives here: the load generator (generator.py, client.py, http_stream.py), prompts, the server under
test (server.py, prometheus.py), figures and verdicts (measures.py, saturation.py), records, and the
comparison with `vllm bench serve`.
Comes in: `ServeOptions`. Goes out: `ServeReport`, and Records in the common store.
Only the standard library, numpy and msgspec: the generator speaks HTTP itself.
"""

from profilers.serving.options import ServeOptions, Sweep, Target, Timeouts, VllmServer
from profilers.serving.run import ServeReport, ServeRun, Session, run_serve, session

__all__ = [
    "ServeOptions",
    "ServeReport",
    "ServeRun",
    "Session",
    "Sweep",
    "Target",
    "Timeouts",
    "VllmServer",
    "run_serve",
    "session",
]
