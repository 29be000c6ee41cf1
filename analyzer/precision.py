"""Number formats: how many bytes a value takes, and what it is computed as.

Storage and arithmetic are told apart: 4-bit weights (`int4-awq-g128`) take 4.25 bits each and are
computed in 16 bits, unless the plan says otherwise.
"""

from __future__ import annotations

import re

import msgspec

from analyzer.errors import ConfigError, nearest


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One way to store a number."""

    name: str
    bits: float
    """Bits of the value itself."""
    scale_bits: float = 0.0
    """Bits of scales and zero points, shared out over the values of a group."""
    compute: str
    """The format that a matrix multiplication with these weights runs in."""
    block: int = 0
    """Values along either side of a matrix that share one scale; 0: blocks bind nothing."""
    covers_embeddings: bool = False
    """True where embedding and head are stored in this format too."""

    @property
    def bytes_per_value(self) -> float:
        return (self.bits + self.scale_bits) / 8


def _grouped(bits: float, group: int, scale: float = 16, zero: float = 0) -> tuple[float, float]:
    return bits, (scale + zero) / group


def _format(
    name: str, bits: float, scale_bits: float, compute: str, whole: bool = False, block: int = 0
) -> Format:
    return Format(
        name=name,
        bits=bits,
        scale_bits=scale_bits,
        compute=compute,
        block=block,
        covers_embeddings=whole,
    )


NARROW = frozenset({"fp8", "fp8-block", "int8", "fp6", "fp4", "int4"})
"""Arithmetic in fewer than 16 bits, which activations are narrowed for."""


_MIXED_FILES = {
    "q5_k_m": 5.69,
    "q5_k_s": 5.52,
    "q5_1": 6.0,
    "q5_0": 5.5,
    "q4_k_m": 4.85,
    "q4_k_s": 4.58,
    "q4_1": 5.0,
    "q3_k_l": 4.27,
    "q3_k_m": 3.91,
    "q3_k_s": 3.50,
    "q2_k": 3.35,
    "iq4_nl": 4.50,
    "iq4_xs": 4.25,
    "iq3_m": 3.66,
    "iq3_s": 3.44,
    "iq3_xs": 3.30,
    "iq3_xxs": 3.06,
    "iq2_m": 2.70,
    "iq2_s": 2.50,
    "iq2_xs": 2.31,
    "iq2_xxs": 2.06,
    "iq1_m": 1.75,
    "iq1_s": 1.56,
}
"""Bits per value of llama.cpp's files: of Llama-2-7B in the quantiser's own table, of types that
begin with i as its help states them. `kquants` knows better for some."""


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        _format("fp32", 32, 0, "fp32", whole=True),
        _format("tf32", 32, 0, "tf32", whole=True),
        _format("bf16", 16, 0, "bf16", whole=True),
        _format("fp16", 16, 0, "fp16", whole=True),
        _format("fp8", 8, 0, "fp8"),
        _format("fp8-block", *_grouped(8, 128 * 128, scale=32), "fp8-block", block=128),
        _format("mxfp8", *_grouped(8, 32, scale=8), "fp8"),
        _format("int8", 8, 0, "int8"),
        _format("int8-wo", 8, 0, "bf16"),
        _format("int8-gptq", *_grouped(8, 128, zero=8), "fp16"),
        _format("bnb-int8", 8, 0, "int8"),
        _format("bnb-int8-decomp", 8, 0, "int8"),
        _format("q8_0", *_grouped(8, 32), "int8", whole=True),
        _format("fp6", 6, 0, "fp6"),
        _format("q6_k", 6.5625, 0, "int8", whole=True),
        *(_format(name, bits, 0, "int8", whole=True) for name, bits in _MIXED_FILES.items()),
        _format("q4_0", *_grouped(4, 32), "int8", whole=True),
        _format("fp4", *_grouped(4, 16, scale=8), "fp4"),
        _format("nvfp4", *_grouped(4, 16, scale=8), "fp4"),
        _format("mxfp4", *_grouped(4, 32, scale=8), "bf16"),
        _format("int4", *_grouped(4, 128, zero=4), "fp16"),
        _format("int4-awq", *_grouped(4, 128, zero=4), "fp16"),
        _format("int4-awq-g128", *_grouped(4, 128, zero=4), "fp16"),
        _format("int4-awq-g64", *_grouped(4, 64, zero=4), "fp16"),
        _format("int4-gptq", *_grouped(4, 128, zero=4), "fp16"),
        _format("int4-awq-gemv", *_grouped(4, 128, zero=4), "fp16"),
        _format("int4-exllama1", *_grouped(4, 128, zero=4), "fp16"),
        _format("int4-g32", *_grouped(4, 32, zero=4), "fp16"),
        _format("w4a8", *_grouped(4, 128), "fp8"),
        _format("bnb-nf4", *_grouped(4, 64, scale=32), "fp16"),
        _format("bnb-nf4-dq", *_grouped(4, 64, scale=8.125), "fp16"),
        _format("int2", *_grouped(2, 64, zero=2), "fp16"),
    )
}

ALIASES: dict[str, str] = {
    "f32": "fp32",
    "float32": "fp32",
    "f16": "fp16",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "fp16/bf16": "bf16",
    "bf16/fp16": "bf16",
    "float8": "fp8",
    "e4m3": "fp8",
    "fp8-e4m3": "fp8",
    "fp8-e5m2": "fp8",
    "float8-e4m3fn": "fp8",
    "float8-e5m2": "fp8",
    "fp8-dynamic": "fp8",
    "fp8-static": "fp8",
    "fp8-per-tensor": "fp8",
    "fp8-per-channel": "fp8",
    "w8a8-fp8": "fp8",
    "fp8-w8a8": "fp8",
    "fp8-blockwise": "fp8-block",
    "fp8-block-scale": "fp8-block",
    "w8a8": "int8",
    "w8a8-int8": "int8",
    "int8-w8a8": "int8",
    "int8-sq": "int8",
    "smoothquant": "int8",
    "w8a16": "int8-wo",
    "int8-woq": "int8-wo",
    "int8-weight-only": "int8-wo",
    "eetq": "int8-wo",
    "gptq-int8": "int8-gptq",
    "llm.int8": "bnb-int8",
    "bnb-8bit": "bnb-int8",
    "w4a16": "int4-awq-g128",
    "awq": "int4-awq-g128",
    "awq-int4": "int4-awq-g128",
    "awq-marlin": "int4-awq-g128",
    "gptq": "int4-gptq",
    "gptq-int4": "int4-gptq",
    "gptq-marlin": "int4-gptq",
    "hqq": "int4-awq-g64",
    "int4-hqq": "int4-awq-g64",
    "nf4": "bnb-nf4",
    "bnb-4bit": "bnb-nf4",
    "4-bit": "int4",
    "4bit": "int4",
    "int4-g128": "int4",
    "int4-woq": "int4",
    "int4-mixed": "int4",
    "int4-sym": "int4",
    "int4-asym": "int4",
    "int4-weight-only": "int4",
    "w4afp8": "w4a8",
    "w4a8-awq": "w4a8",
    "w4a8-fp8": "w4a8",
    "nvfp4a16": "nvfp4",
    "modelopt-fp4": "nvfp4",
    "mxfp4-moe": "mxfp4",
    "q8": "q8_0",
    "q4": "q4_0",
}
"""Other names, with hyphens between their words."""


def stated(name: str) -> str:
    """What is said of a format; '' where it is left to the engine, as servers' "auto" does."""
    return "" if name.strip().lower() == "auto" else name


def lookup(name: str) -> Format:
    """The format called `name`; a clear error with the nearest names otherwise."""
    key = name.strip().lower()
    words = "-".join(re.findall(r"[^\s_()-]+", key))
    found = FORMATS.get(key) or FORMATS.get(ALIASES.get(words, words))
    if found is None:
        raise ConfigError(f"unknown number format {name!r}{nearest(name, [*FORMATS, *ALIASES])}")
    return found
