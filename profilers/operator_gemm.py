"""Matrix products y[m, n] = x[m, k] · w[n, k]ᵀ in every number format that torch can multiply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from analyzer.errors import ConfigError, nearest
from analyzer.records import INPUT_MAJOR
from profilers.work import Work

if TYPE_CHECKING:
    from profilers.workbench import Workbench

INT4_GROUP = 128


def gemm(case: Mapping[str, Any], bench: Workbench) -> Work:
    """One product; weight and activation formats follow `dtype`."""
    dtype = str(case["dtype"])
    if dtype not in PRODUCTS:
        raise ConfigError(f"unknown number format {dtype!r}{nearest(dtype, PRODUCTS)}")
    m, n, k = int(case["m"]), int(case["n"]), int(case["k"])
    make = _input_major if case.get("layout") == INPUT_MAJOR else PRODUCTS[dtype]
    run, weight_B, act_B = make(m, n, k, dtype, bench)
    return Work(run=run, flops=2.0 * m * n * k, moved_B=weight_B + act_B)


Product = tuple[Callable[[], object], float, float]


def _plain(m: int, n: int, k: int, dtype: str, bench: Workbench) -> Product:
    x, w = bench.normal(m, k, dtype=dtype), bench.normal(n, k, dtype=dtype, scale=k**-0.5)
    linear = bench.torch.nn.functional.linear
    return lambda: linear(x, w), w.nbytes, x.nbytes + m * n * x.element_size()


def _input_major(m: int, n: int, k: int, dtype: str, bench: Workbench) -> Product:
    """Weights kept as w[k, n] and a bias, as transformers' Conv1D multiplies them."""
    x, w = bench.normal(m, k, dtype=dtype), bench.normal(k, n, dtype=dtype, scale=k**-0.5)
    bias = bench.normal(n, dtype=dtype)
    add = bench.torch.addmm
    return lambda: add(bias, x, w), w.nbytes, x.nbytes + m * n * x.element_size()


def _int8(m: int, n: int, k: int, dtype: str, bench: Workbench) -> Product:
    """8-bit weights and activations, summed in 32 bits. CUDA refuses 16 rows or fewer."""
    torch = bench.torch
    x = (bench.normal(m, k, dtype="fp32") * 30).clamp(-127, 127).to(torch.int8)
    w = (bench.normal(n, k, dtype="fp32") * 30).clamp(-127, 127).to(torch.int8).t()
    return lambda: torch._int_mm(x, w), w.nbytes, x.nbytes + 4.0 * m * n


def _fp8(m: int, n: int, k: int, dtype: str, bench: Workbench) -> Product:
    """e4m3 weights and activations with one scale each; the result is bf16."""
    torch = bench.torch
    x = bench.normal(m, k, dtype="bf16").to(torch.float8_e4m3fn)
    w = bench.normal(n, k, dtype="bf16").to(torch.float8_e4m3fn).t()
    one = torch.ones((), device=bench.device)

    def run() -> object:
        return torch._scaled_mm(x, w, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    return run, w.nbytes, x.nbytes + 2.0 * m * n


def _int4(m: int, n: int, k: int, dtype: str, bench: Workbench) -> Product:
    """4-bit weights in groups of 128, bf16 activations."""
    torch = bench.torch
    if k % INT4_GROUP:
        raise NotImplementedError(f"int4 weights: k = {k} is no multiple of {INT4_GROUP}")
    x = bench.normal(m, k, dtype="bf16")
    codes = torch.randint(0, 16, (n, k), device=bench.device, dtype=torch.int32)
    scales = bench.normal(k // INT4_GROUP, n, 2, dtype="bf16")
    ops = torch.ops.aten
    if bench.is_cpu:
        packed = ops._convert_weight_to_int4pack_for_cpu(codes, 1)
        multiply = ops._weight_int4pack_mm_for_cpu
    else:
        bytes_of_two = (codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8)
        packed = ops._convert_weight_to_int4pack(bytes_of_two, 8)
        multiply = ops._weight_int4pack_mm
    act_B = float(x.nbytes) + 2.0 * m * n
    return lambda: multiply(x, packed, INT4_GROUP, scales), packed.nbytes + scales.nbytes, act_B


PRODUCTS: dict[str, Callable[[int, int, int, str, Workbench], Product]] = {
    "fp32": _plain,
    "bf16": _plain,
    "fp16": _plain,
    "int8": _int8,
    "fp8": _fp8,
    "int4": _int4,
}
