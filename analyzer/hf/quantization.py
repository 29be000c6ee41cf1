"""What `quantization_config` and `dtype` say about the format of the released weights."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.errors import ConfigError, nearest
from analyzer.hf.fields import Fields

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16"}
_DEFAULT = "bf16"


def native_weights(cfg: Fields) -> str:
    """Name of the weight format (see precision.py) that the model was released in."""
    if cfg.text("expert_dtype", default="") == "fp4":
        return "mxfp4"
    for key in ("quantization_config", "compression_config"):
        if cfg.has(key):
            return _quantized(cfg.child(key))
    dtype = cfg.text("dtype", "torch_dtype", default=_DEFAULT).removeprefix("torch.")
    return _DTYPES.get(dtype, _DEFAULT)


def native_dense_weights(cfg: Fields) -> str | None:
    """Format of all but the routed experts, where the release keeps it apart; else None."""
    if cfg.text("expert_dtype", default="") == "fp4" and cfg.has("quantization_config"):
        return _quantized(cfg.child("quantization_config"))
    quant = cfg.optional_child("quantization_config")
    skipped = {str(name) for name in quant.raw.get("modules_to_not_convert") or ()}
    skipped |= {str(name) for name in quant.raw.get("ignore") or ()}
    if any(("self_attn" in name and "*" in name) or name == "re:.*self_attn.*" for name in skipped):
        dtype = cfg.text("dtype", "torch_dtype", default=_DEFAULT).removeprefix("torch.")
        return _DTYPES.get(dtype, _DEFAULT)
    return None


def _quantized(quant: Fields) -> str:
    method = quant.text("quant_method", default="modelopt" if quant.has("quant_algo") else "")
    if method not in _METHODS:
        raise ConfigError(
            f"{quant.where}: unknown quant_method {method!r}{nearest(method, _METHODS)}"
        )
    return _METHODS[method](quant)


def _fp8(quant: Fields) -> str:
    return "fp8-block" if quant.has("weight_block_size") else "fp8"


def _awq(quant: Fields) -> str:
    group = quant.size("group_size", "q_group_size", default=128)
    return f"int4-awq-g{group}" if group in (64, 128) else "int4-awq"


def _gptq(quant: Fields) -> str:
    bits = quant.size("bits", default=4)
    names = {2: "int2", 4: "int4-gptq", 8: "int8-gptq"}
    if bits not in names:
        raise ConfigError(f"{quant.where}: 'bits' must be 2, 4 or 8, not {bits}")
    return names[bits]


def _bitsandbytes(quant: Fields) -> str:
    if quant.flag("load_in_8bit", "_load_in_8bit", default=False):
        return "bnb-int8"
    return "bnb-nf4-dq" if quant.flag("bnb_4bit_use_double_quant", default=False) else "bnb-nf4"


def _modelopt(quant: Fields) -> str:
    scope = quant if quant.has("quant_algo") else quant.optional_child("quantization")
    algorithm = scope.text("quant_algo", default="FP8").upper()
    names = {
        "FP8": "fp8",
        "FP8_PB_WO": "fp8-block",
        "NVFP4": "nvfp4",
        "W4A16_NVFP4": "nvfp4",
        "W4A16_AWQ": "int4-awq-g128",
        "W4A8_AWQ": "int4-awq-g128",
        "INT8_SQ": "int8",
        # Experts, which hold nearly all weights, are in NVFP4; attention stays in FP8.
        "MIXED_PRECISION": "nvfp4",
    }
    return scope.choice("quant_algo", names, algorithm)


def _compressed_tensors(quant: Fields) -> str:
    """The format of the first group: that of the linear layers (of the experts in an MoE)."""
    groups = quant.child("config_groups")
    first = next(iter(groups.raw), None)
    if first is None:
        raise ConfigError(f"{groups.where}: no group")
    weights = groups.child(first).child("weights")
    bits = weights.size("num_bits")
    kind = weights.text("type", default="int")
    group = weights.optional_size("group_size")
    if kind == "float":
        floats = {8: "fp8-block" if weights.has("block_structure") else "fp8", 4: "nvfp4"}
        if bits == 4 and group == 32:
            return "mxfp4"
        return floats.get(bits, "fp8")
    activations = groups.child(first).raw.get("input_activations")
    if bits == 8:
        return "int8" if activations else "int8-wo"
    return "int4-g32" if group == 32 else "int4-gptq"


_METHODS: dict[str, Callable[[Fields], str]] = {
    "fp8": _fp8,
    "fbgemm_fp8": lambda quant: "fp8",
    "finegrained_fp8": _fp8,
    "mxfp4": lambda quant: "mxfp4",
    "awq": _awq,
    "gptq": _gptq,
    "gptq_marlin": _gptq,
    "bitsandbytes": _bitsandbytes,
    "modelopt": _modelopt,
    "modelopt_fp4": lambda quant: "nvfp4",
    "compressed-tensors": _compressed_tensors,
}
