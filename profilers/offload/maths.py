"""The arithmetic of a decoder layer, as plain functions of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError, nearest

if TYPE_CHECKING:
    import torch

    from profilers.offload.spec import ModelSpec

    Weights = Mapping[tuple[str, int], torch.Tensor]  # (role, expert) → tensor


def activation(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The MLP's non-linearity by its Hugging Face name."""
    import torch
    from torch.nn import functional

    known: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "silu": functional.silu,
        "relu": functional.relu,
        "gelu": functional.gelu,
        "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
        "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "tanh": torch.tanh,
    }
    if name not in known:
        raise ConfigError(f"activation {name!r} is not supported{nearest(name, known)}")
    return known[name]


def norm(spec: ModelSpec, x: torch.Tensor, weights: Weights, role: str) -> torch.Tensor:
    """RMS or layer normalisation, in fp32 as the reference does."""
    from torch.nn import functional

    weight = weights[role, -1]
    if spec.layer_norm:
        bias = weights.get((f"{role}_bias", -1))
        return functional.layer_norm(x, weight.shape, weight, bias, spec.eps)
    wide = x.float()
    scaled = wide * (wide.square().mean(-1, keepdim=True) + spec.eps).rsqrt()
    return weight * scaled.to(x.dtype)


def linear(x: torch.Tensor, weights: Weights, role: str, expert: int = -1) -> torch.Tensor:
    """x Wᵀ + b."""
    from torch.nn import functional

    return functional.linear(x, weights[role, expert], weights.get((f"{role}_bias", expert)))


def project(
    spec: ModelSpec, x: torch.Tensor, weights: Weights, positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries (rows, heads, t, d) and keys with values (2, rows, kv_heads, t, d) of new tokens."""
    import torch

    dims = spec.dims
    rows, t = x.shape[:2]
    x = norm(spec, x, weights, "attn_norm")
    q = linear(x, weights, "q").view(rows, t, dims.heads, dims.head_dim)
    k = linear(x, weights, "k").view(rows, t, dims.kv_heads, dims.head_dim)
    v = linear(x, weights, "v").view(rows, t, dims.kv_heads, dims.head_dim)
    if dims.qk_norm:
        q = norm(spec, q, weights, "q_norm")
        k = norm(spec, k, weights, "k_norm")
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    if spec.inverse_frequencies:
        cos, sin = _rotation(spec, positions, x.dtype)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
    return q, torch.stack([k, v])


def _rotation(
    spec: ModelSpec, positions: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    inverse = torch.tensor(spec.inverse_frequencies, device=positions.device)
    angles = positions[:, None, :, None].float() * inverse
    angles = torch.cat([angles, angles], -1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    import torch

    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


def finish(
    spec: ModelSpec, x: torch.Tensor, attended: torch.Tensor, weights: Weights
) -> torch.Tensor:
    """Output projection and MLP with their residuals."""
    x = x + linear(attended, weights, "o")
    h = norm(spec, x, weights, "mlp_norm")
    return x + (mixture(spec, h, weights) if spec.dims.experts else mlp(spec, h, weights))


def mlp(spec: ModelSpec, h: torch.Tensor, weights: Weights, expert: int = -1) -> torch.Tensor:
    """The feed-forward network, of one expert or of the layer."""
    act = activation(spec.activation)
    up = linear(h, weights, "up", expert)
    inner = act(linear(h, weights, "gate", expert)) * up if spec.dims.gated else act(up)
    return linear(inner, weights, "down", expert)


def mixture(spec: ModelSpec, h: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Each token through its best experts, weighted by the router."""
    import torch
    from torch.nn import functional

    flat = h.reshape(-1, h.shape[-1])
    odds = functional.softmax(functional.linear(flat, weights["router", -1]).float(), -1)
    best, chosen = odds.topk(spec.dims.experts_per_token, -1)
    if spec.normalise_experts:
        best = best / best.sum(-1, keepdim=True)
    out = torch.zeros_like(flat)
    for expert in range(spec.dims.experts):
        token, place = torch.where(chosen == expert)
        if token.numel():
            part = mlp(spec, flat[token], weights, expert)
            out.index_add_(0, token, part * best[token, place, None].to(part.dtype))
    return out.view_as(h)


def visible(valid: torch.Tensor, start: int, queries: int, window: int) -> torch.Tensor:
    """Mask (rows, 1, queries, keys): which keys the queries at start.. may see.

    `valid` is (rows, keys). A query always sees itself, so that padding never becomes NaN.
    """
    import torch

    keys = torch.arange(valid.shape[1], device=valid.device)
    asks = torch.arange(start, start + queries, device=valid.device)[:, None]
    causal = keys <= asks
    if window:
        causal = causal & (keys > asks - window)
    return ((causal & valid[:, None, :]) | (keys == asks))[:, None]


def attend(q: torch.Tensor, kv: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention with query groups folded into rows; returns (rows, t, heads * d).

    Folding reads each key once per group instead of once per head, on any device. Many queries
    go through the fused kernel, which never holds the whole score matrix.
    """
    from torch.nn import functional

    rows, heads, t, d = q.shape
    k, v = kv[0], kv[1]
    group = heads // k.shape[1]
    if t > 1:
        k, v = (part.repeat_interleave(group, 1) if group > 1 else part for part in (k, v))
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).reshape(rows, t, heads * d)
    folded = q.reshape(rows, k.shape[1], group, d)
    scores = (folded @ k.transpose(-1, -2)).float() * d**-0.5
    scores = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    attended: torch.Tensor = scores.to(v.dtype) @ v
    return attended.reshape(rows, 1, heads * d)
