"""How engines multiply by weights that are stored in fewer bits than they are multiplied in.

Some kernels widen weights as they load them, others write them out in 16 bits first and leave the
product to the library; some multiply a few rows on vector units. Which does what follows from the
kernels' sources; how fast vector units and memory are then, the rates say.
"""

from __future__ import annotations

import math

import msgspec

from analyzer import precision


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """One way to multiply by narrow weights."""

    flops: float = 2.0
    """Vector operations to widen one weight."""
    tile: float = math.inf
    """Rows after which it widens all weights anew."""
    vector: float = 0.0
    """Vector operations per operation of the product; 0: matrix units do it."""
    written: bool = False
    """Weights are written out in 16 bits, and the library multiplies by those."""


class Unpacking(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine does with one format, for each matrix."""

    few: Kernel
    many: Kernel
    rows: float = math.inf
    """Rows up to which the first kernel is taken."""
    launches: float = 0.0
    """Kernels beside the product's own, or host time as for so many."""
    inside: bool = False
    """Weights are widened while the next ones are loaded: the longer of the two counts."""


def _only(kernel: Kernel, launches: float = 0.0) -> Unpacking:
    return Unpacking(few=kernel, many=kernel, launches=launches)


IN_KERNEL = Unpacking(few=Kernel(), many=Kernel(), inside=True)
"""Servers: weights are widened as they are loaded, once."""
AS_STORED = _only(Kernel(flops=0.0))
"""The arithmetic takes the weights as they are."""

_VECTOR, _WRITTEN = Kernel(vector=1.0), Kernel(written=True)
_AWQ_GEMM = Kernel(flops=7.0, tile=16.0)
_TREE = Kernel(flops=64.0, written=True)
"""bitsandbytes finds each value of its table by a tree of branches, which lanes take in turn."""


def _nf4(launches: float) -> Unpacking:
    """One row has a kernel of its own."""
    return Unpacking(few=_VECTOR, many=_TREE, rows=1.0, launches=launches)


def _int8(launches: float) -> Unpacking:
    return _only(Kernel(flops=0.0), launches)


_AWQ = {
    "int4-awq": _only(_AWQ_GEMM, 1.5),
    "int4-awq-gemv": Unpacking(few=Kernel(vector=4.0), many=_AWQ_GEMM, rows=8.0, launches=0.5),
}
# exllama, second and first version; there is none for 8 bits, which are added up in fp32
_GPTQ = {
    "int4-gptq": Unpacking(few=_VECTOR, many=_WRITTEN, rows=50.0, launches=0.5),
    "int4-exllama1": Unpacking(few=Kernel(vector=8.0), many=_WRITTEN, rows=7.0, launches=0.5),
    "int8-gptq": Unpacking(few=_VECTOR, many=_WRITTEN, rows=127.0, launches=2.5),
}
# outliers are multiplied apart unless told otherwise; before 0.45 with more kernels by far
_BNB = {
    "bnb-nf4": _nf4(3.0),
    "bnb-nf4-dq": _nf4(5.0),
    "bnb-int8": _int8(7.0),
    "bnb-int8-decomp": _int8(15.0),
    "int8": _int8(15.0),
}
_BNB_0 = {
    "bnb-nf4": _nf4(4.0),
    "bnb-nf4-dq": _nf4(8.0),
    "bnb-int8": _int8(19.0),
    "bnb-int8-decomp": _int8(42.0),
    "int8": _int8(42.0),
}

# the same kernel, but its products of 256 rows and more are the library's
_AWQ_SERVED = Unpacking(few=_AWQ_GEMM, many=_WRITTEN, rows=255.0, launches=1.0)

# up to 64 rows in 8-bit integers as stored; beyond, the library's product in 16 bits, whose speed
# is still told as a share of the 8-bit peak
_K_QUANT = Unpacking(few=Kernel(flops=0.0), many=_WRITTEN, rows=64.0)
_K_QUANTS = [
    entry.name
    for entry in precision.FORMATS.values()
    if entry.covers_embeddings and entry.compute == "int8"
]

KERNELS: dict[str, dict[str, Unpacking]] = {
    "transformers": _AWQ | _GPTQ | _BNB_0,
    "transformers-bnb-0": _BNB_0,
    "transformers-bnb": _BNB,
    "autoawq": _AWQ,
    "llama.cpp": dict.fromkeys(_K_QUANTS, _K_QUANT),
    "vllm-2023": {"int4-awq": _only(_AWQ_GEMM, 1.0)},
    "vllm-0.4": {"int4-awq": _AWQ_SERVED},
}
"""By engine class and format; formats that differ in the size of groups only count as one."""


def unpacking(engine: str, weights: precision.Format, compute: str) -> Unpacking:
    """What that engine does with weights of that format."""
    known = KERNELS.get(engine, {})
    name = weights.name.removesuffix("-g128").removesuffix("-g64")
    if name in known:
        return known[name]
    return AS_STORED if compute in precision.NARROW or weights.bits >= 16 else IN_KERNEL
