"""Many users click at once: `python scripts/web_load.py --users 20 --clicks 5`.

Starts the pages on a free port of this machine. Each user opens a page over a connection of their
own, as a browser does, then changes widgets and waits for each answer. Counts are bounded and so is
the time. Prints what was answered and how long it took; exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

import aiohttp
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from reports.web.frame import NOT_YOURS
from reports.web.serve import HOST, server

MOST_USERS, MOST_CLICKS, MOST_S = 100, 100, 600.0
QUERIES = (
    "",
    "model=qwen3-8b&batch=4",
    "model=mixtral-8x7b&system=H200-SXM",
    "model=deepseek-v3&system=B200-SXM-180GB&weights=fp8",
    "model=llama-3-8b&system=RTX3090&arrival=closed_loop",
)
BATCH = "predict.batch"


class Answer(NamedTuple):
    """One run of a page, as a user saw it."""

    seconds: float
    problem: str


class User:
    """One browser's worth of clicking."""

    def __init__(self, session: aiohttp.ClientSession, port: int, number: int) -> None:
        self._session, self._port = session, port
        self._query = QUERIES[number % len(QUERIES)]
        self._random = random.Random(number)  # noqa: S311 - which batch is clicked is no secret
        self._batch_id = ""

    async def visit(self, clicks: int) -> list[Answer]:
        """Open the page, then click."""
        url = f"http://{HOST}:{self._port}/_stcore/stream"
        origin = {"Origin": f"http://{HOST}:{self._port}"}
        protocols = ("streamlit",)
        async with self._session.ws_connect(
            url, protocols=protocols, headers=origin, max_msg_size=1 << 25
        ) as stream:
            answers = [await self._run(stream, None)]
            for _ in range(clicks):
                answers.append(await self._run(stream, self._random.randint(1, 256)))
            return answers

    async def _run(self, stream: Any, batch: int | None) -> Answer:
        asked = BackMsg()
        asked.rerun_script.query_string = self._query
        if batch is not None:
            state = asked.rerun_script.widget_states.widgets.add()
            state.id, state.int_value = self._batch_id, batch
        start_s = time.monotonic()
        await stream.send_bytes(asked.SerializeToString())
        problem = await self._until_done(stream)
        return Answer(time.monotonic() - start_s, problem)

    async def _until_done(self, stream: Any) -> str:
        problem, elements = "", 0
        while True:
            message = await stream.receive(timeout=60)
            if message.type is not aiohttp.WSMsgType.BINARY:
                return f"the connection ended ({message.type.name})"
            said = ForwardMsg.FromString(message.data)
            kind = said.WhichOneof("type")
            if kind == "script_finished":
                return problem or ("" if elements > 5 else f"only {elements} elements came")
            if kind != "delta":
                continue
            elements += 1
            problem = problem or self._looked_at(said.delta.new_element)

    def _looked_at(self, element: Any) -> str:
        kind = element.WhichOneof("type")
        if kind == "number_input" and element.number_input.id.endswith(BATCH):
            self._batch_id = element.number_input.id
        if kind == "exception":
            return f"exception: {element.exception.type}"
        if kind == "alert" and NOT_YOURS in element.alert.body.replace("\\", ""):
            return element.alert.body
        return ""


async def measure(port: int, users: int, clicks: int, seconds: float) -> list[Answer]:
    """All users at once."""
    async with aiohttp.ClientSession() as session:
        visits = [User(session, port, number).visit(clicks) for number in range(users)]
        found = await asyncio.wait_for(asyncio.gather(*visits), seconds)
    return [answer for answers in found for answer in answers]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until_up(port: int, seconds: float = 60.0) -> None:
    """Return once the server takes connections."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no server came up on port {port} in {seconds:g} s")


def main() -> int:
    """Start, load, stop, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--clicks", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300.0)
    options = parser.parse_args()
    users, clicks = min(options.users, MOST_USERS), min(options.clicks, MOST_CLICKS)
    port = free_port()
    running = subprocess.Popen(  # noqa: S603 - our own command, no word of it from outside
        server(port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until_up(port)
        start_s = time.monotonic()
        answers = asyncio.run(measure(port, users, clicks, min(options.seconds, MOST_S)))
        wall_s = time.monotonic() - start_s
    finally:
        running.send_signal(signal.SIGTERM)
        _, log = running.communicate(timeout=30)
    return _tell(answers, users, clicks, wall_s, log)


def _tell(answers: list[Answer], users: int, clicks: int, wall_s: float, log: str) -> int:
    failed = [answer.problem for answer in answers if answer.problem]
    times = sorted(answer.seconds for answer in answers)
    p95 = times[min(int(0.95 * len(times)), len(times) - 1)]
    print(
        f"{users} users, {clicks} clicks each after opening: {len(answers)} answers in "
        f"{wall_s:.1f} s, {len(failed)} failed; an answer took {statistics.median(times):.2f} s "
        f"in the middle, {p95:.2f} s at p95, {times[-1]:.2f} s at most; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for problem in sorted(set(failed)):
        print(f"  {problem}")
    if "Traceback" in log:
        print(log)
    return 1 if failed or "Traceback" in log else 0


if __name__ == "__main__":
    sys.exit(main())
