"""State-space recurrence of Mamba-2: a prompt in chunks, and one step of decoding.

The prompt form is the chunked one: within a chunk a masked matrix product, between chunks the state
is carried on. The step updates the state of every sequence and reads it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from profilers.work import Work

if TYPE_CHECKING:
    from profilers.workbench import Workbench

CHUNK = 128


def ssm_step(case: Mapping[str, Any], bench: Workbench) -> Work:
    """state ← decay·state + x⊗b; y = state·c, for one token of each sequence."""
    batch, heads = int(case["batch"]), int(case["n_heads"])
    width, size = int(case["head_dim"]), int(case["state"])
    dtype, torch = str(case["dtype"]), bench.torch
    state = bench.normal(batch, heads, width, size, dtype="fp32")
    decay = torch.rand(batch, heads, 1, 1, device=bench.device)
    x = bench.normal(batch, heads, width, 1, dtype=dtype)
    b = bench.normal(batch, heads, 1, size, dtype=dtype)
    c = bench.normal(batch, heads, size, 1, dtype="fp32")

    def run() -> object:
        state.mul_(decay).add_(x * b)
        return torch.matmul(state, c)

    elements = float(batch * heads * width * size)
    return Work(run=run, flops=5.0 * elements, moved_B=2.0 * state.nbytes)


def ssm_scan(case: Mapping[str, Any], bench: Workbench) -> Work:
    """The whole prompt of each sequence, chunk by chunk."""
    batch, heads, length = int(case["batch"]), int(case["n_heads"]), int(case["q_len"])
    width, size, dtype = int(case["head_dim"]), int(case["state"]), str(case["dtype"])
    chunk = min(CHUNK, length)
    chunks = -(-length // chunk)
    shape = (batch, heads, chunks, chunk)
    x = bench.normal(*shape, width, dtype=dtype)
    b, c = bench.normal(*shape, size, dtype=dtype), bench.normal(*shape, size, dtype=dtype)
    log_decay = -bench.torch.rand(*shape, device=bench.device) * 0.1
    within = 2.0 * chunk * chunk * (size + width) + 4.0 * chunk * size * width
    return Work(
        run=lambda: chunked_scan(bench.torch, x, b, c, log_decay),
        flops=batch * heads * chunks * within,
        moved_B=2.0 * x.nbytes + b.nbytes + c.nbytes,
    )


def chunked_scan(torch: Any, x: Any, b: Any, c: Any, log_decay: Any) -> Any:
    """y[t] = Σ_{s≤t} exp(Σ_{s<r≤t} log_decay[r]) · (c[t]·b[s]) · x[s], in chunks.

    Shapes (batch, heads, chunks, chunk, ·); returns y in the shape of x.
    """
    total = log_decay.cumsum(dim=-1)
    reach = total.unsqueeze(-1) - total.unsqueeze(-2)
    mask = torch.ones(reach.shape[-2:], dtype=torch.bool, device=x.device).tril()
    weights = reach.masked_fill(~mask, float("-inf")).exp().to(x.dtype)
    y = (weights * (c @ b.transpose(-1, -2))) @ x
    to_end = (total[..., -1:] - total).exp().to(x.dtype).unsqueeze(-1)
    contributions = (x * to_end).transpose(-1, -2) @ b
    state = torch.zeros_like(contributions[:, :, 0])
    from_start = total.exp().to(x.dtype).unsqueeze(-1)
    for index in range(x.shape[2]):
        carried = c[:, :, index] @ state.transpose(-1, -2)
        y[:, :, index] += from_start[:, :, index] * carried
        decay = total[:, :, index, -1].exp().to(x.dtype)[..., None, None]
        state = state * decay + contributions[:, :, index]
    return y
