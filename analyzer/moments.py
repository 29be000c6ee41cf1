"""When an engine that frees between its stages is fullest: loading, reading, or answering.

Each moment is what a device of one pipeline stage holds then. A scenario's peak is the largest of
them, which moment that is depends on lengths, batch and format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from analyzer.counting import steps
from analyzer.counting.context import Step
from analyzer.counting.footprint import activations_B, logits_B, weights_B
from analyzer.holdings import Holding
from analyzer.memory_parts import Memory, Stage, cache_of, on_device
from analyzer.model import Attention, MoE
from analyzer.workload import Workload

FP32_B = 4.0
HIDDEN_KEPT = 3.0
"""Hidden states beside the stream: a model's embeddings, its layer's input, the normed input."""
GGML_STREAMS = 4.0
"""Streams of fp32 beside ggml's scores: the residual, the normed input, the queries, the sum."""


def moments(stage: Stage, load: Workload, held: Holding, workspace_B: float) -> Iterator[Memory]:
    """What the stage's device holds at each moment that can be its fullest."""
    base = _resident(stage, load, held, workspace_B)
    yield from _loading(stage, base, load, held)
    yield from _ggml(stage, base, load) if held.buffers else _reading(stage, base, load, held)
    if not held.buffers:
        yield _answering(stage, base, load, held)


def _resident(stage: Stage, load: Workload, held: Holding, workspace_B: float) -> Memory:
    """Weights, tables and rooms that stay; no cache yet."""
    laid = stage.laid
    with_table = stage.first and not held.table_on_host
    whole_B = weights_B(laid.model, laid.layout, stage.layers, with_table, stage.last)
    rooms_B = _tables_B(stage, held) + _scratch_B(stage, held)
    rooms_B += workspace_B if held.workspace else 0.0
    none = 0.0 * np.asarray(load.batch, dtype=np.float64)
    return Memory(whole_B * on_device(stage)[0], none, none, none, none, none, rooms_B, 0.0)


def _tables_B(stage: Stage, held: Holding) -> float:
    """Sines and cosines of every position, in each layer that turns its keys."""
    model = stage.laid.model
    if not held.rotary_tables or model.architecture in held.tableless:
        return 0.0
    turned = (layer.mixer for layer in model.layers[stage.layers])
    dims = sum(kind.head_dim for kind in turned if isinstance(kind, Attention) and kind.rope)
    positions = model.positions or model.max_context or 0.0
    return 2.0 * positions * dims * float(stage.laid.layout.act_B)


def _scratch_B(stage: Stage, held: Holding) -> float:
    """Room for the largest matrix in 16 bits, and for an fp32 product with the widest."""
    if not held.scratch or not stage.laid.plan.weights.startswith("int4-gptq"):
        return 0.0
    model = stage.laid.model
    widths = [width for layer in model.layers[stage.layers] for width in _widths(layer)]
    widest = float(max(widths, default=0))
    return 2.0 * widest * model.hidden + FP32_B * held.scratch_tokens * widest


def _widths(layer: Any) -> Iterator[int]:
    """Output columns of a layer's matrices, each of which reads the hidden state or makes it."""
    if layer.ffn is not None:
        yield layer.ffn.width
    if isinstance(layer.ffn, MoE):
        yield layer.ffn.shared_width
    if isinstance(layer.mixer, Attention):
        yield layer.mixer.heads * layer.mixer.head_dim


def _kept(stage: Stage, load: Workload, tokens: Any) -> Memory:
    """The cache of all sequences at that length, and nothing else."""
    sequences = load.batch / (stage.laid.plan.dp * stage.laid.plan.attention_dp)
    each = cache_of(stage, load, tokens)
    return Memory(0.0, sequences * each.kv_B, sequences * each.state_B, 0.0, 0.0, 0.0, 0.0, 0.0)


def _with(base: Memory, *more: Memory, **parts: Any) -> Memory:
    """The sum of several holdings, and further parts."""
    summed = [sum(values) for values in zip(base, *more, strict=True)]
    found = Memory(*summed)
    return found._replace(**{name: getattr(found, name) + value for name, value in parts.items()})


def _from_start(stage: Stage, load: Workload, held: Holding) -> tuple[Memory, ...]:
    """The cache where it is set aside before the first prompt."""
    return (_kept(stage, load, load.output_tokens),) if held.cache_for == "answer" else ()


def _loading(stage: Stage, base: Memory, load: Workload, held: Holding) -> Iterator[Memory]:
    laid, cache = stage.laid, _from_start(stage, load, held)
    if held.joins and laid.model.architecture not in JOINED:
        mixers = (layer.mixer for layer in laid.model.layers[stage.layers])
        columns = sum(
            kind.head_dim * (kind.heads + 2 * kind.kv_heads)
            for kind in mixers
            if isinstance(kind, Attention)
        )
        yield _with(base, *cache, copies_B=columns * laid.model.hidden * laid.layout.weight_B)
    separate = laid.model.tied_embeddings and laid.model.architecture not in HEADLESS
    if held.loads_head and separate and stage.last and "awq" in laid.plan.weights:
        head = laid.model.vocab * float(laid.model.embedding_dim or laid.model.hidden)
        yield _with(base, copies_B=head * laid.layout.embedding_B)
    if held.warm_up_B:
        yield _with(base, *cache, activations_B=held.warm_up_B)


JOINED = ("mpt", "falcon")
"""Architectures whose checkpoints hold query, key and value as one matrix."""
HEADLESS = ("mpt",)
"""Architectures whose code multiplies by the embedding's table instead of a head."""


def _reading(stage: Stage, base: Memory, load: Workload, held: Holding) -> Iterator[Memory]:
    """The prompt: in its hungriest layer, then in the head."""
    laid, batch = stage.laid, load.batch / stage.laid.plan.dp
    fresh = load.input_tokens - load.cached_tokens
    step = steps.prefill(batch, fresh, load.cached_tokens)
    full = _from_start(stage, load, held) or (_kept(stage, load, load.input_tokens),)
    fused = laid.layout._replace(flash=True)  # scores are counted apart
    stream_B = batch * fresh * laid.model.hidden * laid.layout.act_B
    active_B = activations_B(laid.model, step, fused, stage.layers)
    scores_B = held.score_B * _heads(stage) * batch * fresh * load.input_tokens
    kept_B = HIDDEN_KEPT * stream_B + _turns_B(stage) * fresh if held.eager else 0.0
    yield _with(base, *full, activations_B=active_B + kept_B + scores_B)
    if stage.last:
        rows = fresh if held.prompt_logits else 1.0
        head = Step((step.segments[0]._replace(logits=rows),))
        wide_B = logits_B(laid.model, head, laid.layout)
        yield _with(base, *full, activations_B=HIDDEN_KEPT * stream_B, logits_B=wide_B)
    elif stage.first and held.prompt_logits:
        # Whoever calls a model that is spread over devices gets its result on the first of them.
        moved_B = FP32_B * batch * fresh * laid.model.vocab
        yield _with(base, *full, logits_B=moved_B)


def _turns_B(stage: Stage) -> float:
    """Sine, cosine and number of one position, of which all sequences share one copy."""
    mixers = (layer.mixer for layer in stage.laid.model.layers[stage.layers])
    turned = [kind.head_dim for kind in mixers if isinstance(kind, Attention) and kind.rope]
    return 2.0 * max(turned) * float(stage.laid.layout.act_B) + 8.0 if turned else 0.0


def _heads(stage: Stage) -> float:
    layers = stage.laid.model.layers[stage.layers]
    mixers = [layer.mixer for layer in layers if isinstance(layer.mixer, Attention)]
    return max((mixer.heads / float(stage.laid.layout.tp) for mixer in mixers), default=0.0)


def _answering(stage: Stage, base: Memory, load: Workload, held: Holding) -> Memory:
    """The last token: the cache at its longest, and what is copied to append to it."""
    laid = stage.laid
    sequences = load.batch / laid.plan.dp * np.asarray(load.beams, dtype=np.float64)
    length = load.input_tokens + load.output_tokens
    step = steps.decode(sequences, length)
    fused = laid.layout._replace(flash=True)
    full = _from_start(stage, load, held) or (_kept(stage, load, length),)
    shares = {"": 0.0, "tensor": 0.5 / len(laid.model.layers[stage.layers]), "whole": 1.0}
    return _with(
        base,
        *full,
        activations_B=activations_B(laid.model, step, fused, stage.layers),
        logits_B=logits_B(laid.model, step, laid.layout) if stage.last else 0.0,
        copies_B=shares[held.cache_copy] * full[0].kv_B,
    )


def _ggml(stage: Stage, base: Memory, load: Workload) -> Iterator[Memory]:
    """llama.cpp sets cache and buffers aside at its start, for its longest step."""
    laid, batch = stage.laid, load.batch / stage.laid.plan.dp
    length = load.input_tokens + load.output_tokens
    cells = batch * length
    # Its longest step takes as many tokens as it may, whatever the prompts.
    tokens = cells if laid.plan.chunk_tokens is None else np.minimum(cells, laid.plan.chunk_tokens)
    stream_B = FP32_B * tokens * laid.model.hidden
    scores_B = FP32_B * tokens * cells * (_heads(stage) + 1.0)
    full = _kept(stage, load, length)
    yield _with(base, full, activations_B=GGML_STREAMS * stream_B + scores_B)
    if stage.last:
        wide_B = FP32_B * tokens * laid.model.vocab
        yield _with(base, full, activations_B=stream_B, logits_B=wide_B)
