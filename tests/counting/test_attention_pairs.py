"""Query-key pairs and keys read, against counting them one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.counting import Layout, Segment, Step, count, steps
from analyzer.counting.attention import block_pairs, keys_read, visible
from analyzer.counting.compressed import _seen
from analyzer.model import Attention, CompressedAttention

from .models import MODELS, PACKED, model

NEW, PAST = st.integers(1, 90), st.integers(0, 120)
SIZES = st.integers(1, 60)


def by_hand(new: int, past: int, sees: Callable[[int, int], bool]) -> tuple[int, int]:
    """Pairs, and keys that any query sees."""
    pairs, keys = 0, set()
    for query in range(past, past + new):
        seen = {key for key in range(query + 1) if sees(query, key)}
        pairs += len(seen)
        keys |= seen
    return pairs, len(keys)


@given(new=NEW, past=PAST)
def test_causal(new: int, past: int) -> None:
    assert visible(Segment(1.0, new, past), None) == by_hand(new, past, lambda q, k: True)


@given(new=NEW, past=PAST, window=SIZES)
def test_window(new: int, past: int, window: int) -> None:
    counted = visible(Segment(1.0, new, past), window)
    assert counted == by_hand(new, past, lambda q, k: k > q - window)


@given(new=NEW, past=PAST, block=SIZES)
def test_blocks(new: int, past: int, block: int) -> None:
    counted = block_pairs(Segment(1.0, new, past), float(block))
    assert counted == by_hand(new, past, lambda q, k: k // block == q // block)


@given(
    new=NEW, past=PAST, ratio=st.integers(1, 9), top_k=st.integers(1, 20), window=st.integers(1, 40)
)
def test_compressed_entries(new: int, past: int, ratio: int, top_k: int, window: int) -> None:
    """A query at position p sees the entries of windows that ended by p, at most `top_k`."""
    indexer = PACKED.indexer
    assert indexer is not None
    kind = CompressedAttention(
        heads=1,
        head_dim=1,
        rope_dim=1,
        q_lora_rank=1,
        o_groups=1,
        o_rank=1,
        window=window,
        ratio=ratio,
        indexer=type(indexer)(heads=1, head_dim=1, top_k=top_k),
    )
    seen = _seen(kind, Segment(1.0, float(new), float(past)))
    finished = [(query + 1) // ratio for query in range(past, past + new)]
    assert seen.scored == sum(finished)
    assert seen.packed == sum(min(top_k, entries) for entries in finished)
    assert seen.finished == finished[-1]


@given(depth=st.integers(1, 4), width=st.integers(1, 4), past=PAST)
def test_tree(depth: int, width: int, past: int) -> None:
    """A node of a tree sees its ancestors, itself and all cached keys."""
    widths = tuple(width**level for level in range(depth))
    new = sum(widths)
    within = sum((level + 1) * nodes for level, nodes in enumerate(widths))
    assert steps.tree_pairs(widths) == within
    (segment,) = steps.verify(1, past, new, steps.tree_pairs(widths)).segments
    assert visible(segment, None) == (past * new + within, past + new)
    wide, _ = visible(segment, past + new + 1)
    assert wide == pytest.approx(past * new + within)


@given(
    width=st.integers(1, 8),
    prompts=st.integers(1, 5),
    prompt=st.integers(1, 100),
    generated=st.integers(0, 60),
    window=st.one_of(st.none(), st.integers(1, 150)),
)
def test_beams_read_shared_keys_once(
    width: int, prompts: int, prompt: int, generated: int, window: int | None
) -> None:
    (segment,) = steps.beams(prompts, width, prompt, generated).segments
    _, reach = visible(segment, window)
    context = prompt + generated + 1
    first = 0 if window is None else max(context - window, 0)
    shared = len(range(first, prompt))
    own = len(range(max(first, prompt), context))
    assert keys_read(segment, reach) == pytest.approx(prompts * (shared + width * own))


@pytest.mark.parametrize("window", [None, 24])
def test_beams_cost_less_than_strangers(window: int | None) -> None:
    gqa = model((_attention(window), None))
    beams = count(gqa, steps.beams(2, 4, 100, 10), Layout())
    strangers = count(gqa, steps.decode(8, 110), Layout())
    row = [name.endswith("core") for name in beams.names].index(True)
    assert beams.flops[row] == strangers.flops[row]
    expected = (2 * (100 + 4 * 11)) / (8 * 111) if window is None else None
    saved = beams.kv_B[row] / strangers.kv_B[row]
    assert saved == pytest.approx(expected) if expected else saved < 1


def _attention(window: int | None) -> Attention:
    return Attention(heads=8, kv_heads=4, head_dim=16, window=window)


@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_chunks_add_up(cuts: list[int]) -> None:
    """However a prompt is cut into chunks, its queries see the same keys."""
    for name in ("dense", "local", "blocks", "picked", "packed"):
        whole = _core(name, Step((Segment(1.0, float(sum(cuts)), 0.0),)))
        parts, past = 0.0, 0
        for cut in cuts:
            parts += _core(name, Step((Segment(1.0, float(cut), float(past)),)))
            past += cut
        assert parts == pytest.approx(whole, rel=1e-12)


def _core(name: str, step: Step) -> float:
    table = count(MODELS[name], step, Layout(absorb_mla=False))
    chosen = [kind == "attention" for kind in table.kinds]
    return float((table.flops * table.repeat)[chosen].sum())
