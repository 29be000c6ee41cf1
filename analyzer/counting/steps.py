"""The steps that serving is made of. Lengths count tokens per sequence; all may be arrays."""

from __future__ import annotations

from analyzer.counting.context import Segment, Step
from analyzer.optable import Number


def prefill(batch: Number, tokens: Number, past: Number = 0.0) -> Step:
    """`tokens` prompt tokens of `batch` sequences, after `past` cached ones; one logit row each."""
    return Step((Segment(batch, tokens, past),))


def decode(batch: Number, context: Number) -> Step:
    """One new token of `batch` sequences that hold `context` tokens each."""
    return Step((Segment(batch, 1.0, context),))


def mixed(
    chunk: Number,
    chunk_past: Number,
    decodes: Number,
    context: Number,
    completes: Number = 0.0,
    chunks: Number = 1.0,
) -> Step:
    """Chunked prefill: `chunks` pieces of `chunk` prompt tokens beside `decodes` decodes.

    `completes` is the share of the chunks that end their prompt and so need a logit row.
    """
    piece = Segment(chunks, chunk, chunk_past, logits=completes)
    return Step((piece, Segment(decodes, 1.0, context)))


def verify(
    batch: Number, context: Number, tokens: Number, pairs_within: Number | None = None
) -> Step:
    """Check `tokens` new positions per sequence at once (proposals and the last accepted token).

    A chain by default; a tree gives its query-key pairs (see `tree_pairs`).
    """
    return Step((Segment(batch, tokens, context, pairs_within=pairs_within, logits=tokens),))


def tree_pairs(widths: tuple[int, ...]) -> float:
    """Query-key pairs of a tree with `widths[d]` nodes at depth d: each sees its ancestors."""
    return float(sum((depth + 1) * width for depth, width in enumerate(widths)))


def beams(batch: Number, width: Number, prompt: Number, generated: Number) -> Step:
    """One token of `width` beams for each of `batch` prompts, which beams share in the cache."""
    segment = Segment(batch * width, 1.0, prompt + generated, sharing=width, shared_past=prompt)
    return Step((segment,))
