"""Where weights come from: a safetensors checkpoint read in place, or random numbers."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from analyzer.errors import DataError
from analyzer.offload_shapes import TensorShape
from profilers.offload.files import Extent, read_exact
from profilers.offload.spec import ModelSpec

if TYPE_CHECKING:
    import torch

INDEX = "model.safetensors.index.json"
MAX_HEADER_B = 100_000_000
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
POOL = 1 << 20


class WeightSource(Protocol):
    """What the engine needs of a place that weights come from."""

    def load(self, tensor: TensorShape, dtype: torch.dtype) -> torch.Tensor:
        """The tensor's values in host memory."""

    def in_place(self, tensor: TensorShape, dtype: torch.dtype) -> Extent | None:
        """Where the values lie on disk exactly as they are needed, or None."""

    def close(self) -> None:
        """Let go of files."""


class Checkpoint:
    """The safetensors files of a folder; only headers are read until a tensor is asked for."""

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        self.folder, self.spec = folder, spec
        self._fds: list[int] = []
        self._found: dict[str, tuple[Extent, str, tuple[int, ...]]] = {}
        try:
            for path in _shards(folder):
                self._open(path)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"{self.folder}: shard {path.name} is missing (named in {INDEX})")
        fd = os.open(path, os.O_RDONLY)
        self._fds.append(fd)
        start, header = _header(fd, path)
        size = os.fstat(fd).st_size
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            if start + last > size:
                raise DataError(
                    f"{path} is truncated: tensor {name} ends at byte {start + last}, "
                    f"the file has {size}"
                )
            extent = Extent(fd, start + first, last - first, str(path))
            self._found[name] = (extent, entry["dtype"], tuple(entry["shape"]))

    def _find(self, tensor: TensorShape) -> tuple[Extent, str]:
        name = self.spec.checkpoint_name(tensor)
        names = (name, name.removeprefix("model."), f"model.{name}")
        hit = next((known for known in names if known in self._found), None)
        if hit is None:
            raise DataError(f"{self.folder}: the checkpoint has no tensor {name}")
        extent, dtype, shape = self._found[hit]
        if shape != tensor.shape:
            raise DataError(
                f"{extent.name}: tensor {hit} has shape {list(shape)}, "
                f"config.json asks for {list(tensor.shape)}"
            )
        if dtype not in DTYPES:
            raise DataError(f"{extent.name}: tensor {hit} has dtype {dtype}, not a plain float")
        return extent, dtype

    def load(self, tensor: TensorShape, dtype: torch.dtype) -> torch.Tensor:
        """The tensor's values in host memory, converted to `dtype`."""
        import torch

        extent, stored = self._find(tensor)
        raw = torch.empty(extent.size_B, dtype=torch.uint8)
        read_exact(extent, raw)
        return raw.view(getattr(torch, DTYPES[stored])).view(tensor.shape).to(dtype)

    def in_place(self, tensor: TensorShape, dtype: torch.dtype) -> Extent | None:
        """The bytes in the checkpoint itself, when they already have the right type."""
        extent, stored = self._find(tensor)
        return extent if str(dtype) == f"torch.{DTYPES[stored]}" else None

    def close(self) -> None:
        """Close the shards."""
        while self._fds:
            os.close(self._fds.pop())


def _shards(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.is_file():
        try:
            names = json.loads(index.read_text())["weight_map"].values()
        except (ValueError, KeyError) as error:
            raise DataError(f"{index} is not a safetensors index: {error}") from error
        return [folder / name for name in sorted(set(names))]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise DataError(
            f"{folder} holds no .safetensors file; ask for random weights to run without one"
        )
    return found


def _header(fd: int, path: Path) -> tuple[int, dict[str, Any]]:
    prefix = os.pread(fd, 8, 0)
    length = int.from_bytes(prefix, "little")
    body = os.pread(fd, length, 8) if len(prefix) == 8 and length <= MAX_HEADER_B else b""
    if len(prefix) < 8 or len(body) < length or length > MAX_HEADER_B:
        raise DataError(f"{path} is truncated or not a safetensors file: its header does not fit")
    try:
        header = json.loads(body)
    except ValueError as error:
        raise DataError(f"{path} has a broken safetensors header: {error}") from error
    return 8 + length, header


class RandomWeights:
    """Reproducible numbers that depend on the tensor alone; quick enough for 100 GB of them."""

    def __init__(self, spec: ModelSpec, seed: int = 0, scale: float = 0.02) -> None:
        import torch

        self.spec, self.scale = spec, scale
        generator = torch.Generator().manual_seed(seed)
        self._pool = torch.randn(POOL, generator=generator) * scale

    def load(self, tensor: TensorShape, dtype: torch.dtype) -> torch.Tensor:
        """Ones for normalisation weights, otherwise the pool from a tensor-specific offset."""
        import torch

        if tensor.kind == "vector" and "norm" in tensor.role and "bias" not in tensor.role:
            return torch.ones(tensor.shape, dtype=dtype)
        turn = zlib.crc32(self.spec.checkpoint_name(tensor).encode()) % POOL
        pool = self._pool.roll(turn).to(dtype)
        # A prime-length period keeps rows of power-of-two width from repeating.
        pool = pool[: POOL - 3]
        repeats = -(-tensor.numel // pool.numel())
        return pool.repeat(repeats)[: tensor.numel].view(tensor.shape)

    def in_place(self, tensor: TensorShape, dtype: torch.dtype) -> Extent | None:
        """Nothing is on disk yet."""
        return None

    def close(self) -> None:
        """Nothing is open."""
