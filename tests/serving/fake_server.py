"""An OpenAI-like server that does what its tests want: well-behaved, dying, slow or lying.

The model's name in a request says how to behave (see BEHAVIOURS). `engine` batches continuously
with known step times, so that a whole profile-calibrate-simulate chain can be checked against it.
Run as a program it prints its port and serves until it is stopped:

    python fake_server.py [--step S --token S --sequence S] [--seqs N] [--gap S]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable

CHUNK = b"data: %s\n\n"
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def token(text: str = "a", finish: str | None = None) -> bytes:
    body = {"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}
    return CHUNK % json.dumps(body, ensure_ascii=False).encode()


TOKEN = framed(token())


def usage(request: dict, tokens: int) -> bytes:
    counts = {"prompt_tokens": prompt_of(request), "completion_tokens": tokens}
    return CHUNK % json.dumps({"id": "c", "choices": [], "usage": counts}).encode()


def prompt_of(request: dict) -> int:
    prompt = request.get("prompt", [])
    return len(prompt) if isinstance(prompt, list) else len(str(prompt).split())


DONE = CHUNK % b"[DONE]"
END = b"0\r\n\r\n"

Behaviour = Callable[["FakeServer", dict, asyncio.StreamWriter], Awaitable[None]]


async def tokens(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    """Well-behaved: one token every `server.gap_s`."""
    wanted = request["max_tokens"]
    writer.write(HEAD)
    for _ in range(wanted):
        if server.gap_s:
            await asyncio.sleep(server.gap_s)
        writer.write(TOKEN)
        await writer.drain()
    writer.write(framed(usage(request, wanted)) + framed(DONE) + END)


async def engine(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    """Continuous batching with known step times."""
    wanted = request["max_tokens"]
    writer.write(HEAD)
    queue: asyncio.Queue[bool] = asyncio.Queue()
    server.waiting.append((prompt_of(request), wanted, queue))
    server.work.set()
    for _ in range(wanted):
        await queue.get()
        writer.write(TOKEN)
        await writer.drain()
    writer.write(framed(usage(request, wanted)) + framed(DONE) + END)


async def hang_before_headers(server: FakeServer, request: dict, writer: object) -> None:
    await asyncio.sleep(30)


async def hang_midway(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + TOKEN * 2)
    await writer.drain()
    await asyncio.sleep(30)


async def drip(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    """A token now and then, for ever: only the total limit ends it."""
    writer.write(HEAD)
    while True:
        writer.write(TOKEN)
        await writer.drain()
        await asyncio.sleep(0.05)


async def reset(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + TOKEN)
    await writer.drain()
    await asyncio.sleep(0.02)
    # Closing with a linger time of zero sends RST instead of FIN.
    peer = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def close_early(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + TOKEN * 3)
    await writer.drain()
    writer.close()


async def no_answer(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.close()


def status(code: int, words: str) -> Behaviour:
    async def answer(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"error": {"message": words, "code": code}}).encode()
        head = f"HTTP/1.1 {code} No\r\nContent-Type: application/json\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return answer


async def bad_json(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + TOKEN + framed(b'data: {"choices": [{"te\n\n') + framed(DONE) + END)


async def bad_stream(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + framed(b"<html>oops</html>\n\n") + END)


async def bad_chunks(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"zz\r\nhello\r\n")


async def not_http(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await writer.drain()
    await asyncio.sleep(0.2)


async def html(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    body = b"<html>login please</html>"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(body) + body)


async def split_utf8(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    """Tokens of several bytes, sent a byte at a time, with comments and CRLF between them."""
    wanted = request["max_tokens"]
    events = b"".join(
        b": keep-alive\r\n" + token("数据🦆").replace(b"\n", b"\r\n") for _ in range(wanted)
    )
    data = HEAD + framed(events) + framed(usage(request, wanted)) + framed(DONE) + END
    for at in range(0, len(data), 7):
        writer.write(data[at : at + 7])
        await writer.drain()
        if at % 70 == 0:
            await asyncio.sleep(0.001)


async def no_usage(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + TOKEN * request["max_tokens"] + framed(DONE) + END)


async def several_a_chunk(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    """Three tokens in each event, and an empty first one."""
    wanted = request["max_tokens"]
    writer.write(HEAD + framed(token("")))
    await writer.drain()
    for _ in range(-(-wanted // 3)):
        await asyncio.sleep(0.01)
        writer.write(framed(token("abc")))
        await writer.drain()
    writer.write(framed(usage(request, wanted)) + framed(DONE) + END)


async def early_stop(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + TOKEN + framed(token("a", "stop")))
    writer.write(framed(usage(request, 2)) + framed(DONE) + END)


async def silent(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + framed(usage(request, 0)) + framed(DONE) + END)


async def error_event(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    error = {"error": {"message": "engine died", "code": 500}}
    writer.write(HEAD + TOKEN + framed(CHUNK % json.dumps(error).encode()) + framed(DONE) + END)


async def no_end_mark(server: FakeServer, request: dict, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + TOKEN * request["max_tokens"] + END)


BEHAVIOURS: dict[str, Behaviour] = {
    "tokens": tokens,
    "engine": engine,
    "hang_before_headers": hang_before_headers,
    "hang_midway": hang_midway,
    "drip": drip,
    "reset": reset,
    "close_early": close_early,
    "no_answer": no_answer,
    "429": status(429, "slow down"),
    "500": status(500, "it broke"),
    "503": status(503, "overloaded"),
    "bad_json": bad_json,
    "bad_stream": bad_stream,
    "bad_chunks": bad_chunks,
    "not_http": not_http,
    "html": html,
    "split_utf8": split_utf8,
    "no_usage": no_usage,
    "several_a_chunk": several_a_chunk,
    "early_stop": early_stop,
    "silent": silent,
    "error_event": error_event,
    "no_end_mark": no_end_mark,
}

METRICS = """# HELP vllm:num_requests_running Number of requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} %d.0
vllm:num_requests_waiting{engine="0",model_name="m"} %d.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:cache_config_info{block_size="16",num_gpu_blocks="%d",enable_prefix_caching="False"} 1.0
vllm:prompt_tokens_total{engine="0",model_name="m"} %d.0
"""


class FakeServer:
    """Listens on a free port of this machine."""

    def __init__(
        self,
        gap_s: float = 0.0,
        step_s: float = 0.01,
        token_s: float = 1e-4,
        sequence_s: float = 2e-4,
        seqs: int = 16,
        kv_blocks: int = 4096,
        port: int = 0,
    ) -> None:
        self.gap_s = gap_s
        self.step_s, self.token_s, self.sequence_s = step_s, token_s, sequence_s
        self.seqs = seqs
        self.kv_blocks = kv_blocks
        self.port = port
        self.seen = 0
        self.connections = 0
        self.prompt_tokens = 0
        self.bodies: list[dict] = []
        self.keep_bodies = False
        self.waiting: list[tuple[int, int, asyncio.Queue[bool]]] = []
        self.running: list[list] = []
        self.work = asyncio.Event()

    def renew(self) -> None:
        """Forget requests, and be ready for another event loop."""
        self.waiting, self.running = [], []
        self.work = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        self._engine = asyncio.create_task(self._step())

    async def stop(self) -> None:
        self._engine.cancel()
        self._server.close()

    async def _step(self) -> None:
        """The engine: whole prompts first come first served, then one token for each."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while True:
            if not self.waiting and not self.running:
                self.work.clear()
                await self.work.wait()
                now = loop.time()
            new = 0
            while self.waiting and len(self.running) < self.seqs:
                prompt, wanted, queue = self.waiting.pop(0)
                self.running.append([wanted, queue, True])
                new += prompt
            decoding = sum(not entry[2] for entry in self.running)
            now += self.step_s + self.token_s * (new + decoding) + self.sequence_s * decoding
            delay = now - loop.time()
            await asyncio.sleep(max(delay, 0.0))
            for entry in self.running:
                entry[0] -= 1
                entry[2] = False
                entry[1].put_nowait(True)
            self.running = [entry for entry in self.running if entry[0]]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        sizes = [x.split(":")[1] for x in lines if x.lower().startswith("content-length")]
        body = await reader.readexactly(int(sizes[0])) if sizes else b""
        if first.startswith("GET"):
            self._get(first.split()[1], writer)
            await writer.drain()
            return True
        request = json.loads(body)
        self.seen += 1
        self.prompt_tokens += prompt_of(request)
        if self.keep_bodies:
            self.bodies.append(request)
        await BEHAVIOURS[request["model"]](self, request, writer)
        await writer.drain()
        return not writer.is_closing()

    def _get(self, path: str, writer: asyncio.StreamWriter) -> None:
        kind, text = "text/plain", ""
        if path == "/metrics":
            text = METRICS % (
                len(self.running),
                len(self.waiting),
                self.kv_blocks,
                self.prompt_tokens,
            )
        elif path == "/version":
            kind, text = "application/json", '{"version": "0.0-fake"}'
        elif path == "/v1/models":
            models = {"data": [{"id": name, "max_model_len": 4096} for name in BEHAVIOURS]}
            kind, text = "application/json", json.dumps(models)
        code = "404 Not Found" if not text and path != "/health" else "200 OK"
        head = f"HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n"
        writer.write((head + text).encode())


class Background:
    """A fake server on an event loop of its own thread."""

    def __init__(self, **options: object) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self._make(options), self._loop).result()

    async def _make(self, options: dict) -> FakeServer:
        server = FakeServer(**options)
        await server.start()
        return server

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        await self.server.stop()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def forever(server: FakeServer) -> None:
    await server.start()
    print(server.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name, value in (("gap", 0.0), ("step", 0.01), ("token", 1e-4), ("sequence", 2e-4)):
        parser.add_argument(f"--{name}", type=float, default=value)
    parser.add_argument("--seqs", type=int, default=16)
    parser.add_argument("--port", type=int, default=0)
    said, _ = parser.parse_known_args()
    asyncio.run(
        forever(
            FakeServer(
                gap_s=said.gap,
                step_s=said.step,
                token_s=said.token,
                sequence_s=said.sequence,
                seqs=said.seqs,
                port=said.port,
            )
        )
    )
