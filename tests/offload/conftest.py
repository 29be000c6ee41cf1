from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from .oracle import make_model, reference

Checkpoints = Callable[[str], Path]
References = Callable[..., torch.Tensor]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """Family → folder with its tiny checkpoint, made once."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            make_model(family, made[family])
        return made[family]

    return get


@pytest.fixture(scope="session")
def expected(checkpoint: Checkpoints) -> References:
    """What transformers generates for a family, computed once per case."""
    known: dict[tuple[object, ...], torch.Tensor] = {}

    def get(family: str, rows: int, weight_bits: int = 16, kv_bits: int = 16) -> torch.Tensor:
        case = (family, rows, weight_bits, kv_bits)
        if case not in known:
            known[case] = reference(checkpoint(family), rows, weight_bits, kv_bits)
        return known[case]

    return get
