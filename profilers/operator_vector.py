"""Operators that move more than they compute: norms, rotary embedding, activation, sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from profilers.work import Work

if TYPE_CHECKING:
    from profilers.workbench import Workbench

EPSILON = 1e-5
TOP_K = 50


def _rows(case: Mapping[str, Any], bench: Workbench) -> Any:
    return bench.normal(int(case["m"]), int(case["n"]), dtype=str(case["dtype"]))


def _rms_norm(case: Mapping[str, Any], bench: Workbench) -> Work:
    x = _rows(case, bench)
    weight = bench.normal(x.shape[1], dtype=str(case["dtype"]))
    norm = bench.torch.nn.functional.rms_norm
    return Work(run=lambda: norm(x, (x.shape[1],), weight, EPSILON), moved_B=2.0 * x.nbytes)


def _rms_norm_eager(case: Mapping[str, Any], bench: Workbench) -> Work:
    """As transformers writes it: upcast, square, mean, scale, downcast, weigh."""
    x = _rows(case, bench)
    weight = bench.normal(x.shape[1], dtype=str(case["dtype"]))
    torch = bench.torch

    def run() -> object:
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPSILON)
        return weight * wide.to(x.dtype)

    return Work(run=run, moved_B=2.0 * x.nbytes)


def _rope(case: Mapping[str, Any], bench: Workbench) -> Work:
    """Rotary embedding of all query heads, in the rotate-half form."""
    width, dtype = int(case["head_dim"]), str(case["dtype"])
    tokens, heads = int(case["m"]), int(case["n"]) // int(case["head_dim"])
    x = bench.normal(1, heads, tokens, width, dtype=dtype)
    cos, sin = bench.normal(tokens, width, dtype=dtype), bench.normal(tokens, width, dtype=dtype)
    torch = bench.torch

    def run() -> object:
        half = width // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return x * cos + turned * sin

    return Work(run=run, moved_B=2.0 * x.nbytes + cos.nbytes + sin.nbytes)


def _silu_mul(case: Mapping[str, Any], bench: Workbench) -> Work:
    gate, up = _rows(case, bench), _rows(case, bench)
    silu = bench.torch.nn.functional.silu
    return Work(run=lambda: silu(gate) * up, moved_B=3.0 * gate.nbytes)


def _residual_add(case: Mapping[str, Any], bench: Workbench) -> Work:
    x, y = _rows(case, bench), _rows(case, bench)
    return Work(run=lambda: x + y, moved_B=3.0 * x.nbytes)


def _softmax(case: Mapping[str, Any], bench: Workbench) -> Work:
    x = _rows(case, bench)
    return Work(run=lambda: bench.torch.softmax(x, dim=-1), moved_B=2.0 * x.nbytes)


def _argmax(case: Mapping[str, Any], bench: Workbench) -> Work:
    x = _rows(case, bench)
    return Work(run=lambda: x.argmax(dim=-1), moved_B=float(x.nbytes))


def _top_k_sampling(case: Mapping[str, Any], bench: Workbench) -> Work:
    """The 50 best of the vocabulary, softmax over them, one drawn."""
    x, torch = _rows(case, bench), bench.torch

    def run() -> object:
        values, places = x.topk(min(TOP_K, x.shape[1]), dim=-1)
        drawn = torch.multinomial(torch.softmax(values.float(), dim=-1), 1)
        return places.gather(-1, drawn)

    return Work(run=run, moved_B=float(x.nbytes))


def _embedding(case: Mapping[str, Any], bench: Workbench) -> Work:
    """Gathers m rows of a table of 32 768."""
    table = bench.normal(32768, int(case["n"]), dtype=str(case["dtype"]))
    rows = bench.torch.randint(0, 32768, (int(case["m"]),), device=bench.device)
    gather = bench.torch.nn.functional.embedding
    moved_B = 2.0 * int(case["m"]) * int(case["n"]) * table.element_size()
    return Work(run=lambda: gather(rows, table), moved_B=moved_B)


def _cache_concat(case: Mapping[str, Any], bench: Workbench) -> Work:
    """A dynamic cache's step: m cached rows and one new one copied to a longer tensor."""
    cached = _rows(case, bench)
    new = bench.normal(1, cached.shape[1], dtype=str(case["dtype"]))
    moved_B = 2.0 * (cached.nbytes + new.nbytes)
    return Work(run=lambda: bench.torch.cat((cached, new)), moved_B=moved_B)


VECTORS: dict[str, Callable[[Mapping[str, Any], Workbench], Work]] = {
    "rms_norm": _rms_norm,
    "rms_norm_eager": _rms_norm_eager,
    "rope": _rope,
    "silu_mul": _silu_mul,
    "residual_add": _residual_add,
    "softmax": _softmax,
    "argmax": _argmax,
    "top_k_sampling": _top_k_sampling,
    "embedding": _embedding,
    "cache_concat": _cache_concat,
}
