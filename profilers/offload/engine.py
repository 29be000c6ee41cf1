"""The engine: a model with its weights placed, ready to generate."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from analyzer.errors import CapacityError, ConfigError, DataError
from analyzer.offload_counts import BlockPlan, Streams, stream_bytes
from analyzer.offload_policy import TIERS, OffloadPolicy
from profilers.offload.block import Block, Request
from profilers.offload.checkpoint import Checkpoint, RandomWeights, WeightSource
from profilers.offload.files import Spill
from profilers.offload.host import HostMemory
from profilers.offload.lanes import Lanes, Ticket
from profilers.offload.memory import Memory
from profilers.offload.sampling import Sampling
from profilers.offload.spec import ModelSpec, read_spec
from profilers.offload.weights import WeightStore

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BlockRun:
    """What was done for one block: its plan, its timed jobs and the bytes it should have moved."""

    plan: BlockPlan
    tickets: list[Ticket]
    counted: Streams
    start_s: float
    end_s: float
    base: Any = None  # on CUDA, the event that times count from


@dataclass(frozen=True)
class Generated:
    """New tokens (sequences, at most max_new_tokens) and how each block ran."""

    tokens: torch.Tensor
    blocks: list[BlockRun] = field(default_factory=list)


def read_config(model: str | Path) -> tuple[dict[str, Any], Path]:
    """A model folder or a config.json → (config, folder)."""
    path = Path(model)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"no config.json at {path}: give a model folder or a config file")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} does not hold a JSON object")
    return config, path.parent


class OffloadEngine:
    """Generates with weights, KV and activations spread over GPU, CPU and disk.

    `model` is a folder with a safetensors checkpoint (or a config, with random weights). Use it
    as a context manager: leaving it ends the threads and gives back pinned memory and disk.
    `rates` emulates links: bytes/s of h2d, d2h, disk_read, disk_write and cpu, FLOP/s of gpu.
    """

    def __init__(
        self,
        model: str | Path | Mapping[str, Any],
        policy: OffloadPolicy,
        *,
        offload_dir: str | Path = "offload",
        device: str = "auto",
        dtype: str = "bfloat16",
        random_weights: bool = False,
        pin_weights: bool = True,
        seed: int = 0,
        rates: Mapping[str, float] | None = None,
        latency_s: float = 0.0,
    ) -> None:
        import torch

        if isinstance(model, Mapping):
            if not random_weights:
                raise ConfigError("a bare config has no weights: ask for random weights")
            config, folder = dict(model), None
        else:
            config, folder = read_config(model)
        self.spec: ModelSpec = read_spec(config)
        self.policy = policy
        self.device = _device(device)
        self.dtype = _dtype(dtype)
        self.offload_dir = Path(offload_dir)
        self.pinned = pin_weights and self.device.type == "cuda"
        self.lanes = Lanes(self.device, dict(rates or {}), latency_s)
        self._open: list[Any] = [self.lanes]
        try:
            source = self._source(folder, random_weights, seed)
            self.weights = self._place(source)
        except torch.OutOfMemoryError as error:
            self.close()
            raise self._too_large("the weights placed on it", error) from error
        except BaseException:
            self.close()
            raise
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _source(self, folder: Path | None, random_weights: bool, seed: int) -> WeightSource:
        source: WeightSource
        if random_weights or folder is None:
            source = RandomWeights(self.spec, seed)
        else:
            source = Checkpoint(folder, self.spec)
        self._open.append(source)
        return source

    def _place(self, source: WeightSource) -> WeightStore:
        import torch

        spill = Spill(self.offload_dir)
        self._open.append(spill)
        host = HostMemory(self.pinned)
        self._open.append(host)
        plan = self.plan(self.policy.block, 1)
        with torch.inference_mode():
            return WeightStore(plan, source, self.device, self.dtype, host, spill)

    def plan(self, rows: int, prompt_len: int) -> BlockPlan:
        """The plan of a block of `rows` sequences; everything countable follows from it."""
        return BlockPlan(self.spec.dims, self.policy, self.dtype.itemsize, rows, prompt_len)

    def realised_B(self) -> dict[str, int]:
        """Weight bytes that really lie on each tier."""
        return dict(zip(TIERS, self.plan(self.policy.block, 1).weight_B(), strict=True))

    def generate(
        self,
        ids: torch.Tensor | Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        attention_mask: torch.Tensor | None = None,
        sampling: Sampling | None = None,
        stop: Sequence[int] = (),
        pad: int | None = None,
    ) -> Generated:
        """Continue every prompt by up to `max_new_tokens` tokens.

        Prompts of unequal length may be given as lists; they are padded on the left. Sequences
        that met a stop token are filled with `pad`. Prompts beyond one block run block by block.
        """
        import torch

        pad = self.spec.pad if pad is None else pad
        prompts, valid = _pack(ids, attention_mask, pad)
        self._check(prompts, max_new_tokens)
        made, runs = [], []
        for start in range(0, prompts.shape[0], self.policy.block):
            rows = slice(start, start + self.policy.block)
            request = Request(
                prompts[rows],
                valid[rows],
                max_new_tokens,
                sampling or Sampling(),
                tuple(stop),
                pad,
            )
            tokens, run = self._block(request)
            made.append(tokens)
            runs.append(run)
        longest = max(tokens.shape[1] for tokens in made)
        padded = [
            torch.nn.functional.pad(tokens, (0, longest - tokens.shape[1]), value=pad)
            for tokens in made
        ]
        return Generated(torch.cat(padded), runs)

    def _check(self, prompts: torch.Tensor, steps: int) -> None:
        if steps < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, not {steps}")
        if prompts.numel() == 0:
            raise ConfigError("there is no prompt to continue")
        low, high = int(prompts.min()), int(prompts.max())
        if low < 0 or high >= self.spec.dims.vocab:
            raise ConfigError(
                f"token id {high if low >= 0 else low} lies outside the vocabulary "
                f"of {self.spec.dims.vocab}"
            )
        limit = self.spec.max_positions
        if self.spec.dims.positions and prompts.shape[1] + steps - 1 > limit:
            raise ConfigError(
                f"prompt and output need {prompts.shape[1] + steps - 1} positions, "
                f"the model has {limit}"
            )

    def _block(self, request: Request) -> tuple[torch.Tensor, BlockRun]:
        import torch

        plan = self.plan(*request.ids.shape)
        first = len(self.lanes.tickets)
        spill = Spill(self.offload_dir)
        memory = None
        try:
            with torch.inference_mode():
                memory = Memory(
                    plan, self.weights, request.valid, request.steps, spill, self.pinned
                )
                block = Block(self.spec, plan, self.weights, memory, self.lanes, request)
                base = self.lanes.base_mark()
                start = time.perf_counter()
                tokens = block.run()
                end = time.perf_counter()
        except torch.OutOfMemoryError as error:
            self.lanes.close()
            raise self._too_large("this block", error) from error
        except BaseException:
            self.lanes.close()  # nothing may still use the buffers that go now
            raise
        finally:
            if memory is not None:
                memory.host.close()
            spill.close()
        counted = stream_bytes(plan, block.events)
        return tokens, BlockRun(plan, self.lanes.tickets[first:], counted, start, end, base)

    def _too_large(self, what: str, error: Exception) -> CapacityError:
        reason = str(error).split(". ")[0]
        return CapacityError(
            f"{self.device} has no room for {what} ({reason}); put a smaller percent on the GPU "
            "or take a smaller --gpu-batch-size"
        )

    def close(self) -> None:
        """End threads, then give back memory and disk."""
        for part in self._open:
            part.close()
        self._open = []

    def __enter__(self) -> OffloadEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("no CUDA GPU is at hand; --device cpu runs the same schedule without one")
    return torch.device(name)


def _dtype(name: str) -> torch.dtype:
    import torch

    known = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if name not in known:
        raise ConfigError(f"dtype {name!r} is not one of {', '.join(known)}")
    return known[name]


def _pack(
    ids: torch.Tensor | Sequence[Sequence[int]], mask: torch.Tensor | None, pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts as (sequences, longest) with padding on the left, and which ids are real."""
    import torch

    if isinstance(ids, torch.Tensor):
        valid = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        if valid.shape != ids.shape:
            raise ConfigError("attention_mask and ids differ in shape")
        if not bool(valid[:, -1].all()) or bool((valid[:, :-1] & ~valid[:, 1:]).any()):
            raise ConfigError("prompts must be padded on the left")
        return ids.cpu(), valid.cpu()
    if not ids or not all(ids):
        raise ConfigError("every prompt needs at least one token")
    longest = max(len(prompt) for prompt in ids)
    rows = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in ids]
    real = [[False] * (longest - len(prompt)) + [True] * len(prompt) for prompt in ids]
    return torch.tensor(rows), torch.tensor(real)
