"""What stays in a device's memory: weights, activations while a step runs, logits.

In: a model, a layout, and the layers of the pipeline stage. Out: bytes per device; arrays where the
layout or the lengths are. Cached keys, values and states are in `cache`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from analyzer.counting.alike import Same, counted, layers_of, stored, stored_of
from analyzer.counting.context import Layout, Segment, Step
from analyzer.counting.embedding import projections
from analyzer.counting.layers import count_layer, layer_operators
from analyzer.counting.numeric import larger, pick
from analyzer.counting.work import Work, survey
from analyzer.model import Layer, Model
from analyzer.optable import Number, Op

_EVERYTHING = Step((Segment(1e18, 1.0, 1.0),))
"""A step of so many tokens that it touches every expert."""
_LOGIT_B = 4.0
_LIVE = frozenset({"gemm", "grouped_gemm", "attention", "scan"})


def weights_B(
    model: Model,
    layout: Layout,
    layers: slice | None = None,
    with_embedding: bool = True,
    with_head: bool = True,
    with_prediction: bool = False,
) -> Number:
    """Weights that one device of the stage keeps.

    They are what a step reads that touches everything, but for tables, of which a step reads rows;
    layers whose weights are another's, stored once; and a head tied to an embedding beside it.
    `with_prediction` adds the multi-token-prediction layers. Active adapters are included.
    """
    start, stop = (None, None) if layers is None else (layers.start, layers.stop)
    varies = any(isinstance(value, np.ndarray) for value in layout)
    count = _weights_B if varies else _remembered_B
    return count(Same(model), layout, start, stop, with_embedding, with_head, with_prediction)


def _weights_B(
    key: Same,
    layout: Layout,
    start: int | None,
    stop: int | None,
    with_embedding: bool,
    with_head: bool,
    with_prediction: bool,
) -> Number:
    model: Model = key.value
    layers = slice(start, stop)
    work = survey(model, _EVERYTHING, layout)
    held, every = stored_of(model, layers), layers_of(model, layers)
    if with_prediction:
        more = (*model.layers[layers], *model.prediction_layers)
        held, every = stored(more), counted(more)
    total = sum(_layer_B(work, layer, times) for layer, times in held)
    for layer, times in every:
        if layer.weights_shared:
            total = total + times * _sum_B(projections(work, layer.linears, "layer"))
    if with_embedding:
        total = total + _tables_B(work) + _sum_B(projections(work, model.linears, "model"))
    if with_head:
        total = total + _head_B(work, matrix=not (model.tied_embeddings and with_embedding))
    return total


_remembered_B = lru_cache(maxsize=512)(_weights_B)
"""A model's weights under one plan are asked for again and again."""


def _layer_B(work: Work, layer: Layer, times: int) -> Number:
    extra_B = layer.extra_params * work.wide_B
    return times * (_sum_B(layer_operators(work, layer)) + extra_B)


def _sum_B(ops: list[Op]) -> Number:
    return sum((op.weight_B for op in ops), start=0.0)


def _tables_B(work: Work) -> Number:
    """Token embedding and other tables, cut over the local ranks, and positions, whole on each."""
    model, value_B = work.model, work.layout.embedding_B
    rows = model.vocab * float(model.embedding_dim or model.hidden)
    rows += sum(float(table.rows) * table.width for table in model.tables)
    whole = model.learned_positions * float(model.hidden)
    return (rows / work.local + whole) * value_B + model.extra_params * work.wide_B


def _head_B(work: Work, matrix: bool) -> Number:
    model = work.model
    columns = model.vocab / work.local
    width = float(model.embedding_dim or model.hidden) if matrix else 0.0
    bias = columns if model.lm_head_bias else 0.0
    wide = bias + model.final_norm_params
    layout = work.layout
    value_B = layout.embedding_B if layout.head_B is None else layout.head_B
    return columns * width * value_B + wide * work.wide_B


def activations_B(model: Model, step: Step, layout: Layout, layers: slice | None = None) -> Number:
    """Largest activations of a step: the residual stream, and what goes into and comes out of the
    hungriest operator of fused kernels."""
    work = survey(model, step, layout._replace(fused=True))
    stream_B = work.tokens * work.hidden * work.act_B * float(model.residual_streams)
    peak: Number = 0.0
    for layer, _ in layers_of(model, layers):
        for op in count_layer(work, layer):
            if op.kind in _LIVE or op.name.endswith(".act"):
                peak = larger(peak, op.act_B)
    return stream_B + peak


def logits_B(model: Model, step: Step, layout: Layout) -> Number:
    """Logits of a step as computed and once more in fp32 for sampling, gathered on every rank."""
    work = survey(model, step, layout)
    copies_B = work.act_B + pick(work.act_B < _LOGIT_B, _LOGIT_B, 0.0)
    return work.logit_rows * model.vocab * copies_B
