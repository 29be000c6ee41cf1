"""The process that measures: reads requests from stdin, answers line by line, dies with its parent.

Libraries may print what they like: their standard output is sent to standard error, and answers go
through a descriptor of their own. A case that fails is answered as a failure; after an error that
leaves the device in an unknown state the process ends, and the campaign starts a new one.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Protocol

import msgspec

from analyzer.errors import PlumblineError
from profilers.cases import (
    Ask,
    Case,
    Described,
    Done,
    Failure,
    FailureCode,
    Outcome,
    Reply,
    Request,
)
from profilers.environment import redact
from profilers.stopping import Rules

OOM_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
FATAL_WORDS = ("cuda error", "device-side assert", "illegal memory access", "nccl error")
FATAL_EXIT = 70
UNSUPPORTED_WORDS = ("not implemented", "not supported", "no kernel", "unsupported")


class Measurer(Protocol):
    """What the process can do once its libraries are loaded."""

    def describe(self) -> Described: ...

    def measure(
        self, cases: Sequence[Case], rules: Rules, seed: int
    ) -> Iterator[Outcome | Failure]: ...


def classify(error: BaseException) -> FailureCode:
    """What kind of failure an exception is."""
    if isinstance(error, NotImplementedError):
        return "unsupported"
    text = f"{type(error).__name__}: {error}".lower()
    if isinstance(error, MemoryError) or any(word in text for word in OOM_WORDS):
        return "oom"
    if any(word in text for word in FATAL_WORDS):
        return "crash"
    if any(word in text for word in UNSUPPORTED_WORDS):
        return "unsupported"
    return "error"


def failure(case: Case, error: BaseException) -> Failure:
    """The answer for a case that raised; its reason is one clean line."""
    first_line = next(iter(str(error).strip().splitlines()), "")
    reason = redact(f"{type(error).__name__}: {first_line}".rstrip(": "))[:300]
    return Failure(case=case.id, code=classify(error), reason=reason)


def serve(measurer: Measurer, requests: Iterator[bytes], answer: Callable[[Reply], None]) -> None:
    """Answer every request; return when there are no more, or when the device may be broken."""
    decoder = msgspec.json.Decoder(Request)
    for line in requests:
        request = decoder.decode(line)
        if not isinstance(request, Ask):
            answer(measurer.describe())
            continue
        if not _measure(measurer, request, answer):
            return
        answer(Done())


def _measure(measurer: Measurer, ask: Ask, answer: Callable[[Reply], None]) -> bool:
    """Answer each case as it is done; False after an error that may have broken the device."""
    open_cases = {case.id: case for case in ask.cases}
    try:
        for reply in measurer.measure(ask.cases, ask.rules, ask.seed):
            open_cases.pop(reply.case, None)
            answer(reply)
            if isinstance(reply, Failure) and reply.code == "crash":
                return False
    except (PlumblineError, RuntimeError, MemoryError, ValueError, TypeError, OSError) as error:
        for case in open_cases.values():
            answer(failure(case, error))
        return classify(error) != "crash"
    except (ImportError, AttributeError, KeyError, IndexError, ArithmeticError) as error:
        for case in open_cases.values():
            answer(failure(case, error))
    return True


def _lines_until_parent_ends(stream: IO[bytes]) -> Iterator[bytes]:
    """Requests as they come. When the parent is gone, this process ends at once, even mid-case."""
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def pump() -> None:
        for line in stream:
            inbox.put(line)
        os._exit(0)

    threading.Thread(target=pump, daemon=True).start()
    while True:
        yield inbox.get()


def run(measurer: Measurer) -> None:
    """Serve over this process's pipes until the parent hangs up."""
    answers = os.dup(1)
    os.dup2(2, 1)
    encoder = msgspec.json.Encoder()

    def answer(reply: Reply) -> None:
        data = encoder.encode(reply) + b"\n"
        while data:
            data = data[os.write(answers, data) :]

    serve(measurer, _lines_until_parent_ends(sys.stdin.buffer), answer)
    sys.stderr.write("ended itself: after that error the device cannot be trusted\n")
    sys.stderr.flush()
    os._exit(FATAL_EXIT)  # a device in an unknown state may hang an orderly end


def main() -> None:
    """`python -m profilers.worker DEVICE THREADS SCRATCH-FOLDER`."""
    from profilers.workbench import Workbench

    device, threads, scratch = sys.argv[1:4]
    run(Workbench(device, int(threads) or None, scratch))


if __name__ == "__main__":
    main()
