"""Rates: how close a (system, engine) comes to its peaks, and what each step costs beside them.

These are the only figures that calibration changes. Every one is listed in `PARAMETERS` with its
unit, its meaning, its value for an ideal machine, its default, and the bounds outside of which a
fit is reported as wrong rather than clamped.
"""

from __future__ import annotations

from typing import Any

import msgspec

from analyzer.errors import ConfigError, nearest


class Parameter(msgspec.Struct, frozen=True):
    """One rate: what it means and between which values it is believable."""

    name: str
    unit: str
    ideal: float
    default: float
    low: float
    high: float
    meaning: str


DEFAULT_EFFICIENCY = 0.6

_SHARE = ("share of peak", 1.0, DEFAULT_EFFICIENCY, 0.01, 1.0)


def _share(name: str, meaning: str) -> Parameter:
    return Parameter(name, *_SHARE, meaning)


def _cost(name: str, unit: str, high: float, meaning: str) -> Parameter:
    return Parameter(name, unit, 0.0, 0.0, 0.0, high, meaning)


def _exponent(name: str, meaning: str) -> Parameter:
    return Parameter(name, "exponent", 0.0, 0.0, 0.0, 1.5, meaning)


def _turned(name: str, kind: str) -> Parameter:
    meaning = f"streaming of {kind} weights that lie input by input, relative to output by output"
    return Parameter(name, "ratio", 1.0, 1.0, 0.05, 20.0, f"{meaning}, by a processor")


def _wide(name: str, meaning: str) -> Parameter:
    """Processors run 16 and 32 bits through kernels that differ by more than the width."""
    return Parameter(name, "ratio", 1.0, 1.0, 0.05, 20.0, f"{meaning}, relative to 16 bits")


PARAMETERS: dict[str, Parameter] = {
    entry.name: entry
    for entry in (
        _share("gemm_eff_32", "linear layers in fp32/tf32, large sizes"),
        _share("gemm_eff_16", "linear layers in bf16/fp16, large sizes"),
        _share("gemm_eff_8", "linear layers in fp8/int8, large sizes"),
        _share("gemm_eff_block", "linear layers in fp8 with a scale per block, large sizes"),
        _share("gemm_eff_4", "linear layers in fp4, large sizes"),
        _cost("gemm_half", "rows", 2048.0, "rows at which linear layers reach half their rate"),
        Parameter(
            "wave_loss",
            "share",
            0.0,
            0.0,
            0.0,
            1.0,
            "share of the machine's idling in a linear layer's last wave of tiles that is felt",
        ),
        Parameter(
            "gemm_tile",
            "rows",
            1.0,
            128.0,
            1.0,
            256.0,
            "rows that linear layers are padded to a multiple of, where the device works in tiles",
        ),
        Parameter(
            "expert_eff",
            "ratio",
            1.0,
            1.0,
            0.05,
            1.0,
            "streaming of routed experts' weights, relative to dense layers'",
        ),
        Parameter(
            "expert_eff_8", "ratio", 1.0, 1.0, 0.05, 1.0, "the same of 8-bit experts, on top"
        ),
        _share("expert_gemm_eff", "routed experts' arithmetic, large sizes"),
        _share("attention_eff", "attention arithmetic, long contexts"),
        _cost("attention_half", "keys", 8192.0, "keys at which attention reaches half its rate"),
        _share("mem_eff", "streaming of 16-bit and wider weights"),
        _wide("mem_wide", "streaming of 32-bit weights, per byte"),
        _share("mem_eff_8", "streaming of 8-bit weights"),
        _share("mem_eff_4", "streaming of 4-bit weights, unpacking included"),
        _share("kv_eff", "reading of cached keys and values, machine full"),
        Parameter(
            "kv_splits",
            "splits",
            1e6,
            1e6,
            0.25,
            1e6,
            "pieces that one KV head's cache is cut into to fill the machine",
        ),
        Parameter(
            "kv_narrow_eff",
            "ratio",
            1.0,
            1.0,
            0.05,
            1.0,
            "speed of reading an 8-bit or narrower cache, per byte, relative to a 16-bit one",
        ),
        Parameter(
            "rows_wide",
            "ratio",
            1.0,
            1.0,
            0.05,
            20.0,
            "streaming of 32-bit weights by a processor for several rows, relative to one row",
        ),
        _exponent(
            "rows_few", "passes over 32-bit weights for 2 or 3 rows on a processor: 0 one, 1 each"
        ),
        _turned("turned_eff", "16-bit"),
        _turned("turned_wide", "32-bit"),
        _wide("kv_wide", "reading of a 32-bit cache, per byte"),
        _wide("attention_wide", "attention in fp32, as shares of each format's peak"),
        _wide("half_wide", "rows at which fp32 linear layers reach half their rate"),
        _exponent("gqa_exponent", "reads of a KV head that query heads share: 0 once, 1 for each"),
        Parameter(
            "query_cost",
            "ratio",
            0.0,
            0.0,
            0.0,
            200.0,
            "vector time per operation of attention on a lone query: 0 where matrix units do it",
        ),
        Parameter(
            "unsplit_cost",
            "ratio",
            0.0,
            0.0,
            0.0,
            1000.0,
            "the same, more of it where the keys of a sequence are not split among processors",
        ),
        _share("vector_eff", "memory-bound vector work: norms, activations, copies"),
        Parameter(
            "sharpness",
            "exponent",
            64.0,
            64.0,
            1.0,
            64.0,
            "how compute and memory overlap in a kernel: 1 adds them, large takes the maximum",
        ),
        _wide("sharpness_wide", "overlap in fp32"),
        _cost("launch_s", "s", 1e-3, "fixed cost of a kernel on the device"),
        _cost("linear_s", "s", 1e-3, "what a processor pays beside a kernel's for a linear layer"),
        _cost("host_launch_s", "s", 2e-3, "host time to issue a kernel, hidden while less"),
        _cost(
            "prefill_launch_s",
            "s",
            2e-3,
            "host time to issue a kernel of a prompt in a serving engine, hidden while less",
        ),
        _cost("step_s", "s", 1.0, "fixed cost of a step: scheduling, sampling, host"),
        _cost("sequence_s", "s", 0.05, "cost of a step per sequence in it"),
        _cost("prefill_s", "s", 5.0, "cost of a request batch before its first token"),
        _cost(
            "token_s",
            "s",
            1e-3,
            "the same under a load, per prompt token: text is cut into tokens before it can queue",
        ),
        Parameter(
            "stream_overlap",
            "share",
            1.0,
            0.8,
            0.0,
            1.0,
            "overlap of a prompt's chunks in a pipeline, of what gapless streaming would save",
        ),
        _cost("cold_s", "s", 5.0, "what a first run without a warm-up adds to its first token"),
        _cost(
            "burst",
            "prefills",
            2.0,
            "prefills of its fellows that a request waits for in a closed loop, per fellow",
        ),
        Parameter(
            "interference",
            "ratio",
            0.0,
            1.0,
            0.0,
            2.0,
            "share of the prefill work in continuous batching that delays running sequences",
        ),
        _cost("collective_s", "s", 5e-3, "latency of a collective beyond the links' own"),
        Parameter(
            "link_eff",
            "share of peak",
            1.0,
            DEFAULT_EFFICIENCY,
            0.001,
            1.0,
            "link bandwidth in collectives; engines that copy through host memory reach little",
        ),
        _share("host_link_eff", "host-to-device link bandwidth"),
        _share("disk_eff", "disk bandwidth"),
    )
}


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value per entry of PARAMETERS."""

    gemm_eff_32: Any = DEFAULT_EFFICIENCY
    gemm_eff_16: Any = DEFAULT_EFFICIENCY
    gemm_eff_8: Any = DEFAULT_EFFICIENCY
    gemm_eff_block: Any = DEFAULT_EFFICIENCY
    gemm_eff_4: Any = DEFAULT_EFFICIENCY
    gemm_half: Any = 0.0
    wave_loss: Any = 0.0
    gemm_tile: Any = 128.0
    expert_eff: Any = 1.0
    expert_eff_8: Any = 1.0
    expert_gemm_eff: Any = DEFAULT_EFFICIENCY
    attention_eff: Any = DEFAULT_EFFICIENCY
    attention_half: Any = 0.0
    mem_eff: Any = DEFAULT_EFFICIENCY
    mem_wide: Any = 1.0
    mem_eff_8: Any = DEFAULT_EFFICIENCY
    mem_eff_4: Any = DEFAULT_EFFICIENCY
    kv_eff: Any = DEFAULT_EFFICIENCY
    kv_splits: Any = 1e6
    kv_narrow_eff: Any = 1.0
    rows_wide: Any = 1.0
    rows_few: Any = 0.0
    turned_eff: Any = 1.0
    turned_wide: Any = 1.0
    kv_wide: Any = 1.0
    attention_wide: Any = 1.0
    half_wide: Any = 1.0
    gqa_exponent: Any = 0.0
    query_cost: Any = 0.0
    unsplit_cost: Any = 0.0
    vector_eff: Any = DEFAULT_EFFICIENCY
    sharpness: Any = 64.0
    sharpness_wide: Any = 1.0
    launch_s: Any = 0.0
    linear_s: Any = 0.0
    host_launch_s: Any = 0.0
    prefill_launch_s: Any = 0.0
    step_s: Any = 0.0
    sequence_s: Any = 0.0
    prefill_s: Any = 0.0
    token_s: Any = 0.0
    stream_overlap: Any = 0.8
    cold_s: Any = 0.0
    burst: Any = 0.0
    interference: Any = 1.0
    collective_s: Any = 0.0
    link_eff: Any = DEFAULT_EFFICIENCY
    host_link_eff: Any = DEFAULT_EFFICIENCY
    disk_eff: Any = DEFAULT_EFFICIENCY

    @classmethod
    def ideal(cls) -> Rates:
        """Every peak reached, nothing else costs anything: the speed of light."""
        return cls(**{name: entry.ideal for name, entry in PARAMETERS.items()})

    @classmethod
    def default(cls) -> Rates:
        """60 % of every peak: the customary guess where nothing was measured."""
        return cls.single(DEFAULT_EFFICIENCY)

    @classmethod
    def single(cls, system_eff: float) -> Rates:
        """One efficiency in 0..1 for compute, memory and links alike."""
        if not 0.0 < system_eff <= 1.0:
            raise ConfigError(f"system_eff must lie in (0, 1], not {system_eff:g}")
        shares = {
            name: system_eff for name, entry in PARAMETERS.items() if entry.unit == "share of peak"
        }
        return cls(**shares)

    def with_values(self, **values: float) -> Rates:
        """A copy with some rates replaced; unknown names and impossible values refused."""
        for name, value in values.items():
            if name not in PARAMETERS:
                raise ConfigError(f"unknown rate {name!r}{nearest(name, PARAMETERS)}")
            entry = PARAMETERS[name]
            if not entry.low <= value <= entry.high:
                raise ConfigError(
                    f"rate {name} = {value:g} is outside {entry.low:g}..{entry.high:g} "
                    f"({entry.unit})"
                )
        return msgspec.structs.replace(self, **values)
