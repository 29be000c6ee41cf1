"""Embedding tables: never streamed; only the rows of the tokens at hand are fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analyzer.offload_counts import Streams
from analyzer.offload_schedule import Event
from analyzer.offload_shapes import TensorShape, units
from profilers.offload.files import Extent, read_exact
from profilers.offload.host import as_bytes
from profilers.offload.lanes import Ticket
from profilers.offload.spec import ModelSpec
from profilers.offload.state import Flow
from profilers.offload.weights import WeightStore

if TYPE_CHECKING:
    import torch

    from profilers.offload.block import Block


def look_up(
    spec: ModelSpec,
    fetched: Mapping[str, torch.Tensor],
    weights: Mapping[tuple[str, int], torch.Tensor],
    positions: torch.Tensor,
) -> torch.Tensor:
    """Embeddings of the new tokens (rows, t, hidden), with learned positions where there are."""
    x = fetched["embed"] if "embed" in fetched else weights["embed", -1][fetched["ids"]]
    if not spec.dims.positions:
        return x
    if "positions" in fetched:
        return x + fetched["positions"]
    return x + weights["positions", -1][positions + spec.position_offset]


class Tables:
    """Fetches table rows from CPU or disk; token ids go up when the table is on the GPU."""

    def __init__(self, weights: WeightStore) -> None:
        self.weights = weights
        plan = weights.plan
        found = {t.role: t for t in units(plan.dims)[0] if t.kind == "table"}
        self.away = {role: t for role, t in found.items() if plan.homes[t.key] != 0}
        self.resident = [role for role in found if role not in self.away]

    def submit(
        self, block: Block, event: Event, flow: Flow, waits: list[Ticket], moved: Streams
    ) -> None:
        """Issue the jobs that fill `flow.looked_up`."""
        fetched: dict[str, torch.Tensor] = {}
        if any(isinstance(self.weights.tables[role], Extent) for role in self.away):
            size = moved["gather", "disk_read"]

            def fetch() -> int:
                fetched.update(self._read(block, event, on_disk=True))
                return sum(values.nbytes for values in fetched.values())

            read = block.submit("gather", "disk_read", event, fetch, waits, size)
            waits = [*waits, read]
        if self.away:

            def bring() -> int:
                rows = {**fetched, **self._read(block, event, on_disk=False)}
                device = self.weights.device
                for role, values in rows.items():
                    flow.looked_up[role] = values.to(device, non_blocking=True)
                block.hand_over(*flow.looked_up.values())
                return sum(values.nbytes for values in rows.values())

            block.submit("gather", "h2d", event, bring, waits, moved["gather", "h2d"])
        if "embed" in self.resident:

            def send_ids() -> int:
                ids = block.step_ids(event).to(self.weights.device)
                flow.looked_up["ids"] = ids
                block.hand_over(ids)
                return ids.nbytes

            block.submit("tokens", "h2d", event, send_ids, waits, moved["tokens", "h2d"])

    def _read(self, block: Block, event: Event, on_disk: bool) -> dict[str, torch.Tensor]:
        """Rows of every table on disk, or of every table on the CPU."""
        asked = {"embed": block.step_ids(event), "positions": block.host_positions(event)}
        rows = {}
        for role, tensor in self.away.items():
            table = self.weights.tables[role]
            if isinstance(table, Extent) != on_disk:
                continue
            if isinstance(table, Extent):
                rows[role] = self._read_rows(table, tensor, asked[role])
            else:
                rows[role] = table[asked[role]]
        return rows

    def _read_rows(self, table: Extent, tensor: TensorShape, ids: torch.Tensor) -> torch.Tensor:
        import torch

        width = tensor.shape[1]
        out = torch.empty((*ids.shape, width), dtype=self.weights.dtype)
        flat = as_bytes(out).view(ids.numel(), -1)
        for n, row in enumerate(ids.flatten().tolist()):
            read_exact(table, flat[n], row * flat.shape[1])
        return out
