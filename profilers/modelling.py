"""Transformers models built from a configuration, with random weights, on any device.

Weights are normal, as trained ones nearly are; norms are close to one. Nothing is downloaded and no
code of a repository is run.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from analyzer.errors import ConfigError
from profilers.workbench import fill_normal

if TYPE_CHECKING:
    from profilers.workbench import Workbench

WEIGHT_SCALE = 0.02
PROFILE_VOCAB = 1024


def _transformers() -> Any:
    import transformers

    return transformers


def make_config(config: dict[str, Any], attention: str = "sdpa") -> Any:
    """The configuration object of transformers, without special tokens that could stop a run."""
    transformers = _transformers()
    transformers.logging.set_verbosity_error()
    values = {key: value for key, value in config.items() if key != "transformers_version"}
    kind = str(values.pop("model_type"))
    values.pop("auto_map", None)
    values.pop("quantization_config", None)
    try:
        made = transformers.AutoConfig.for_model(kind, **values)
    except ValueError as error:
        raise ConfigError(f"transformers does not know model_type {kind!r}: {error}") from None
    text = made.get_text_config(decoder=True)
    _tame_special_tokens(text)
    text._attn_implementation = attention
    return text


def _tame_special_tokens(config: Any) -> None:
    """Our loops stop by count alone; an id must only lie within the vocabulary."""
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(config, name, None) is not None:
            setattr(config, name, 0)


def build_model(config: Any, dtype: str, bench: Workbench) -> Any:
    """A causal language model with random weights in `dtype`, ready for inference."""
    from transformers.initialization import no_init_weights

    transformers = _transformers()

    def made(attention: str) -> Any:
        with warnings.catch_warnings(), no_init_weights(), bench.device:
            warnings.simplefilter("ignore")
            return transformers.AutoModelForCausalLM.from_config(
                config, dtype=bench.dtype(dtype), attn_implementation=attention
            )

    try:
        model = made(config._attn_implementation)
    except ValueError as error:
        if "attention implementation" not in str(error):
            raise
        model = made("eager")  # this architecture has no other; the record says which was used
    model.eval()
    fill_weights(model)
    model.tie_weights()
    return model


def attention_of(model: Any) -> str:
    """The attention implementation that a model really uses."""
    return str(model.config._attn_implementation)


def fill_weights(model: Any) -> None:
    """Normal values everywhere; vectors of norms stay near one so that signals neither die nor
    explode, and recurrences keep the decays that their formulas give them."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and "norm" in name.lower():
            fill_normal(parameter.data, WEIGHT_SCALE).add_(1.0)
        elif name.endswith("A_log"):
            parameter.data.fill_(0.5)
        else:
            fill_normal(parameter.data, WEIGHT_SCALE)


def parameter_B(model: Any) -> float:
    """Bytes of all parameters and buffers, shared ones once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return float(sum(storages.values()))


def shortened(config: Any) -> Any:
    """The same architecture with as few layers as show every kind once, and a small vocabulary."""
    short = type(config).from_dict(config.to_dict())
    full = int(short.num_hidden_layers)
    kinds = list(getattr(short, "layer_types", None) or [])
    keep = 1 + max((kinds.index(kind) for kind in set(kinds)), default=0)
    keep = max(keep, 1 + int(getattr(short, "first_k_dense_replace", 0) or 0))
    keep = min(keep, full)
    for key, value in list(short.to_dict().items()):
        if isinstance(value, list) and len(value) == full:
            setattr(short, key, value[:keep])
    short.num_hidden_layers = keep
    short.vocab_size = min(int(short.vocab_size), PROFILE_VOCAB)
    _tame_special_tokens(short)
    short._attn_implementation = config._attn_implementation
    return short


def decoder_layers(model: Any) -> list[tuple[str, Any]]:
    """(kind, module) of the first layer of each kind, in order."""
    import torch

    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    count = int(model.config.num_hidden_layers)
    layers = next((stack for stack in stacks if len(stack) == count), None)
    if layers is None:
        raise ConfigError(f"{type(model).__name__}: found no stack of {count} decoder layers")
    kinds = list(getattr(model.config, "layer_types", None) or ["layer"] * count)
    named: dict[str, Any] = {}
    for kind, layer in zip(kinds, layers, strict=True):
        has_experts = any("expert" in name for name, _ in layer.named_modules())
        named.setdefault(f"{kind}, experts" if has_experts else str(kind), layer)
    return list(named.items())


def token_ids(bench: Workbench, batch: int, length: int, vocab: int) -> Any:
    """Random prompts, the same for the same seed."""
    generator = bench.torch.Generator().manual_seed(1)
    return bench.torch.randint(0, vocab, (batch, length), generator=generator).to(bench.device)
