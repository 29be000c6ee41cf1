"""Which layers look back over a window only: the rules by which families say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analyzer.hf.common import layer_count, layer_kinds
from analyzer.hf.fields import Fields

Windows = Sequence[int | None]
WindowRule = Callable[[Fields], Windows]

SLIDING = "sliding_attention"
FULL = "full_attention"


def nowhere(cfg: Fields) -> Windows:
    """Full attention in every layer."""
    return (None,) * layer_count(cfg)


def everywhere(cfg: Fields) -> Windows:
    """`sliding_window` in every layer where it is set (Mistral 0.1, Phi-3)."""
    return (cfg.optional_size("sliding_window"),) * layer_count(cfg)


def by_layer_types(cfg: Fields, default: Sequence[str]) -> Windows:
    """`sliding_window` in the layers that `layer_types`, or the family's pattern, names."""
    kinds = layer_kinds(cfg, default)
    table = {SLIDING: True, "chunked_attention": True, FULL: False, "attention": False}
    slides = [cfg.choice("layer_types", table, kind) for kind in kinds]
    if not any(slides):
        return nowhere(cfg)
    window = cfg.size("sliding_window", "sliding_window_size")
    return tuple(window if slide else None for slide in slides)


def every_nth_full(period: int, *period_keys: str) -> WindowRule:
    """Each `period`-th layer full and the others windowed; the period may be a key's."""

    def rule(cfg: Fields) -> Windows:
        nth = cfg.size(*period_keys, default=period) if period_keys else period
        layers = range(1, layer_count(cfg) + 1)
        return by_layer_types(cfg, [SLIDING if layer % nth else FULL for layer in layers])

    return rule


def typed_or_full(cfg: Fields) -> Windows:
    """What `layer_types` says; full attention where it is absent."""
    return by_layer_types(cfg, [FULL] * layer_count(cfg))


def typed_or_windowed(cfg: Fields) -> Windows:
    """What `layer_types` says; a set `sliding_window` everywhere where it is absent."""
    return typed_or_full(cfg) if cfg.has("layer_types") else everywhere(cfg)


def qwen(cfg: Fields) -> Windows:
    """Qwen2/3: windows only with `use_sliding_window`, and from `max_window_layers` on."""
    if not cfg.flag("use_sliding_window", default=False) or not cfg.has("sliding_window"):
        return nowhere(cfg)
    first = cfg.count("max_window_layers", default=28)
    kinds = [SLIDING if layer >= first else FULL for layer in range(layer_count(cfg))]
    return by_layer_types(cfg, kinds)
