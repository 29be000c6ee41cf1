"""kill -9 at 200 random moments: every acknowledged record is there, every torn tail is gone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from profilers.store import read

KILLS = 200
ROUNDS_PER_STORE = 10
VICTIM = Path(__file__).with_name("store_victim.py")


def kill_once(victim, folder, delay_s):
    """Start a writer, kill it after `delay_s`, return what it had acknowledged by then."""
    victim.stdin.write(f"{folder}\n")
    victim.stdin.flush()
    acknowledged, pid = [], None
    while True:
        line = victim.stdout.readline().strip()
        if line.startswith("pid "):
            pid = int(line.removeprefix("pid "))
            time.sleep(delay_s)
            os.kill(pid, signal.SIGKILL)
        elif line == "dead":
            return acknowledged
        else:
            assert line, "the victim must not end on its own"
            acknowledged.append(line)


def test_200_kills_lose_nothing_that_was_acknowledged(tmp_path):
    chance = random.Random(11)  # noqa: S311
    torn = acknowledged_in_all = 0
    environment = {**os.environ, "PYTHONPATH": str(VICTIM.parents[2])}
    with subprocess.Popen(
        [sys.executable, str(VICTIM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as victim:
        promised: set[str] = set()
        for kill in range(KILLS):
            if kill % ROUNDS_PER_STORE == 0:
                promised = set()
                folder = tmp_path / f"store-{kill}"
            promised |= set(kill_once(victim, folder, chance.uniform(0.0, 0.012)))
            contents = read(folder)
            torn += contents.torn_B > 0
            assert promised <= contents.cases
            for entry in contents.entries[-1:]:
                assert entry.decode()["blob"].startswith(entry.case)
            acknowledged_in_all += len(promised)
        victim.stdin.close()
    assert acknowledged_in_all > KILLS, "the writers must have got somewhere"
    print(f"{KILLS} kills, {torn} torn tails, nothing acknowledged lost")
