"""Known habits of sources whose layouts do not mean what the columns say.

Each entry turns a scenario as its source writes it into what ran. The same repair serves records
that are fitted and tables that are predicted, so that a quirk is known in one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from analyzer import inferencemax
from analyzer.engines import EngineClass
from analyzer.records import Scenario

Repair = Callable[[Scenario], Scenario]


def _product_of_both(scenario: Scenario) -> Scenario:
    """Tensor and expert parallelism multiplied although they share the same devices.

    Rows of 64 ranks with 8-way experts repeat the very figures of 8-rank rows: the product was
    stored as the tensor parallelism, and the true one is left in `moe_tp`.
    """
    moe_tp, moe_ep = scenario.moe_tp or 1, scenario.moe_ep or 1
    ranks = (scenario.tp or 1) * (scenario.attention_dp or 1)
    if moe_tp == 1 or moe_ep == 1 or ranks != moe_tp * moe_ep or moe_tp % moe_ep:
        return scenario
    attention_dp = moe_tp if (scenario.attention_dp or 1) > 1 else 1
    return msgspec.structs.replace(
        scenario,
        gpus=moe_tp,
        tp=moe_tp // attention_dp,
        attention_dp=attention_dp,
        moe_tp=moe_tp // moe_ep,
    )


MOST_SHARDS = 16
"""Ranks that share one sequence's attention at most."""


def _wide_pools(scenario: Scenario) -> Scenario:
    """Pools whose attention parallelism was left out: no more ranks than that share a sequence.

    36 rows of 32 ranks repeat the very figures of rows that state the parallelism.
    """
    wide = {
        name: msgspec.structs.replace(pool, tp=1, attention_dp=pool.tp, moe_tp=1, moe_ep=pool.tp)
        for name in ("prefill_pool", "decode_pool")
        if (pool := getattr(scenario, name)) and pool.attention_dp == 1 and pool.tp > MOST_SHARDS
    }
    return msgspec.structs.replace(scenario, **wide) if wide else scenario


def _narrow_cache(scenario: Scenario) -> Scenario:
    """Dense models with 8- or 4-bit weights ran with an 8-bit cache there, which rows do not say.

    With a 16-bit one, 64 sequences of a 70B model could not run on one device as they did. SGLang's
    scripts for Hopper leave the cache as it is.
    """
    narrow = scenario.weight_precision in ("fp8", "fp4") and "gpt-oss" not in scenario.model
    wide = scenario.engine == "SGLang" and scenario.hardware.startswith("H")
    if scenario.kv_precision or not narrow or wide:
        return scenario
    return msgspec.structs.replace(scenario, kv_precision="fp8")


def _looks(scenario: Scenario) -> Scenario:
    """SGLang's script for 8-bit weights on four devices looks for requests as often at any load."""
    four = scenario.engine == "SGLang" and scenario.weight_precision == "fp8" and scenario.tp == 4
    if scenario.variant or not four or not scenario.hardware.startswith("B"):
        return scenario
    return msgspec.structs.replace(scenario, variant="scheduler-recv-interval=10")


def _silicon_sample(scenario: Scenario) -> Scenario:
    layout = _wide_pools(_product_of_both(scenario))
    return _one_place_less(inferencemax.as_run(_looks(_narrow_cache(layout))))


def _kernel_in_variant(scenario: Scenario) -> Scenario:
    """Which of an engine's kernels ran stands in the variant there: they are formats of ours."""
    for ending, weights in _KERNELS.items():
        if scenario.variant.endswith(ending) and scenario.weight_precision.startswith("int4"):
            return msgspec.structs.replace(scenario, weight_precision=weights)
    return scenario


_KERNELS = {
    "exllamav1": "int4-exllama1",
    "awq+gemv": "int4-awq-gemv",
    "GEMV kernel": "int4-awq-gemv",
}


_UNWARMED = {("llama_cpp_xiongjiedai", "main")}
"""Source and variant of single runs of a program; benchmarks run once before they measure."""


def unwarmed(scenario: Scenario, source: str) -> bool:
    """True where the first token includes what only a program's first run pays."""
    return (source, scenario.variant) in _UNWARMED


ONE_TEXT = frozenset(
    {("llm_inference_bench", "deepspeed-mii"), ("llm_inference_bench", "tensorrt-llm")}
)
"""Source and engine's family whose script repeats one word as the prompt of every sequence, which
then go on alike."""


def one_text(engine: EngineClass, source: str) -> bool:
    """True where the source's script made all sequences of a batch the same."""
    return (source, engine.family) in ONE_TEXT


_CHUNKS = re.compile(r"prompt in chunks of (\d+)$")


def prompt_chunk(scenario: Scenario) -> int | None:
    """Prompt tokens that a step took, where the variant states them."""
    found = _CHUNKS.search(scenario.variant)
    return int(found[1]) if found else None


_POLLS = re.compile(r"scheduler-recv-interval=(\d+)$")


def poll_steps(scenario: Scenario) -> int | None:
    """Decode steps between two looks at what has arrived, where the variant states them as SGLang
    names them."""
    found = _POLLS.search(scenario.variant)
    return int(found[1]) if found else None


PLACES_OPTION = "max_batch_size"
"""Sequences at once."""


def _one_place_less(scenario: Scenario) -> Scenario:
    """TensorRT-LLM 1.0.0rc3 on H100 ran one request less than there were, at any concurrency.

    Time to first token over time per token grows with the answer's length by 1 / concurrency: one
    of them waits a whole answer. Why is not stated; a server told of as many places as there are
    requests would do so if a dummy that pads its graphs kept one.
    """
    requests = scenario.concurrency or 1.0
    if scenario.variant or scenario.engine_version != "1.0.0rc3" or requests < 2.0:
        return scenario
    return msgspec.structs.replace(scenario, variant=f"{PLACES_OPTION}={requests - 1.0:.0f}")


class Options(NamedTuple):
    """What a server was told, where the variant states it."""

    step_tokens: int | None = None
    batch_wait: int = 0
    places: int | None = None


def server_options(scenario: Scenario) -> Options:
    """The options named in the variant, as 'max_num_tokens=1152, wait_iters=60'."""
    named = dict(_OPTION.findall(scenario.variant))
    step = named.get(inferencemax.STEP_OPTION)
    places = named.get(PLACES_OPTION)
    return Options(
        step_tokens=int(step) if step else None,
        batch_wait=int(named.get(inferencemax.WAIT_OPTION, 0)),
        places=int(places) if places else None,
    )


_OPTION = re.compile(r"\b([a-z_]+)=(\d+)\b")


REPAIRS: dict[str, Repair] = {
    "silicon_sample": _silicon_sample,
    "optimum_benchmark": _kernel_in_variant,
    "autoawq": _kernel_in_variant,
}
"""By source name."""


def repaired(scenario: Scenario, source: str) -> Scenario:
    """The scenario with its source's habits undone."""
    repair = REPAIRS.get(source)
    return scenario if repair is None else repair(scenario)
