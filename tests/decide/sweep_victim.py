"""Works off a sweep, to be killed while it does: its description comes on standard input."""

from __future__ import annotations

import sys

from reports.sweep_run import run_sweep, sweep_from

if __name__ == "__main__":
    run_sweep(sweep_from(sys.stdin.buffer.read()), sys.argv[1])
