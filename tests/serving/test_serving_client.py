"""The load generator against servers that die, stall and lie; everything ends up under a label."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from fake_server import Background, FakeServer
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.workload_arrivals import (
    AllAtOnce,
    ClosedLoop,
    Constant,
    Fixed,
    Load,
    SharedPrefix,
    Turns,
    Uniform,
    requests,
)
from profilers.serving.compare import prompt_texts
from profilers.serving.generator import Generator, generate
from profilers.serving.http_stream import EventDecoder, Malformed, ResponseDecoder
from profilers.serving.options import Target, Timeouts
from profilers.serving.outcome import FAILURES
from profilers.serving.prompts import PromptMaker
from profilers.serving.random_model import SHAPES, write_model

QUICK = Timeouts(connect_s=0.5, first_token_s=0.3, between_tokens_s=0.3, total_s=0.9)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    background = Background(gap_s=0.002)
    yield background.server
    background.stop()


def load(count: int = 3, output: int = 6, **more: object) -> Load:
    fields = {
        "arrivals": AllAtOnce(),
        "input_tokens": Fixed(tokens=12),
        "output_tokens": Fixed(tokens=output),
        "requests": count,
        **more,
    }
    return Load(**fields)


@pytest.mark.parametrize(
    ("behaviour", "label", "detail"),
    [
        ("hang_before_headers", "first_token_timeout", ""),
        ("hang_midway", "between_tokens_timeout", ""),
        ("drip", "total_timeout", "0.9 s"),
        ("reset", "reset", ""),
        ("close_early", "cut_short", "closed"),
        ("no_answer", "reset", "without an answer"),
        ("429", "http_error", "429: .*slow down"),
        ("500", "http_error", "500"),
        ("503", "http_error", "503"),
        ("bad_json", "malformed", "not the JSON"),
        ("bad_stream", "malformed", "not an event stream"),
        ("bad_chunks", "malformed", "chunk size"),
        ("not_http", "malformed", "not an HTTP/1"),
        ("html", "malformed", "not an event stream"),
        ("early_stop", "short", "2 of 6 tokens"),
        ("silent", "no_tokens", ""),
        ("error_event", "server_error", "engine died"),
        ("no_end_mark", "cut_short", "DONE"),
    ],
)
def test_each_misbehaviour_has_its_label(
    server: FakeServer, behaviour: str, label: str, detail: str
) -> None:
    import re

    before = server.seen
    target = Target(url=server.url, model=behaviour, timeouts=QUICK)
    log = generate(target, load())
    assert [outcome.label for outcome in log.outcomes] == [label] * 3
    assert all(re.search(detail, outcome.detail) for outcome in log.outcomes)
    assert label in FAILURES
    # A timed request is never tried again.
    assert server.seen - before == 3


def test_nobody_there() -> None:
    target = Target(url="http://127.0.0.1:9", model="tokens", timeouts=QUICK)
    assert [outcome.label for outcome in generate(target, load()).outcomes] == ["refused"] * 3


def test_no_route_ends_with_the_connect_timeout() -> None:
    async def run() -> list[str]:
        quick = Timeouts(connect_s=0.2)
        generator = Generator(Target(url="http://127.0.0.1:9", model="m", timeouts=quick), load(1))
        loop = asyncio.get_running_loop()

        async def never(*_: object, **__: object) -> None:
            await asyncio.sleep(60)

        loop.create_connection = never  # type: ignore[method-assign]
        return [outcome.label for outcome in (await generator.run()).outcomes]

    assert asyncio.run(run()) == ["connect_timeout"]


def test_a_good_answer_is_counted_and_timed(server: FakeServer) -> None:
    log = generate(Target(url=server.url, model="tokens"), load(5, output=8))
    for outcome in log.outcomes:
        assert outcome.ok
        assert (outcome.prompt_tokens, outcome.output_tokens) == (12, 8)
        assert len(outcome.chunk_s) == 8
        assert (
            outcome.scheduled_s
            <= outcome.sent_s
            <= outcome.written_s
            <= outcome.first_token_s
            <= outcome.end_s
        )
        assert outcome.e2e_s() == pytest.approx(outcome.ttft_s() + 7 * outcome.tpot_s)
        assert sum(outcome.gaps_s) == pytest.approx(7 * outcome.tpot_s)


def test_characters_cut_in_two_are_put_together(server: FakeServer) -> None:
    log = generate(Target(url=server.url, model="split_utf8"), load(2))
    assert [(o.label, o.output_tokens, len(o.chunk_s)) for o in log.outcomes] == [("ok", 6, 6)] * 2


def test_answers_without_usage_have_no_token_count(server: FakeServer) -> None:
    log = generate(Target(url=server.url, model="no_usage"), load(2))
    assert [(o.label, o.output_tokens, o.tpot_s) for o in log.outcomes] == [("ok", None, None)] * 2


def test_tpot_counts_tokens_not_events(server: FakeServer) -> None:
    log = generate(Target(url=server.url, model="several_a_chunk"), load(1, output=9))
    (outcome,) = log.outcomes
    assert (outcome.output_tokens, len(outcome.chunk_s)) == (9, 3)
    assert outcome.first_chunk_s < outcome.first_token_s  # the first event had no text
    assert outcome.tpot_s == pytest.approx((outcome.chunk_s[-1] - outcome.chunk_s[0]) / 8)


def test_open_loop_does_not_wait_for_a_slow_server(server: FakeServer) -> None:
    target = Target(url=server.url, model="hang_before_headers", timeouts=QUICK)
    log = generate(target, load(10, arrivals=Constant(rate_per_s=50)))
    sent = [outcome.sent_s for outcome in log.outcomes]
    assert sent[-1] - sent[0] < 0.28  # 9 gaps of 20 ms, though each request takes 300 ms
    assert log.most_open == 10


def test_closed_loop_waits_for_each_answer(server: FakeServer) -> None:
    log = generate(
        Target(url=server.url, model="tokens"),
        load(12, arrivals=ClosedLoop(concurrency=3, think_s=0.01)),
    )
    assert log.most_open <= 3
    assert sum(outcome.ok for outcome in log.outcomes) == 12
    spans = sorted((o.sent_s, o.end_s) for o in log.outcomes)
    open_at = [sum(a <= start < b for a, b in spans) for start, _ in spans]
    assert max(open_at) <= 3


def test_connections_are_reused_only_after_a_clean_end(server: FakeServer) -> None:
    before = server.connections
    one_user = load(6, arrivals=ClosedLoop(concurrency=1))
    generate(Target(url=server.url, model="tokens"), one_user)
    assert server.connections - before == 1
    generate(Target(url=server.url, model="429", timeouts=QUICK), one_user)
    assert server.connections - before == 7


def test_prompts_are_exact_unique_and_shared_where_asked(server: FakeServer) -> None:
    server.bodies.clear()
    server.keep_bodies = True
    shared = load(
        30,
        input_tokens=Uniform(low=3, high=9),
        shared_prefix=SharedPrefix(tokens=20, groups=2),
        seed=7,
    )
    generate(Target(url=server.url, model="tokens", vocabulary=1000), shared)
    server.keep_bodies = False
    prompts = [body["prompt"] for body in server.bodies]
    assert sorted(map(len, prompts)) == sorted(s.input_tokens for s in requests(shared))
    assert len({tuple(prompt) for prompt in prompts}) == 30
    assert len({tuple(prompt[:20]) for prompt in prompts}) == 2
    assert all(100 <= each < 1000 for prompt in prompts for each in prompt)
    assert all(
        body["ignore_eos"] and body["stream_options"]["include_usage"] for body in server.bodies
    )


def test_prompts_go_out_as_text_where_the_other_tool_sends_text(
    server: FakeServer, tmp_path: Path
) -> None:
    few = load(4, arrivals=ClosedLoop(concurrency=2), seed=5)
    shape = SHAPES["tiny"]
    folder = write_model(tmp_path / "tiny", shape)
    texts = prompt_texts(sys.executable, str(folder), few, shape.vocabulary)
    server.bodies.clear()
    server.keep_bodies = True
    target = Target(url=server.url, model="tokens", vocabulary=shape.vocabulary)
    asyncio.run(Generator(target, few, texts=texts).run())
    server.keep_bodies = False
    maker = PromptMaker(shape.vocabulary, few.seed)
    # In this tokenizer each id is a word of its own.
    words = {" ".join(f"w{each}" for each in maker.ids(spec)) for spec in requests(few)}
    assert {body["prompt"] for body in server.bodies} == words
    assert len(words) == 4


def test_later_turns_begin_with_what_was_said() -> None:
    talk = load(
        6, turns=Turns(count=3), input_tokens=Fixed(tokens=8), output_tokens=Fixed(tokens=4)
    )
    maker = PromptMaker(5000, seed=1)
    first, second = requests(talk)
    for spec in (first, second):
        said = maker.ids(spec)
        maker.remember(spec, [1, 2, 3, 4])
        follow = spec.follow_ups[0]
        assert maker.ids(follow)[:12] == [*said, 1, 2, 3, 4]
        assert len(maker.ids(follow)) == follow.input_tokens == 20


def test_turns_wait_for_each_other(server: FakeServer) -> None:
    log = generate(
        Target(url=server.url, model="tokens"),
        load(6, turns=Turns(count=3, think_s=0.02), arrivals=Constant(rate_per_s=100)),
    )
    assert [o.ok for o in log.outcomes] == [True] * 6
    assert [o.prompt_tokens for o in log.outcomes] == [12, 30, 48] * 2
    for number in (0, 1, 3, 4):
        assert log.outcomes[number + 1].scheduled_s >= log.outcomes[number].end_s + 0.019


def test_a_stop_ends_the_run_and_keeps_what_is_known(server: FakeServer) -> None:
    async def run() -> object:
        stop = asyncio.Event()
        target = Target(url=server.url, model="hang_midway")
        generator = Generator(target, load(2000, arrivals=Constant(rate_per_s=100)), stop)
        asyncio.get_running_loop().call_later(0.2, stop.set)
        return await asyncio.wait_for(generator.run(), 15)

    log = asyncio.run(run())
    assert log.interrupted
    assert 1 <= len(log.outcomes) < 2000
    assert {outcome.label for outcome in log.outcomes} == {"cancelled"}


BODY = "data: one\n\n: hello\r\ndata: two\ndata: more\n\ndata: ü€\n\n".encode()
PIECES = (BODY[:11], BODY[11:30], BODY[30:-5], BODY[-5:])
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%X;x=y\r\n%s\r\n" % (len(piece), piece) for piece in PIECES)
    + b"0\r\nX-Trailer: 1\r\n\r\n"
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, len(ANSWER)), max_size=12))
def test_however_the_bytes_are_cut_the_events_are_the_same(cuts: list[int]) -> None:
    response, events = ResponseDecoder(), EventDecoder()
    seen: list[bytes] = []
    edges = [0, *sorted(set(cuts)), len(ANSWER)]
    for start, stop in pairwise(edges):
        seen += events.feed(response.feed(ANSWER[start:stop]))
    assert seen == [b"one", b"two\nmore", "ü€".encode()]
    assert response.complete
    assert response.keeps_alive


@given(st.binary(max_size=300))
def test_noise_is_refused_or_ignored_but_never_crashes(noise: bytes) -> None:
    for decoder in (ResponseDecoder(), EventDecoder()):
        try:
            decoder.feed(noise)
        except Malformed:
            continue
