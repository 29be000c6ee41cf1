"""From what a source published to the corpus's own metrics.

Each throughput definition is one entry of `MEANINGS`: the metric it is, the latency that follows
from it for a batch of sequences that start and end together, and the tokens of one sequence that it
counts. Under a load (closed loop, Poisson, offline) no latency follows from a throughput.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from analyzer.errors import ConfigError
from analyzer.records import Flag
from analyzer.records_arrival import Arrival
from calibration.corpus.flags import make_flag
from calibration.corpus.mapping import Column

_TOLERANCE = 0.03
"""Two published figures of one row may differ by this much through rounding and averaging."""


class Draft:
    """A record in the making: what one row says so far."""

    def __init__(self, scenario: dict[str, Any], case: dict[str, Any]) -> None:
        self.scenario = scenario
        self.case = case
        self.pools: dict[str, dict[str, Any]] = {}
        self.metrics: dict[str, float] = {}
        self.rates: list[tuple[Column, str, float]] = []
        self.derived: list[str] = []
        self.spread: dict[str, dict[str, float]] = {}
        self.flags: list[Flag] = []
        self.environment: dict[str, Any] = {}
        self.book: dict[str, str] = {}

    @property
    def is_fixed_batch(self) -> bool:
        """True where all sequences start together."""
        arrival: Arrival | None = self.scenario.get("arrival")
        return arrival is not None and arrival.is_fixed_batch


class _Meaning(NamedTuple):
    metric: str
    latency: str
    tokens: Callable[[float | None, float | None], float | None]


def _both(inputs: float | None, outputs: float | None) -> float | None:
    return None if inputs is None or outputs is None else inputs + outputs


MEANINGS: dict[tuple[str, str], _Meaning] = {
    ("input", "prefill"): _Meaning("prefill_tok_s", "ttft_s", lambda inputs, _: inputs),
    ("output", "decode"): _Meaning("decode_tok_s", "tpot_s", lambda _, __: 1.0),
    ("output", "request"): _Meaning("output_tok_s", "e2e_s", lambda _, outputs: outputs),
    ("input+output", "request"): _Meaning("total_tok_s", "e2e_s", _both),
}
"""What a throughput is, by what it counts and over which time."""


def meaning_of(column: Column, where: str) -> _Meaning:
    """The meaning of a throughput column; raises ConfigError where it is not declared in full."""
    meaning = MEANINGS.get((column.counts, column.over))
    if meaning is None:
        choices = " or ".join(f"counts='{c}' over='{o}'" for c, o in MEANINGS)
        raise ConfigError(f"{where}: a throughput needs its definition: {choices}")
    return meaning


def apply_rates(draft: Draft, gpus_missing: Callable[[str], Exception]) -> None:
    """Turn the row's throughputs into whole-system rates and the latencies that follow."""
    for column, name, published in draft.rates:
        meaning = MEANINGS[column.counts, column.over]
        rate = published * _multiplier(draft, column, name, gpus_missing)
        draft.metrics[meaning.metric] = rate
        if draft.is_fixed_batch:
            _add_latency(draft, meaning, column, rate)
    _add_tpot(draft)


def _multiplier(
    draft: Draft, column: Column, name: str, missing: Callable[[str], Exception]
) -> float:
    if column.per == "system":
        return 1.0
    field = "gpus" if column.per == "gpu" else "concurrency"
    value = draft.scenario.get(field)
    if value is None:
        raise missing(f"{name} is per {column.per}, and '{field}' is not given")
    return float(value)


def _add_latency(draft: Draft, meaning: _Meaning, column: Column, rate: float) -> None:
    batch = draft.scenario.get("concurrency")
    inputs, outputs = draft.scenario.get("input_tokens"), draft.scenario.get("output_tokens")
    tokens = meaning.tokens(inputs, outputs)
    if batch is None:
        return
    if column.prompt_is_a_step and "tpot_s" not in draft.metrics:
        draft.metrics["tpot_s"] = batch / rate
        draft.derived.append("tpot_s")
    stated = draft.metrics.get(meaning.latency)
    if tokens and stated is not None:
        _compare(draft, batch, implied_batch=stated * rate / tokens)
    elif tokens:
        draft.metrics[meaning.latency] = batch * tokens / rate
        draft.derived.append(meaning.latency)


def _compare(draft: Draft, batch: float, implied_batch: float) -> None:
    """Stated latency × throughput must account for as many sequences as the batch has."""
    if abs(implied_batch / batch - 1) <= _TOLERANCE:
        return
    if batch > 1 and abs(implied_batch - 1) <= _TOLERANCE:
        draft.flags.append(make_flag("batch_is_no_batch", f"1 sequence, not {batch:g}"))
    else:
        detail = f"{implied_batch:.4g} sequences' worth of tokens in a batch of {batch:g}"
        draft.flags.append(make_flag("definition_mismatch", detail))


def _add_tpot(draft: Draft) -> None:
    metrics, outputs = draft.metrics, draft.scenario.get("output_tokens")
    if "tpot_s" in metrics or not draft.is_fixed_batch or outputs is None or outputs < 2:
        return
    if "ttft_s" in metrics and "e2e_s" in metrics:
        decode_s = metrics["e2e_s"] - metrics["ttft_s"]
        if decode_s <= 0:
            draft.flags.append(make_flag("definition_mismatch", "TTFT is not below E2E"))
            return
        metrics["tpot_s"] = decode_s / (outputs - 1)
        draft.derived.append("tpot_s")
