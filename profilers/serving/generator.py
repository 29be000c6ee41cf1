"""The load generator: sends requests when the load says so, whatever the server does meanwhile.

Open loop: every request has its moment on a schedule that was fixed beforehand; a slow server does
not slow the schedule. Closed loop: each user sends the next request when the last has ended. A
heartbeat measures how late the event loop itself runs, which bounds every time stamp's error.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from urllib.parse import urlsplit

import msgspec

from analyzer.workload_arrivals import ClosedLoop, Load, RequestSpec, requests
from profilers.serving.client import Connection, Exchange
from profilers.serving.file_limit import raise_file_limit
from profilers.serving.options import Target
from profilers.serving.outcome import OK, Outcome
from profilers.serving.prompts import PromptMaker

HEARTBEAT_S = 0.01
LEAD_IN_S = 0.05
LONGEST_IDLE_S = 2.0
"""A connection idle for longer may be closed by the server at any moment, so it is not reused."""


class RunLog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that one run saw. Times in seconds since its beginning."""

    outcomes: tuple[Outcome, ...]
    loop_lag_s: tuple[float, ...]
    """How late each heartbeat of the event loop came."""
    most_open: int
    duration_s: float
    interrupted: bool = False


class Generator:
    """Runs one load against one target."""

    def __init__(
        self,
        target: Target,
        load: Load,
        stop: asyncio.Event | None = None,
        progress: Callable[[Outcome], None] = lambda outcome: None,
        texts: Mapping[int, str] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._heartbeat_s = heartbeat_s
        self._target = target
        self._load = load
        self._progress = progress
        self._texts = texts or {}
        self._stop = stop or asyncio.Event()
        self._prompts = PromptMaker(target.vocabulary, load.seed)
        self._encode = msgspec.json.Encoder().encode
        self._head = _head(target)
        self._idle: list[Connection] = []
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._open: set[Exchange] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._specs: dict[int, RequestSpec] = {}
        self._outcomes: list[Outcome] = []
        self._lags: list[float] = []
        self._start = 0.0
        self._most_open = 0
        self._pending = 0
        self._source: Iterator[RequestSpec] = requests(load)
        self._finished = asyncio.Event()
        arrivals = load.arrivals
        self._closed = arrivals if isinstance(arrivals, ClosedLoop) else None

    async def run(self) -> RunLog:
        """Send everything, wait for everything."""
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time() + LEAD_IN_S
        heart = asyncio.create_task(self._beat())
        stopper = asyncio.create_task(self._stopped())
        gc.collect()
        gc.disable()  # a full collection amid thousands of streams costs tens of milliseconds
        try:
            if self._closed is not None:
                await self._users(self._closed)
            else:
                await self._schedule()
            self._check_finished(sending=False)
            await self._finished.wait()
        finally:
            gc.enable()
            heart.cancel()
            stopper.cancel()
            await self._hang_up()
        return RunLog(
            outcomes=tuple(sorted(self._outcomes, key=lambda outcome: outcome.number)),
            loop_lag_s=tuple(self._lags),
            most_open=self._most_open,
            duration_s=self._loop.time() - self._start,
            interrupted=self._stop.is_set(),
        )

    async def _hang_up(self) -> None:
        """Close every connection, and let the loop finish closing them."""
        for connection in tuple(self._connections):
            connection.close()
        for task in tuple(self._connecting):
            task.cancel()
        await asyncio.sleep(0.001)

    async def _schedule(self) -> None:
        """Open loop: each request at its moment; the request is made ready before it."""
        self._sending = True
        for spec in self._source:
            moment = self._start + (spec.scheduled_s or 0.0)
            exchange = self._exchange(spec, moment)
            delay = moment - self._loop.time()
            if delay > 0 and not self._stop.is_set():
                await self._sleep(delay)
            if self._stop.is_set():
                return
            self._launch(exchange)

    async def _users(self, closed: ClosedLoop) -> None:
        self._sending = True
        await asyncio.sleep(LEAD_IN_S)
        for _ in range(closed.concurrency):
            self._next_of_user(0.0)

    def _next_of_user(self, delay_s: float) -> None:
        spec = None if self._stop.is_set() else next(self._source, None)
        if spec is not None:
            self._later(spec, delay_s)

    def _later(self, spec: RequestSpec, delay_s: float) -> None:
        """A request whose moment another's end decides."""
        moment = self._loop.time() + delay_s
        self._pending += 1
        exchange = self._exchange(spec, moment)
        self._loop.call_at(moment, self._launch_pending, exchange)

    def _launch_pending(self, exchange: Exchange) -> None:
        self._pending -= 1
        self._launch(exchange)

    def _exchange(self, spec: RequestSpec, moment: float) -> Exchange:
        self._specs[spec.number] = spec
        return Exchange(
            spec.number,
            self._request(spec),
            moment,
            (spec.input_tokens, spec.output_tokens),
            self._target.timeouts,
            self._done,
            exact=self._target.ignore_eos,
        )

    def _request(self, spec: RequestSpec) -> bytes:
        ids = self._prompts.ids(spec)
        target = self._target
        body: dict[str, object] = {
            "model": target.model,
            "max_tokens": spec.output_tokens,
            "temperature": target.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if target.endpoint == "completions":
            body["prompt"] = self._texts.get(spec.number, ids)
        else:
            words = " ".join(f"w{each}" for each in ids)
            body["messages"] = [{"role": "user", "content": words}]
        if target.ignore_eos:
            body["ignore_eos"] = True
        if spec.follow_ups:
            body["return_token_ids"] = True
        encoded = self._encode(body)
        return b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(encoded), encoded)

    def _launch(self, exchange: Exchange) -> None:
        exchange.begin()
        self._open.add(exchange)
        self._most_open = max(self._most_open, len(self._open))
        limit = self._loop.time() - LONGEST_IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.open and connection.idle_since > limit:
                exchange.reused = True
                connection.carry(exchange)
                return
            connection.close()
        task = self._loop.create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        exchange.abort = partial(_cancel, task)

    def _new_connection(self) -> Connection:
        connection = Connection(self._idle.append)
        self._connections.add(connection)
        return connection

    async def _connect(self, exchange: Exchange) -> None:
        parts = urlsplit(self._target.url)
        secure = parts.scheme == "https"
        try:
            _, connection = await self._loop.create_connection(
                self._new_connection,
                parts.hostname or "",
                parts.port or (443 if secure else 80),
                ssl=ssl.create_default_context() if secure else None,
            )
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            exchange.fail("refused" if refused else "reset", str(error))
            return
        if exchange.label:
            connection.close()
        else:
            connection.carry(exchange)

    def _done(self, exchange: Exchange) -> None:
        self._open.discard(exchange)
        outcome = exchange.outcome(self._start)
        self._outcomes.append(outcome)
        self._progress(outcome)
        spec = self._specs.pop(exchange.number)
        if exchange.label == OK:
            self._prompts.remember(spec, exchange.answer_ids)
        if spec.follow_ups and exchange.label == OK and not self._stop.is_set():
            following, *later = spec.follow_ups
            self._later(following._replace(follow_ups=tuple(later)), following.think_s)
        elif self._closed is not None:
            self._next_of_user(self._closed.think_s)
        self._check_finished(self._sending)

    def _check_finished(self, sending: bool) -> None:
        self._sending = sending and self._closed is None
        if not self._sending and not self._open and not self._pending:
            self._finished.set()

    async def _beat(self) -> None:
        """Sleep a little, see how much longer it took."""
        pause_s = self._heartbeat_s
        while True:
            before = self._loop.time()
            await asyncio.sleep(pause_s)
            self._lags.append(max(self._loop.time() - before - pause_s, 0.0))

    async def _sleep(self, delay_s: float) -> None:
        """Sleep, but not past a stop."""
        if delay_s < 0.5:
            await asyncio.sleep(delay_s)
            return
        try:
            await asyncio.wait_for(self._stop.wait(), delay_s)
        except TimeoutError:
            return

    async def _stopped(self) -> None:
        """On a stop, requests that are open are given up and recorded as such."""
        await self._stop.wait()
        for exchange in tuple(self._open):
            exchange.fail("cancelled")


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _head(target: Target) -> bytes:
    parts = urlsplit(target.url)
    path = "/v1/completions" if target.endpoint == "completions" else "/v1/chat/completions"
    lines = [
        f"POST {parts.path.rstrip('/')}{path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
    ]
    if target.api_key:
        lines.append(f"Authorization: Bearer {target.api_key}")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def generate(target: Target, load: Load) -> RunLog:
    """Run one load to its end (blocking)."""
    raise_file_limit(65_536)

    async def run() -> RunLog:
        return await Generator(target, load).run()

    return asyncio.run(run())
