"""Softmax attention: causal prefill, and decode of one query per sequence over a long cache.

`variant` chooses the implementation: `sdpa` lets torch choose, `flash` insists on FlashAttention,
`flex` compiles FlexAttention. Grouped queries share keys and values, as in served models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from profilers.work import Work

if TYPE_CHECKING:
    from profilers.workbench import Workbench


def attn_prefill(case: Mapping[str, Any], bench: Workbench) -> Work:
    """Causal attention of q_len queries over themselves; only the causal half is counted."""
    batch, length = int(case["batch"]), int(case["q_len"])
    query, key, value = _inputs(case, bench, batch, length, length)
    heads, width = int(case["n_heads"]), int(case["head_dim"])
    run = _attention(str(case["variant"]), query, key, value, causal=True, bench=bench)
    return Work(
        run=run,
        flops=4.0 * batch * heads * width * length * (length + 1) / 2,
        moved_B=2.0 * query.nbytes + key.nbytes + value.nbytes,
    )


def attn_decode(case: Mapping[str, Any], bench: Workbench) -> Work:
    """One query per sequence over kv_len cached keys."""
    batch, length = int(case["batch"]), int(case["kv_len"])
    query, key, value = _inputs(case, bench, batch, 1, length)
    heads, width = int(case["n_heads"]), int(case["head_dim"])
    run = _attention(str(case["variant"]), query, key, value, causal=False, bench=bench)
    return Work(
        run=run,
        flops=4.0 * batch * heads * width * length,
        moved_B=2.0 * query.nbytes + key.nbytes + value.nbytes,
    )


def _inputs(
    case: Mapping[str, Any], bench: Workbench, batch: int, queries: int, keys: int
) -> tuple[Any, Any, Any]:
    heads, kv_heads, width = int(case["n_heads"]), int(case["n_kv_heads"]), int(case["head_dim"])
    dtype = str(case["dtype"])
    return (
        bench.normal(batch, heads, queries, width, dtype=dtype),
        bench.normal(batch, kv_heads, keys, width, dtype=dtype),
        bench.normal(batch, kv_heads, keys, width, dtype=dtype),
    )


def _attention(
    variant: str, query: Any, key: Any, value: Any, causal: bool, bench: Workbench
) -> Callable[[], object]:
    grouped = query.shape[1] != key.shape[1]
    sdpa = bench.torch.nn.functional.scaled_dot_product_attention
    if variant == "flash":
        from torch.nn.attention import SDPBackend, sdpa_kernel

        def flash() -> object:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                return sdpa(query, key, value, is_causal=causal, enable_gqa=grouped)

        return flash
    if variant == "flex":
        return _flex(query, key, value, grouped, bench)
    return lambda: sdpa(query, key, value, is_causal=causal, enable_gqa=grouped)


def _flex(
    query: Any, key: Any, value: Any, grouped: bool, bench: Workbench
) -> Callable[[], object]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def causal(_batch: Any, _head: Any, at: Any, to: Any) -> Any:
        return at >= to

    length = query.shape[2]
    mask = create_block_mask(causal, None, None, length, length, device=bench.name)
    compiled = bench.torch.compile(flex_attention)
    return lambda: compiled(query, key, value, block_mask=mask, enable_gqa=grouped)
