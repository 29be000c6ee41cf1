"""Models of one architecture under several names: their word is one word."""

from __future__ import annotations

import msgspec

from analyzer.model import Model


def architecture(model: Model) -> Model:
    """What is counted of a model: DeepSeek-R1 and V3 are the same."""
    return msgspec.structs.replace(model, name="", max_context=None)
