"""One connection, one request at a time, on asyncio's lowest level.

Streams, tasks and a general HTTP client would cost several times as much per event; a load
generator that shares a core with two thousand open streams cannot afford them. Every event is
stamped when its bytes are handed over by the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from profilers.serving.http_stream import EventDecoder, Malformed, ResponseDecoder
from profilers.serving.options import Timeouts
from profilers.serving.outcome import OK, Outcome

LONGEST_ERROR = 300


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class Exchange:
    """One request and what comes back; `done` is called once, with the outcome."""

    def __init__(
        self,
        number: int,
        request: bytes,
        scheduled: float,
        asked: tuple[int, int],
        timeouts: Timeouts,
        done: Callable[[Exchange], None],
        *,
        exact: bool = True,
    ) -> None:
        self.number = number
        self.request = request
        self.scheduled = scheduled
        self.asked_input, self.asked_output = asked
        self.label = ""
        self.detail = ""
        self.status = 0
        self.sent = 0.0
        self.written: float | None = None
        self.first_chunk: float | None = None
        self.first_token: float | None = None
        self.end = 0.0
        self.chunks: list[float] = []
        self.answer_ids: list[int] = []
        self.reused = False
        self._usage: _Usage | None = None
        self._finish = ""
        self._timeouts = timeouts
        self._done = done
        self._exact = exact
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_for = "connect_timeout"
        self._deadline = 0.0
        self.abort: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """The generator takes the request up now."""
        self.sent = self._loop.time()
        self._watch("connect_timeout", self._timeouts.connect_s)

    def connected(self) -> None:
        """The request has been written."""
        self.written = self._loop.time()
        self._watch("first_token_timeout", self._timeouts.first_token_s)

    def event(self, data: bytes, now: float) -> bool:
        """Take one event; True at the end mark."""
        if data == b"[DONE]":
            self._end_of_stream()
            return True
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.fail("malformed", f"event is not the JSON of a completion: {data[:80]!r}")
            return True
        if chunk.error is not None:
            self.fail("server_error", str(chunk.error)[:LONGEST_ERROR])
            return True
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices:
            self._choice(choice, now)
        return False

    def fail(self, label: str, detail: str = "") -> None:
        """End with a failure; later calls change nothing."""
        if self.label:
            return
        self.label, self.detail = label, detail
        self.end = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
        if label != OK:
            self.abort()
        # Not at once: the connection may be free for the next request after this very packet.
        self._loop.call_soon(self._done, self)

    def outcome(self, start: float) -> Outcome:
        """The frozen account, with times since `start`."""
        usage = self._usage or _Usage()
        details = usage.prompt_tokens_details
        return Outcome(
            number=self.number,
            label=self.label,
            detail=self.detail,
            status=self.status,
            scheduled_s=self.scheduled - start,
            sent_s=self.sent - start,
            written_s=None if self.written is None else self.written - start,
            first_chunk_s=None if self.first_chunk is None else self.first_chunk - start,
            first_token_s=None if self.first_token is None else self.first_token - start,
            end_s=self.end - start,
            chunk_s=tuple(at - start for at in self.chunks),
            asked_input=self.asked_input,
            asked_output=self.asked_output,
            prompt_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cached_tokens=details.cached_tokens if details else None,
            reused_connection=self.reused,
        )

    def _choice(self, choice: _Choice, now: float) -> None:
        text = choice.text
        if choice.delta is not None:
            delta = choice.delta
            text = delta.content or delta.reasoning_content or delta.reasoning
        if choice.token_ids:
            self.answer_ids += choice.token_ids
        if choice.finish_reason:
            self._finish = choice.finish_reason
        if not self.chunks:
            self.first_chunk = self.first_chunk or now
            if not text:
                return  # a role chunk, or a token whose text is still incomplete
            self.first_token = now
            self._watch("between_tokens_timeout", self._timeouts.between_tokens_s)
        elif not text and choice.finish_reason and not choice.token_ids:
            return  # only says why the stream ends
        self.chunks.append(now)
        self._deadline = now + self._timeouts.between_tokens_s

    def _end_of_stream(self) -> None:
        counted = self._usage.completion_tokens if self._usage else None
        if not self.chunks:
            self.fail("no_tokens", self._finish)
        elif self._exact and counted is not None and counted < self.asked_output:
            self.fail("short", f"{counted} of {self.asked_output} tokens ({self._finish})")
        else:
            self.fail(OK)

    def _watch(self, label: str, seconds: float) -> None:
        self._waiting_for = label
        self._deadline = self._loop.time() + seconds
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._limit(), self._late)

    def _limit(self) -> float:
        return min(self._deadline, self.sent + self._timeouts.total_s)

    def _late(self) -> None:
        """The timer rang: fail, unless tokens have moved the deadline meanwhile."""
        if self._loop.time() < self._limit():
            self._timer = self._loop.call_at(self._limit(), self._late)
        elif self._deadline > self.sent + self._timeouts.total_s:
            self.fail("total_timeout", f"{self._timeouts.total_s:g} s")
        else:
            self.fail(self._waiting_for)


class Connection(asyncio.Protocol):
    """One TCP connection; carries one exchange at a time and is reused if the server allows."""

    def __init__(self, freed: Callable[[Connection], None]) -> None:
        self._freed = freed
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.idle_since = 0.0
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.open = True

    def carry(self, exchange: Exchange) -> None:
        """Send a request on this (connected, idle) connection."""
        self._exchange = exchange
        self._response = ResponseDecoder()
        self._events = EventDecoder()
        self._error = b""
        exchange.abort = self.close
        if self._transport is not None:
            self._transport.write(exchange.request)
        exchange.connected()

    def close(self) -> None:
        """Drop the connection at once."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()  # nobody asked
            return
        now = self._loop.time()
        try:
            self._take(exchange, self._response.feed(data), now)
        except Malformed as error:
            exchange.fail("malformed", str(error))
        if self._response.complete:
            self._finished(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.label:
            return
        if self._response.close() and exc is None:
            self._settle(exchange)
        elif self._response.status == 200 and exc is None:
            exchange.fail("cut_short", "the server closed the connection")
        else:
            exchange.fail("reset", str(exc) if exc else "closed without an answer")

    def _take(self, exchange: Exchange, body: bytes, now: float) -> None:
        exchange.status = self._response.status
        if not body or exchange.label:
            return
        if self._response.status != 200:
            self._error = (self._error + body)[:LONGEST_ERROR]
            return
        if not self._response.headers.get("content-type", "").startswith("text/event-stream"):
            self._error = (self._error + body)[:LONGEST_ERROR]
            raise Malformed(f"not an event stream: {self._error[:80]!r}")
        for event in self._events.feed(body):
            if exchange.event(event, now):
                return

    def _finished(self, exchange: Exchange) -> None:
        """The response's last byte is here."""
        self._settle(exchange)
        self._exchange = None
        if self.open and self._response.keeps_alive and exchange.label == OK:
            self.idle_since = self._loop.time()
            self._freed(self)
        else:
            self.close()

    def _settle(self, exchange: Exchange) -> None:
        if exchange.label:
            return
        if self._response.status != 200:
            text = self._error.decode("utf-8", "replace")
            exchange.fail("http_error", f"{self._response.status}: {text}")
        else:
            exchange.fail("cut_short", "the stream ended without [DONE]")
