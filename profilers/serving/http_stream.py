"""HTTP/1.1 responses and server-sent events, taken apart byte by byte without any I/O.

Both decoders are fed whatever pieces the network delivers — half a header, half a character, ten
events at once — and give the same result however the bytes were cut.
"""

from __future__ import annotations

HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
LONGEST_HEAD = 64 * 1024
LONGEST_CHUNK_LINE = 4096
LONGEST_EVENT = 4 * 1024 * 1024


class Malformed(Exception):
    """What came is not HTTP, or not an event stream."""


class ResponseDecoder:
    """One response: `feed` gives back the body bytes that have become known."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.keeps_alive = False
        self._buffer = bytearray()
        self._left: int | None = None
        self._chunked = False
        self._between_chunks = False
        self._state = self._head

    def feed(self, data: bytes) -> bytes:
        """Body bytes in `data` and what was waiting; raises Malformed."""
        if self._between_chunks and not self._buffer:
            whole = _one_chunk(data)
            if whole is not None:
                return whole
        self._buffer += data
        body = bytearray()
        while self._buffer and not self.complete:
            if not self._state(body):
                break
        return bytes(body)

    def close(self) -> bool:
        """The peer closed the connection; True if that was a proper end of the body."""
        if self.status and not self._chunked and self._left is None:
            self.complete = True
        return self.complete

    def _head(self, body: bytearray) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > LONGEST_HEAD:
                raise Malformed("headers without end")
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise Malformed("not an HTTP/1 response")
            return False
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise Malformed(f"not an HTTP/1 response: {first[:60]!r}")
        if 100 <= int(parts[1]) < 200:
            return True  # "100 Continue" and its like come before the real head
        self.status = int(parts[1])
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise Malformed(f"not a header: {line[:60]!r}")
            self.headers[name.strip().lower()] = value.strip()
        self._body_begins(parts[0])
        return True

    def _body_begins(self, version: str) -> None:
        connection = self.headers.get("connection", "").lower()
        self.keeps_alive = version == "HTTP/1.1" and connection != "close"
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        length = self.headers.get("content-length")
        if self._chunked:
            self._state = self._chunk_size
            return
        if length is not None:
            if not length.isdigit():
                raise Malformed(f"content-length {length[:20]!r}")
            self._left = int(length)
        elif self.status in (204, 304):
            self._left = 0
        self.keeps_alive = self.keeps_alive and self._left is not None
        self.complete = self._left == 0
        self._state = self._plain

    def _plain(self, body: bytearray) -> bool:
        if self._left is None:
            body += self._buffer
            self._buffer.clear()
            return False
        taken = self._buffer[: self._left]
        body += taken
        del self._buffer[: len(taken)]
        self._left -= len(taken)
        self.complete = self._left == 0
        return False

    def _chunk_size(self, body: bytearray) -> bool:
        self._between_chunks = True
        line = self._line()
        if line is None:
            return False
        self._between_chunks = False
        size = line.split(b";", 1)[0].strip()
        if not size or not HEX_DIGITS.issuperset(size):
            raise Malformed(f"chunk size {bytes(size[:20])!r}")
        self._left = int(size, 16)
        self._state = self._chunk if self._left else self._trailer
        return True

    def _chunk(self, body: bytearray) -> bool:
        left = self._left or 0
        taken = self._buffer[:left]
        body += taken
        del self._buffer[: len(taken)]
        self._left = left - len(taken)
        if self._left == 0:
            self._state = self._chunk_end
        return self._left == 0

    def _chunk_end(self, body: bytearray) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise Malformed("chunk longer than its size")
        del self._buffer[:2]
        self._state = self._chunk_size
        self._between_chunks = True
        return True

    def _trailer(self, body: bytearray) -> bool:
        line = self._line()
        if line is None:
            return False
        self.complete = line == b""
        return not self.complete

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > LONGEST_CHUNK_LINE:
                raise Malformed("a chunk's line without end")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line


class EventDecoder:
    """Server-sent events: `feed` gives back the data of the events that have become whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._data: list[bytes] = []

    def feed(self, body: bytes) -> list[bytes]:
        """Data of whole events; comments and other fields are left out. Raises Malformed."""
        if not self._buffer and not self._data and _is_one_event(body):
            return [body[6:-2]]
        self._buffer += body
        if len(self._buffer) > LONGEST_EVENT:
            raise Malformed("an event without end")
        events: list[bytes] = []
        start = 0
        while (end := self._buffer.find(b"\n", start)) >= 0:
            line = self._buffer[start:end].rstrip(b"\r")
            start = end + 1
            if line:
                self._field(bytes(line))
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        del self._buffer[:start]
        return events

    def _field(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not (line.startswith((b":", b"event:", b"id:", b"retry:"))):
            raise Malformed(f"not an event stream: {line[:60]!r}")


def _one_chunk(data: bytes) -> bytes | None:
    """The body of `data` if it is exactly one chunk: what a server sends for nearly every token."""
    end = data.find(b"\r\n", 0, 10)
    if end <= 0 or not HEX_DIGITS.issuperset(data[:end]):
        return None
    size = int(data[:end], 16)
    if size == 0 or len(data) != end + size + 4 or not data.endswith(b"\r\n"):
        return None
    return data[end + 2 : -2]


def _is_one_event(body: bytes) -> bool:
    """Whether `body` is exactly one event of one line, again the usual case."""
    return (
        body.startswith(b"data: ")
        and body.endswith(b"\n\n")
        and body.find(b"\n") == len(body) - 2
        and b"\r" not in body
    )
