"""Names, aliases and suffixes of the catalog, and how little loading one model reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from analyzer import models_catalog
from analyzer.errors import ConfigError
from analyzer.hf.registry import ALIASES, READERS
from analyzer.models_catalog import NAMES, entry, load, names, normalised, resolve, spellings
from analyzer.precision import lookup


def test_holds_at_least_150_models_with_sources() -> None:
    entries = [entry(name) for name in names()]
    assert len(entries) >= 150
    assert all(one.source and one.hub_id.count("/") == 1 for one in entries)


def test_index_of_spellings_is_in_step_with_the_entries() -> None:
    assert msgspec.json.decode(NAMES.read_bytes()) == spellings()


@pytest.mark.parametrize("name", names())
def test_every_spelling_leads_to_its_model(name: str) -> None:
    given = entry(name)
    for spelling in (name, name.upper(), given.hub_id, given.hub_id.upper(), *given.aliases):
        assert resolve(spelling) == (name, None), spelling
    model = load(given.hub_id)
    assert model.name == name
    assert lookup(model.native_weights).bits > 0


@pytest.mark.parametrize(
    ("spelling", "name", "weights"),
    [
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b", "fp8"),
        ("TheBloke/Llama-2-7B-GPTQ", "llama-2-7b", "int4-gptq"),
        ("nvidia/DeepSeek-R1-NVFP4", "deepseek-r1", "nvfp4"),
        ("IlyasMoutawwakil/vicuna-7b-v1.5-awq-gemm", "llama-2-7b", "int4-awq-g128"),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8", "qwen3-235b-a22b", "fp8-block"),
        ("qwen3-235b-a22b-fp8", "qwen3-235b-a22b", "fp8-block"),
        ("nvidia/Qwen3-235B-A22B-FP8", "qwen3-235b-a22b", "fp8"),
        ("RedHatAI/Qwen3-32B-FP8-dynamic", "qwen3-32b", "fp8"),
        ("Kimi-K2 NVFP4", "kimi-k2", "nvfp4"),
        ("Llama2-70B", "llama-2-70b", None),
        ("qwen2.5_7b_instruct", "qwen2.5-7b", None),
        ("openai/gpt-oss-120b", "gpt-oss-120b", None),
        ("nvidia/gpt-20b", "nvidia-gpt-20b", None),
        ("facebook/opt-175b", "opt-175b", None),
        ("THUDM/glm-4-9b", "glm-4-9b", None),
        ("unsloth/Qwen3-30B-A3B-GGUF", "qwen3-30b-a3b", None),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "llama-3.1-8b", "int8"),
        ("nvidia/DeepSeek-R1-FP4-v2", "deepseek-r1", "nvfp4"),
        ("llama3.3:70b", "llama-3.3-70b", None),
        ("qwen3:30b-a3b", "qwen3-30b-a3b", None),
    ],
)
def test_spellings_found_in_the_wild(spelling: str, name: str, weights: str | None) -> None:
    assert resolve(spelling) == (name, weights)
    if weights is not None:
        assert load(spelling).native_weights == weights


@pytest.mark.parametrize(
    "spelling",
    ["llama-9b", "Mistral-7B-v0.4", "gpt-4", "../secrets", "qwen", "opt", "-instruct", ""],
)
def test_unknown_names_are_errors_and_never_another_model(spelling: str) -> None:
    assert resolve(spelling) is None
    with pytest.raises(ConfigError):
        load(spelling)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'lama-3-70b' \(did you mean llama-3-70b"):
        load("lama-3-70b")


def test_suffix_rules_never_shadow_an_entry() -> None:
    """What a rule would strip a name to is the same architecture, or the name is its own."""
    for name in names():
        assert normalised(name) == name
        assert resolve(name) == (name, None)


def test_loading_one_model_reads_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    models_catalog._named.cache_clear()
    load("llama-3-8b")
    assert read == ["llama-3-8b.json"]


def test_every_entry_states_what_is_known_of_its_size() -> None:
    for name in names():
        given = entry(name)
        assert (given.parameters_published is None) == (given.published_digits is None)


def test_every_reader_exists() -> None:
    from analyzer.hf.registry import reader

    assert all(callable(reader(kind)) for kind in READERS)
    assert set(ALIASES.values()) <= set(READERS)


def test_entries_are_strict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bad: dict[str, Any] = {"hub_id": "a/b", "source": "", "config": {}, "colour": "red"}
    (tmp_path / "x.json").write_bytes(msgspec.json.encode(bad))
    monkeypatch.setattr(models_catalog, "FOLDER", tmp_path)
    with pytest.raises(msgspec.ValidationError, match="colour"):
        entry("x")
