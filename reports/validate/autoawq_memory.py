"""What AutoAWQ with fused modules holds at its peak, as its source and its benchmark state it.

- The cache is set aside for as many tokens as are to be generated, and rolls over the prompt.
- While layers are fused, the projections of query, key and value stay beside their joined copy;
  later releases drop them one layer at a time, and some models come joined already. The limit
  is set at 0.2, the first release named in the data that can be later; the rows of Aquila, whose
  release is not stated, come out 6 % too large and suggest that it lies before.
- The benchmark warms up with a product of two fp32 matrices before it reads the prompt.
- Prompts are read with scores written out, and a softmax of them in fp32: the sum and both of the
  softmax's ends exist at once. Logits are computed for every position and once more in fp32.
"""

from __future__ import annotations

import msgspec

from analyzer.memory import WORKSPACE_B, Memory, memory
from analyzer.model import Attention, Model
from analyzer.resolve import Question

WARM_UP_B = 2 * 4096.0 * 4096.0 * 4.0
"""The matrix that is multiplied by itself, and the product."""
SCORE_B = 2.0 + 4.0 + 4.0
"""Bytes per score: in fp16, widened to fp32, and after the softmax."""
LOGIT_B = 2.0 + 4.0
JOINED = ("mpt", "falcon")
"""Architectures whose checkpoints hold query, key and value as one matrix."""


def early_peak_B(asked: Question) -> float:
    """Peak of the releases before 0.2, on all devices together."""
    return max(peak_B(asked), _resident_B(asked) + _copies_B(asked))


def peak_B(asked: Question) -> float:
    """Peak of a release that drops each layer's own projections once they are joined."""
    resident, load = _resident_B(asked), asked.workload
    model = asked.laid.model
    tokens = float(load.batch) * float(load.input_tokens)
    scores_B = SCORE_B * _heads(model) * tokens * float(load.input_tokens)
    reading = float(_held(asked).activations_B) + max(scores_B, LOGIT_B * tokens * model.vocab)
    return resident + max(WARM_UP_B, reading) + WORKSPACE_B


def _held(asked: Question) -> Memory:
    plan = msgspec.structs.replace(asked.plan, tp=1, pp=1, dp=1, ep=1)
    return memory(asked._replace(plan=plan).laid, asked.workload)


def _resident_B(asked: Question) -> float:
    """Weights, and a cache as long as the answer."""
    whole, load = _held(asked), asked.workload
    share = float(load.output_tokens) / (float(load.input_tokens) + float(load.output_tokens))
    return float(whole.weights_B) + float(whole.kv_B) * share


def _copies_B(asked: Question) -> float:
    model = asked.laid.model
    if model.architecture in JOINED:
        return 0.0
    values = sum(
        model.hidden * layer.mixer.head_dim * (layer.mixer.heads + 2 * layer.mixer.kv_heads)
        for layer in model.layers
        if isinstance(layer.mixer, Attention)
    )
    return values * float(asked.laid.layout.weight_B)


def _heads(model: Model) -> int:
    mixers = [layer.mixer for layer in model.layers if isinstance(layer.mixer, Attention)]
    return max((mixer.heads for mixer in mixers), default=0)
