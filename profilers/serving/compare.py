"""The same load by `vllm bench serve`, side by side with ours.

vLLM's tool makes its own prompts and its own schedule, so the loads agree in their description
(arrivals, rate, lengths, number), not request by request; run it closed-loop with one user for the
closest comparison. Where definitions differ, our figure is computed by vLLM's definition.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from analyzer.errors import ConfigError, ProfilerError
from analyzer.serving.summary import Distribution
from analyzer.workload_arrivals import (
    AllAtOnce,
    ClosedLoop,
    Fixed,
    Gamma,
    Load,
    Poisson,
    requests,
)
from profilers.serving.measures import RunSummary
from profilers.serving.options import ServeOptions
from profilers.serving.prompts import PromptMaker

# The CPU build is published under another name, which vLLM's own command line does not expect.
_BENCH = """
import importlib.metadata as metadata, sys
import vllm
known = metadata.version
metadata.version = lambda name: vllm.__version__ if name == "vllm" else known(name)
from vllm.entrypoints.cli.main import main
sys.argv = ["vllm", "bench", "serve", *sys.argv[1:]]
main()
"""
_DECODE = """
import json, sys
from transformers import AutoTokenizer
known = AutoTokenizer.from_pretrained(sys.argv[1])
print(json.dumps([known.decode(ids) for ids in json.load(sys.stdin)]))
"""
LIMIT_S = 3600.0
ROUNDS = 4
"""Ours and theirs take turns, and so does who begins: a drift of the machine hits both alike."""


class Shared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One metric, both tools; seconds or per second."""

    name: str
    ours: float
    theirs: float
    noise: float | None = None
    """How far the difference may be off by chance: its standard error over the rounds."""

    @property
    def difference(self) -> float:
        """Ours over theirs, less one."""
        return self.ours / self.theirs - 1.0


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every shared metric."""

    command: str
    metrics: tuple[Shared, ...]


def compare_with_vllm_bench(
    options: ServeOptions,
    ours: Callable[[Mapping[int, str]], RunSummary],
    tell: Callable[[str], None] = lambda line: None,
    rounds: int = ROUNDS,
) -> Comparison:
    """Run vLLM's tool on the same server and load, in turn with ours, and average the rounds.

    `ours` runs our load with prompts as text, as vLLM's tool sends them: the server has them to
    tokenize. Raises ConfigError if the load cannot be said in vLLM's words.
    """
    if options.server is None:
        raise ConfigError(
            "compare 'vllm-bench' needs the interpreter that holds vLLM; give 'server'"
        )
    python = options.server.python
    arguments = bench_arguments(options)
    texts = prompt_texts(python, tokenizer_of(options), options.load, options.target.vocabulary)
    found = []
    for number in range(rounds):
        if number % 2:
            theirs = _bench(python, arguments)
            mine = ours(texts)
        else:
            mine = ours(texts)
            theirs = _bench(python, arguments)
        found.append(side_by_side(mine, theirs))
        tell(f"round {number + 1} of {rounds} beside vllm bench serve")
    return Comparison(command=" ".join(arguments), metrics=mean_of(found))


def tokenizer_of(options: ServeOptions) -> str:
    """Where both tools find the tokenizer."""
    served = options.server.model if options.server else options.target.model
    return options.tokenizer or served


def prompt_texts(python: str, tokenizer: str, load: Load, vocabulary: int) -> dict[int, str]:
    """The load's prompts as text, by the number of the request."""
    maker = PromptMaker(vocabulary, load.seed)
    ids = {spec.number: maker.ids(spec) for spec in requests(load)}
    done = _call(python, _DECODE, [tokenizer], "the tokenizer", json.dumps(list(ids.values())))
    return dict(zip(ids, json.loads(done.splitlines()[-1]), strict=True))


def _bench(python: str, arguments: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        more = ["--result-dir", folder, "--result-filename", "r.json"]
        _call(python, _BENCH, [*arguments, *more], "vllm bench serve")
        result: dict[str, float] = json.loads((Path(folder) / "r.json").read_text())
    return result


def mean_of(rounds: list[tuple[Shared, ...]]) -> tuple[Shared, ...]:
    """Each metric's mean over the rounds that have it, and how far its difference scatters."""
    gathered: dict[str, list[Shared]] = {}
    for shared in rounds:
        for each in shared:
            gathered.setdefault(each.name, []).append(each)
    return tuple(
        Shared(
            name=name,
            ours=sum(each.ours for each in found) / len(found),
            theirs=sum(each.theirs for each in found) / len(found),
            noise=_standard_error([each.difference for each in found]),
        )
        for name, found in gathered.items()
    )


def _standard_error(differences: list[float]) -> float | None:
    """Of the mean of differences; None of a single one, which tells nothing of chance."""
    if len(differences) < 2:
        return None
    return statistics.stdev(differences) / math.sqrt(len(differences))


def bench_arguments(options: ServeOptions) -> list[str]:
    """Our load in the words of `vllm bench serve`."""
    load = options.load
    if not (isinstance(load.input_tokens, Fixed) and isinstance(load.output_tokens, Fixed)):
        raise ConfigError("compare 'vllm-bench' needs constant prompt and answer lengths")
    if load.requests is None:
        raise ConfigError("compare 'vllm-bench' needs a number of requests")
    return [
        "--backend",
        "openai",
        "--base-url",
        options.target.url,
        "--model",
        options.target.model,
        "--tokenizer",
        tokenizer_of(options),
        "--dataset-name",
        "random",
        "--random-input-len",
        str(load.input_tokens.tokens),
        "--random-output-len",
        str(load.output_tokens.tokens),
        "--num-prompts",
        str(load.requests),
        "--seed",
        str(load.seed + 1),
        "--temperature",
        str(options.target.temperature),
        "--ignore-eos",
        "--percentile-metrics",
        "ttft,tpot,itl,e2el",
        "--metric-percentiles",
        "50,90,99",
        "--disable-tqdm",
        "--save-result",
        *_pace(load),
    ]


def side_by_side(ours: RunSummary, theirs: dict[str, float]) -> tuple[Shared, ...]:
    """Metrics that both tools have, by vLLM's definitions (from the sent time)."""
    sent = ours.from_sent
    pairs: list[tuple[str, float | None, str]] = []
    for name, each in (
        ("ttft", sent.ttft),
        ("tpot", ours.tpot),
        ("itl", ours.itl),
        ("e2el", sent.e2e),
    ):
        pairs += _of_one(name, each)
    pairs += [
        ("request_throughput", ours.request_rate_per_s, "request_throughput"),
        ("output_throughput", ours.output_tokens_per_s, "output_throughput"),
    ]
    shared = []
    for name, value, theirs_name in pairs:
        other = theirs.get(theirs_name)
        if value is not None and isinstance(other, int | float) and other > 0:
            scale = 1e-3 if theirs_name.endswith("_ms") else 1.0
            shared.append(Shared(name=name, ours=value, theirs=other * scale))
    return tuple(shared)


def _of_one(name: str, each: Distribution | None) -> list[tuple[str, float | None, str]]:
    if each is None:
        return []
    return [
        (f"mean {name}", each.mean, f"mean_{name}_ms"),
        (f"median {name}", each.percentiles.get("p50"), f"median_{name}_ms"),
        (f"p99 {name}", each.percentiles.get("p99"), f"p99_{name}_ms"),
    ]


def _pace(load: Load) -> list[str]:
    how = load.arrivals
    if isinstance(how, ClosedLoop):
        return ["--max-concurrency", str(how.concurrency)]
    if isinstance(how, AllAtOnce):
        return []
    if isinstance(how, Poisson):
        return ["--request-rate", str(how.rate_per_s)]
    if isinstance(how, Gamma):
        return ["--request-rate", str(how.rate_per_s), "--burstiness", str(how.burstiness)]
    raise ConfigError("compare 'vllm-bench' knows poisson, gamma, closed and offline arrivals")


def _call(python: str, program: str, arguments: list[str], what: str, said: str = "") -> str:
    """What a program of vLLM's environment writes; ProfilerError with its last lines otherwise."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    try:
        done = subprocess.run(  # noqa: S603
            [python, "-c", program, *arguments],
            env=environment,
            input=said,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProfilerError(f"{what}: {error}") from None
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-8:])
        raise ProfilerError(f"{what} ended with code {done.returncode}:\n{last}")
    return done.stdout
