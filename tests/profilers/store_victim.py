"""Forks writers that a test kills: each opens the store, appends and acknowledges by a pipe.

Run as a program, so that no threads of the test process are forked. Reads one line per round from
stdin: the folder; answers with the writer's process id; the writer's acknowledgements follow.
"""

from __future__ import annotations

import itertools
import os
import sys

from profilers.store import Store

PAYLOAD_B = 60_000


def write_until_killed(folder: str, round_number: int) -> None:
    out = sys.stdout.fileno()
    store = Store(folder, {}, fingerprint="f00d", durable=False)
    for index in itertools.count():
        case = f"{round_number}-{index}"
        store.append(case, {"blob": case * (PAYLOAD_B // len(case))})
        os.write(out, f"{case}\n".encode())


def main() -> None:
    for round_number, line in enumerate(sys.stdin):
        writer = os.fork()
        if writer == 0:
            write_until_killed(line.strip(), round_number)
        os.write(sys.stdout.fileno(), f"pid {writer}\n".encode())
        os.waitpid(writer, 0)
        os.write(sys.stdout.fileno(), b"dead\n")


if __name__ == "__main__":
    main()
