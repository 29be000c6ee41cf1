"""Models by name: the shipped catalog, configuration files, and the Hugging Face hub.

Each catalog entry is one small file, `catalog/models/<name>.json`, with the part of the released
`config.json` that shapes the model. `catalog/model_names.json` maps every further spelling (hub ids
and aliases) to a name, so that loading one model reads two files at most.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from analyzer.errors import ConfigError, nearest
from analyzer.hf import from_config
from analyzer.model import Model

FOLDER = Path(__file__).parent / "catalog" / "models"
NAMES = FOLDER.parent / "model_names.json"

QUANTIZED_SUFFIXES = {
    "-fp8-static-pertensor": "fp8",
    "-fp8-dynamic": "fp8",
    "-fp8-block": "fp8-block",
    "-fp8-kv": "fp8",
    "-fp8": "fp8",
    "-nvfp4a16": "nvfp4",
    "-nvfp4": "nvfp4",
    "-mxfp4-preview": "mxfp4",
    "-mxfp4": "mxfp4",
    "-fp4-v2": "nvfp4",
    "-fp4": "nvfp4",
    "-quantized.w8a8": "int8",
    "-quantized.w8a16": "int8-wo",
    "-quantized.w4a16": "int4-awq-g128",
    "-w8a8": "int8",
    "-w8a16": "int8-wo",
    "-w4a16": "int4-awq-g128",
    "-awq-int4": "int4-awq-g128",
    "-int4-awq": "int4-awq-g128",
    "-awq-4bit": "int4-awq-g128",
    "-awq-gemm": "int4-awq-g128",
    "-awq-gemv": "int4-awq-g128",
    "-awq": "int4-awq-g128",
    "-gptq-int4": "int4-gptq",
    "-gptq-4bit": "int4-gptq",
    "-gptq-int8": "int8-gptq",
    "-gptq-8bit": "int8-gptq",
    "-gptq": "int4-gptq",
    "-bnb-4bit": "bnb-nf4",
    "-bnb-8bit": "bnb-int8",
    "-int4": "int4",
    "-int8": "int8",
}
"""Endings that name the format of the weights and nothing of the architecture."""

BLOCK_RELEASES = ("qwen/qwen3", "zai-org/glm-5", "stepfun-ai/step-3.7")
"""Hub ids, by their beginning, whose publisher's own "-FP8" releases are quantised in blocks of
128 x 128: their `quantization_config` has a `weight_block_size`. Others' "-FP8" of the same models
have a scale per tensor or channel."""

HUB_PATIENCE_S = 3.0
"""How long the hub may take to accept a connection."""

TUNED_SUFFIXES = (
    "-hf",
    "-instruct",
    "-chat",
    "-it",
    "-base",
    "-bf16",
    "-fp16",
    "-gguf",
    "-unsloth",
)
"""Endings that name a fine-tune or a packaging of the same architecture."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the catalog."""

    hub_id: str
    """Repository that publishes the model."""
    source: str
    """Where the figures come from."""
    chat_positions: int | None = None
    """`max_position_embeddings` of the chat model, where it differs from the base model's."""
    config: dict[str, Any]
    """Keys of the released `config.json` that shape the model."""
    aliases: tuple[str, ...] = ()
    """Further names and hub ids of the same architecture and weight format."""
    parameters_published: float | None = None
    """Parameters as the publisher states them."""
    published_digits: int | None = None
    """Significant digits of that statement."""
    published_active: float | None = None
    """Parameters active per token as the publisher states them."""


def load(source: Mapping[str, object] | str | os.PathLike[str]) -> Model:
    """The model of a parsed configuration, a file or folder, a catalog name or a hub id."""
    if isinstance(source, Mapping):
        return from_config(source)
    text = os.fspath(source)
    path = Path(text)
    if path.suffix == ".json" or path.exists() or not isinstance(source, str):
        return from_config(*_read_file(path))
    found = resolve(text)
    if found is not None:
        return _named(*found, chat=normalised(text).find("-instruct") > 0)
    if text.count("/") == 1:
        return from_config(_download(text), text)
    raise ConfigError(f"unknown model {text!r}{nearest(text, [*names(), *_spellings()])}")


def names() -> list[str]:
    """Short names of all models in the catalog."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def entry(name: str) -> Entry:
    """The catalog's entry for a short name."""
    return msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=Entry)


def normalised(name: str) -> str:
    """Lower case without organisation; blanks and underscores as hyphens."""
    return name.strip().lower().rpartition("/")[2].replace("_", "-").replace(" ", "-")


def resolve(name: str) -> tuple[str, str | None] | None:
    """Short name and, where the spelling ends in one, weight format; None if there is no such."""
    key, weights, in_blocks = normalised(name), None, False
    if ":" in key and _known(key.replace(":", "-")):  # as Ollama writes them
        key = key.replace(":", "-")
    for ending, fmt in QUANTIZED_SUFFIXES.items():
        if _known(key) is None and key.endswith(ending):
            key, weights = key.removesuffix(ending), fmt
            in_blocks = ending == "-fp8"
    while _known(key) is None:
        ending = next((one for one in TUNED_SUFFIXES if key.endswith(one)), "")
        if not ending:
            return None
        key = key.removesuffix(ending)
    known = str(_known(key))
    if in_blocks and _released_in_blocks(entry(known).hub_id, name):
        weights = "fp8-block"
    return known, weights


def _released_in_blocks(hub_id: str, asked: str) -> bool:
    """Whether the publisher's own 8-bit release is meant, and is one in blocks."""
    publisher, named = hub_id.lower().partition("/")[0], asked.strip().lower().rpartition("/")[0]
    return hub_id.lower().startswith(BLOCK_RELEASES) and named in ("", publisher)


def spellings() -> dict[str, str]:
    """Every hub id and alias with the name it means, worked out from all entries anew.

    This is what `model_names.json` must hold.
    """
    found: dict[str, str] = {}
    for name in names():
        given = entry(name)
        for spelling in (given.hub_id, *given.aliases):
            key = normalised(spelling)
            if key != name and found.setdefault(key, name) != name:
                raise ConfigError(f"{spelling!r} stands for both {found[key]} and {name}")
    return dict(sorted(found.items()))


def _known(key: str) -> str | None:
    if not key or key.startswith("."):
        return None
    return key if (FOLDER / f"{key}.json").is_file() else _spellings().get(key)


@lru_cache(maxsize=1)
def _spellings() -> dict[str, str]:
    return msgspec.json.decode(NAMES.read_bytes(), type=dict[str, str])


@lru_cache(maxsize=64)
def _named(name: str, weights: str | None, chat: bool) -> Model:
    given = entry(name)
    model = from_config(given.config, name)
    if chat and given.chat_positions is not None:
        model = msgspec.structs.replace(model, positions=given.chat_positions)
    if weights is None:
        return model
    return msgspec.structs.replace(model, native_weights=weights, native_dense_weights=None)


def _read_file(path: Path) -> tuple[dict[str, Any], str]:
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    config = _json_object(file)
    beside = file.parent / "hf_quant_config.json"
    if file.name == "config.json" and beside.is_file() and "quantization_config" not in config:
        config["quantization_config"] = {"quant_method": "modelopt", **_json_object(beside)}
    return config, str(file.parent.name if file.name == "config.json" else file.stem)


def _json_object(file: Path) -> dict[str, Any]:
    try:
        # Python's own reader: released files hold bare Infinity, which is not JSON.
        parsed = json.loads(file.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise ConfigError(f"{file}: must hold one JSON object")
    return parsed


def _download(hub_id: str) -> dict[str, Any]:
    """`config.json` of a hub id that the catalog lacks."""
    hint = nearest(hub_id.rpartition("/")[2], [*names(), *_spellings()])
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ConfigError(
            f"model {hub_id!r} is not in the catalog{hint}, and to fetch its config.json "
            "needs `pip install huggingface_hub`"
        ) from None
    refused = f"model {hub_id!r} is not in the catalog{hint}, and its config.json could not be "
    try:
        path = hf_hub_download(hub_id, "config.json", local_files_only=not _hub_answers())
    except (OSError, ValueError) as error:
        said = str(error).strip().splitlines()[0] if _hub_answers() else "no network"
        raise ConfigError(f"{refused}fetched: {said}") from None
    return _read_file(Path(path))[0]


@lru_cache(maxsize=1)
def _hub_answers() -> bool:
    """Whether the hub can be reached, asked once: its own client tries for half a minute per model,
    and a table names many models."""
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(name.lower() in ("https_proxy", "all_proxy") for name in os.environ):
        return True
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=HUB_PATIENCE_S).close()
    except OSError:
        return False
    return True
