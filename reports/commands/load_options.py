"""Words of the command line for a load: when requests come, how long they are, what they share.

`profile serve` and `simulate` read the same words, so the load that a server was measured under is
simulated by repeating them.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from analyzer.errors import ConfigError, nearest
from analyzer.workload import SLO
from analyzer.workload_load import (
    AllAtOnce,
    Arrivals,
    ClosedLoop,
    Constant,
    Fixed,
    FromTrace,
    Gamma,
    Length,
    Load,
    LogNormal,
    Poisson,
    Ramp,
    SharedPrefix,
    TraceLength,
    Turns,
    Uniform,
)

DEFAULT_REQUESTS = 1000
LENGTHS = "512 | 64-512 | lognormal:MEDIAN:SIGMA[:LOW:HIGH] | trace"
PROMISES = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e": "e2e_s"}


def declare_load(parser: ArgumentParser, requests: int = DEFAULT_REQUESTS) -> None:
    """Arrivals, lengths, what is shared."""
    group = parser.add_argument_group("load")
    group.add_argument(
        "--arrivals",
        choices=tuple(_ARRIVALS),
        help="default: trace with --trace, closed with --concurrency, else poisson",
    )
    group.add_argument("--rate", type=float, metavar="R", help="requests per second")
    group.add_argument("--burstiness", type=float, default=1.0, metavar="B",
                       help="gamma arrivals: 1 is poisson, below 1 burstier")  # fmt: skip
    group.add_argument("--rate-to", type=float, metavar="R", help="ramp: rate at its end")
    group.add_argument("--ramp-s", type=float, default=60.0, metavar="S", help="ramp: its length")
    group.add_argument("--concurrency", type=int, metavar="N", help="closed loop: users")
    group.add_argument("--think", type=float, default=0.0, metavar="S",
                       help="seconds between a user's answer and next request")  # fmt: skip
    group.add_argument("--trace", metavar="FILE", help="CSV or JSON lines: time, prompt, answer")
    group.add_argument("--speed", type=float, default=1.0, help="of the trace's clock")
    group.add_argument("--requests", type=int, metavar="N",
                       help=f"{requests}, or all that the trace has")  # fmt: skip
    group.add_argument("--input", metavar="TOKENS", help=f"prompts: {LENGTHS}; default 512")
    group.add_argument("--output", metavar="TOKENS", help="answers, likewise; default 128")
    group.add_argument("--prefix", metavar="TOKENS[:GROUPS]", help="shared beginning of prompts")
    group.add_argument("--turns", metavar="N[:THINK_S]", help="conversations of N turns")
    group.add_argument("--seed", type=int, default=0)
    parser.set_defaults(default_requests=requests)


def declare_slo(parser: ArgumentParser) -> None:
    """Promised latencies."""
    parser.add_argument(
        "--slo", metavar="LIST", help="promises in seconds, such as ttft=1,tpot=0.05"
    )


def load_of(options: Namespace) -> Load:
    """The load that the options describe; ConfigError in the words of the command line."""
    from_trace = options.trace is not None
    requests = options.requests
    if requests is None and not from_trace:
        requests = options.default_requests
    usual = "trace" if from_trace else None
    return Load(
        arrivals=_arrivals(options),
        input_tokens=length("input", options.input or usual or "512"),
        output_tokens=length("output", options.output or usual or "128"),
        requests=requests,
        shared_prefix=_prefix(options.prefix),
        turns=_turns(options.turns),
        trace=options.trace,
        seed=options.seed,
    )


def slo_of(options: Namespace) -> SLO | None:
    """The promises, or None."""
    if not options.slo:
        return None
    kept: dict[str, float] = {}
    for part in options.slo.split(","):
        name, sign, text = part.strip().partition("=")
        if name not in PROMISES or not sign:
            raise ConfigError(
                f"--slo: {part!r} is none of ttft=S, tpot=S, e2e=S{nearest(name, PROMISES)}"
            )
        kept[PROMISES[name]] = _number("slo", text)
    return SLO(**kept)


def length(name: str, text: str) -> Length:
    """Lengths of prompts or answers from words."""
    kind, _, rest = text.partition(":")
    if text == "trace":
        return TraceLength()
    if kind == "lognormal":
        parts = [_number(name, part) for part in rest.split(":")]
        if len(parts) not in (2, 4):
            raise ConfigError(f"--{name}: {text!r} is not lognormal:MEDIAN:SIGMA[:LOW:HIGH]")
        limits = {"low": int(parts[2]), "high": int(parts[3])} if len(parts) == 4 else {}
        return LogNormal(median=parts[0], sigma=parts[1], **limits)
    low, dash, high = text.partition("-")
    if dash:
        return Uniform(low=_whole(name, low), high=_whole(name, high))
    return Fixed(tokens=_whole(name, text))


def _arrivals(options: Namespace) -> Arrivals:
    kind = options.arrivals
    if kind is None:
        closed = "closed" if options.concurrency is not None else "poisson"
        kind = "trace" if options.trace is not None and options.rate is None else closed
    return _ARRIVALS[kind](options)


def _rate(options: Namespace) -> float:
    if options.rate is None:
        raise ConfigError("--rate is missing: requests per second")
    return float(options.rate)


def _ramp(options: Namespace) -> Arrivals:
    if options.rate_to is None:
        raise ConfigError("--rate-to is missing: the rate at the end of the ramp")
    return Ramp(
        start_rate_per_s=_rate(options),
        end_rate_per_s=options.rate_to,
        duration_s=options.ramp_s,
    )


def _closed(options: Namespace) -> Arrivals:
    if options.concurrency is None:
        raise ConfigError("--concurrency is missing: users of the closed loop")
    return ClosedLoop(concurrency=options.concurrency, think_s=options.think)


def _gamma(options: Namespace) -> Arrivals:
    return Gamma(rate_per_s=_rate(options), burstiness=options.burstiness)


_ARRIVALS: dict[str, Callable[[Namespace], Arrivals]] = {
    "poisson": lambda options: Poisson(rate_per_s=_rate(options)),
    "gamma": _gamma,
    "constant": lambda options: Constant(rate_per_s=_rate(options)),
    "ramp": _ramp,
    "offline": lambda options: AllAtOnce(),
    "closed": _closed,
    "trace": lambda options: FromTrace(speed=options.speed),
}


def _prefix(text: str | None) -> SharedPrefix | None:
    if not text:
        return None
    tokens, _, groups = text.partition(":")
    return SharedPrefix(tokens=_whole("prefix", tokens), groups=_whole("prefix", groups or "1"))


def _turns(text: str | None) -> Turns | None:
    if not text:
        return None
    count, _, think = text.partition(":")
    return Turns(count=_whole("turns", count), think_s=_number("turns", think or "0"))


def _whole(name: str, text: str) -> int:
    if not (text.strip().isascii() and text.strip().isdigit()):
        raise ConfigError(f"--{name}: {text!r} is not a whole number")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--{name}: {text!r} is not a number") from None
