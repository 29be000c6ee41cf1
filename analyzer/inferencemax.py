"""What InferenceMAX's scripts told TensorRT-LLM beyond what rows made from its runs say.

Its first rows leave out the release, and with it that experts and attention were spread: the script
decided that from lengths and concurrency. Runs with drafted tokens stand beside plain ones without
a word. Read in the project's public repository (SemiAnalysisAI/InferenceX: the scripts benchmarks/
*_trt*.sh and the search spaces in .github/configs, 2025-10 to 2026-02); nothing here was fitted.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from analyzer.records import Scenario

CHAT, WRITING, READING = (1024, 1024), (1024, 8192), (8192, 1024)
"""Prompt and answer tokens of its three loads."""
STEP_OPTION, WAIT_OPTION = "max_num_tokens", "wait_iters"
"""Tokens of a step; steps that prompts wait for one another (TensorRT-LLM's
batch_wait_timeout_iters or, with attention data parallelism, attention_dp_config.timeout_iters)."""
ALWAYS, NEVER = 0, 1 << 30


class _Spread(NamedTuple):
    """Concurrency from which experts lie whole on ranks, and from which attention is parallel."""

    experts: int
    attention: int = NEVER


_FIRST_SCRIPTS: dict[tuple[str, str, str], dict[tuple[int, tuple[int, int]], _Spread]] = {
    ("deepseek", "B200", "fp4"): {
        (4, CHAT): _Spread(64, 256),
        (4, WRITING): _Spread(64, 256),
        (4, READING): _Spread(ALWAYS, 64),
        (8, CHAT): _Spread(16, 256),
        (8, WRITING): _Spread(32, 256),
        (8, READING): _Spread(64, 64),
    },
    ("deepseek", "B200", "fp8"): {
        (8, CHAT): _Spread(ALWAYS, 64),
        (8, WRITING): _Spread(ALWAYS),
        (8, READING): _Spread(ALWAYS),
    },
    ("deepseek", "H200", "fp8"): {
        (8, CHAT): _Spread(ALWAYS),
        (8, WRITING): _Spread(ALWAYS),
        (8, READING): _Spread(ALWAYS, 64),
    },
    ("gpt-oss", "B200", "fp4"): {
        (tp, load): _Spread(16) for tp in (4, 8) for load in (CHAT, WRITING)
    },
    ("gpt-oss", "H200", "fp4"): {
        (tp, load): _Spread(ALWAYS) for tp in (2, 4, 8) for load in (CHAT, WRITING, READING)
    },
}
"""By model, device and weights, then ranks and load: what scripts did before rows had a release."""


class _Drafted(NamedTuple):
    """One layout and its concurrencies in the search space with drafts."""

    load: tuple[int, int]
    ranks: int
    ep: int
    attention_dp: bool
    least: int
    most: int


def _drafted(load: tuple[int, int], *layouts: tuple[int, int, bool, int, int]) -> list[_Drafted]:
    return [_Drafted(load, *layout) for layout in layouts]


_DRAFTED: dict[tuple[str, str], list[_Drafted]] = {
    ("B200", "fp4"): [
        *_drafted(
            CHAT,
            (4, 1, False, 4, 8), (4, 4, False, 16, 64), (4, 4, True, 128, 256),
            (8, 1, False, 4, 8), (8, 8, False, 16, 32), (8, 8, True, 64, 256),
        ),
        *_drafted(
            WRITING,
            (4, 1, False, 4, 16), (4, 4, False, 32, 64), (4, 4, True, 128, 256),
            (8, 1, False, 4, 4), (8, 8, False, 8, 64), (8, 8, True, 128, 256),
        ),
        *_drafted(
            READING,
            (4, 1, False, 4, 16), (4, 4, True, 32, 256),
            (8, 1, False, 4, 16), (8, 8, True, 32, 256),
        ),
    ],
    ("B200", "fp8"): [
        *_drafted(CHAT, (8, 8, False, 4, 32), (8, 8, True, 64, 256)),
        *_drafted(WRITING, (8, 8, False, 4, 64), (8, 8, True, 128, 256)),
        *_drafted(READING, (8, 8, False, 4, 32), (8, 8, True, 64, 256)),
    ],
    ("H200", "fp8"): [
        *_drafted(CHAT, (8, 8, False, 4, 64), (8, 8, True, 128, 256)),
        *_drafted(WRITING, (8, 8, False, 4, 128), (8, 8, True, 256, 256)),
        *_drafted(READING, (8, 8, False, 4, 32), (8, 8, True, 64, 256)),
    ],
}  # fmt: skip
"""Search spaces of release 1.1.0rc2.post2 with multi-token prediction. Where the plain space has
the same layout, rows under DeepSeek-R1's own name are those with drafts."""
_BOTH, _ALL_DRAFTED = "1.1.0rc2.post2", "1.2.0rc6.post3"
"""The release that ran with and without drafts, and the one that ran with them only."""


def as_run(scenario: Scenario) -> Scenario:
    """The scenario with what the script set."""
    if "tensorrt" not in scenario.engine.lower():
        return scenario
    return _telling(_drafting(_spread(scenario)))


def _spread(scenario: Scenario) -> Scenario:
    """Where experts and attention lay in rows of the first scripts."""
    told = (scenario.attention_dp or 1) > 1 or (scenario.moe_ep or scenario.ep or 1) > 1
    if scenario.engine_version or told or scenario.tp is None:
        return scenario
    script = _FIRST_SCRIPTS.get((_family(scenario), _device(scenario), scenario.weight_precision))
    spread = (script or {}).get((scenario.tp, _load(scenario)))
    requests = scenario.concurrency or 0.0
    if spread is None or requests < spread.experts:
        return scenario
    ranks = scenario.tp
    parallel = requests >= spread.attention
    return msgspec.structs.replace(
        scenario,
        moe_ep=ranks,
        moe_tp=1,
        tp=1 if parallel else ranks,
        attention_dp=ranks if parallel else 1,
    )


def _drafting(scenario: Scenario) -> Scenario:
    """DeepSeek with its own layers drafting: three tokens, or one under parallel attention."""
    if not scenario.model.endswith("/DeepSeek-R1") or scenario.speculative:
        return scenario
    version = scenario.engine_version
    if version != _ALL_DRAFTED and not (version == _BOTH and _in_drafted_space(scenario)):
        return scenario
    tokens = 1 if (scenario.attention_dp or 1) > 1 else 3
    return msgspec.structs.replace(scenario, speculative=f"multi-token prediction of {tokens}")


def _in_drafted_space(scenario: Scenario) -> bool:
    parallel = (scenario.attention_dp or 1) > 1
    layout = (
        _load(scenario),
        (scenario.tp or 1) * (scenario.attention_dp or 1),
        scenario.moe_ep or scenario.ep or 1,
        parallel,
    )
    space = _DRAFTED.get((_device(scenario), scenario.weight_precision), [])
    requests = scenario.concurrency or 0.0
    return any(entry[:4] == layout and entry.least <= requests <= entry.most for entry in space)


def _telling(scenario: Scenario) -> Scenario:
    """The options that the script gave to the scheduler."""
    load = _load(scenario)
    if scenario.variant or load not in (CHAT, WRITING, READING) or not _family(scenario):
        return scenario
    options = {STEP_OPTION: _step_tokens(scenario), WAIT_OPTION: _wait_steps(scenario)}
    said = ", ".join(f"{name}={value}" for name, value in options.items() if value)
    return msgspec.structs.replace(scenario, variant=said)


def _step_tokens(scenario: Scenario) -> int:
    """Prompt tokens that a step takes: DeepSeek's servers had room for one prompt beside all
    answers, until a later script gave them the engine's default."""
    prompt, answer = _load(scenario)
    family = _family(scenario)
    if family == "gpt-oss":
        return 20000
    if family == "llama":
        whole = scenario.weight_precision == "fp8" and _device(scenario) == "B200"
        return 16384 if whole else prompt + answer + 200
    one = (int(scenario.concurrency or 1) + prompt + 127) // 64 * 64
    later = scenario.engine_version.startswith("1.2.0rc6")
    return max(one, 8192) if later else one


def _wait_steps(scenario: Scenario) -> int:
    """Steps that a prompt is held back until others, or one for each rank, have come."""
    family = _family(scenario)
    if (scenario.attention_dp or 1) > 1:
        return 60 if family == "deepseek" else 50
    if _load(scenario) != CHAT:
        return 0
    if family == "llama":
        return 20 if not scenario.engine_version and (scenario.tp or 1) < 8 else 0
    return 40 if _delayed_deepseek(scenario) else 0


def _delayed_deepseek(scenario: Scenario) -> bool:
    """The script of fp8 on B200 since 1.2.0rc6 holds prompts back from 64 to 255 requests."""
    return (
        _family(scenario) == "deepseek"
        and _device(scenario) == "B200"
        and scenario.weight_precision == "fp8"
        and scenario.engine_version == "1.2.0rc6.post2"
        and 64 <= (scenario.concurrency or 0.0) < 256
    )


def _family(scenario: Scenario) -> str:
    name = scenario.model.lower()
    if name.endswith(("/deepseek-r1", "/deepseek-v3")):
        return "deepseek"
    if name.endswith("/llama-3.1-70b"):
        return "llama"
    return "gpt-oss" if "gpt-oss" in name else ""


def _device(scenario: Scenario) -> str:
    return scenario.hardware.split("-")[0]


def _load(scenario: Scenario) -> tuple[int, int]:
    return int(scenario.input_tokens or 0), int(scenario.output_tokens or 0)
