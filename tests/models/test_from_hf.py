"""Reading configurations: every source, every kind of mistake, precision, multimodal wrappers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from analyzer import models_catalog
from analyzer.errors import ConfigError
from analyzer.model import Attention, CompressedAttention, GatedDelta, Model, MoE

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}


def test_a_dict_a_file_a_folder_and_a_name_are_read(tmp_path: Path) -> None:
    file = tmp_path / "tiny" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps({**LLAMA, "time_step_limit": [0.0, float("inf")]}))
    from_dict = Model.from_hf(LLAMA)
    assert Model.from_hf(file).layers == from_dict.layers
    assert Model.from_hf(str(file.parent)).name == "tiny"
    assert Model.from_hf("llama-3-8b").hidden == 4096


def test_keys_that_shape_nothing_are_allowed() -> None:
    assert Model.from_hf({**LLAMA, "rope_theta": 1e6, "anything": {"at": "all"}}).hidden == 64


@pytest.mark.parametrize(
    "key",
    [
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    ],
)
def test_a_missing_essential_key_is_named(key: str) -> None:
    config = {name: value for name, value in LLAMA.items() if name != key}
    with pytest.raises(ConfigError, match=f"missing key '{key}'"):
        Model.from_hf(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "wide"}, "'hidden_size' must be a positive whole number, not 'wide'"),
        ({"hidden_size": 0}, "'hidden_size' must be a positive whole number"),
        ({"num_hidden_layers": True}, "'num_hidden_layers' must be a positive whole number"),
        ({"num_hidden_layers": 2.5}, "'num_hidden_layers' must be a positive whole number"),
        ({"attention_bias": "yes"}, "'attention_bias' must be true or false"),
        ({"num_key_value_heads": 3}, "'num_attention_heads' 4 is no multiple of"),
        ({"hidden_size": 66}, "'hidden_size' 66 is no multiple of 'num_attention_heads' 4"),
        ({"model_type": "lama"}, r"unknown architecture 'lama' \(did you mean llama"),
    ],
)
def test_a_wrong_value_is_one_clear_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Model.from_hf({**LLAMA, **change})
    assert "\n" not in str(caught.value)


def test_layer_lists_must_fit_the_number_of_layers() -> None:
    config = {**LLAMA, "model_type": "gemma2", "sliding_window": 16, "head_dim": 16}
    config["layer_types"] = ["full_attention"] * 3
    with pytest.raises(ConfigError, match="'layer_types' has 3 entries, but there are 2 layers"):
        Model.from_hf(config)
    config["layer_types"] = ["full_attention", "slidding_attention"]
    with pytest.raises(ConfigError, match="did you mean sliding_attention"):
        Model.from_hf(config)


def test_more_experts_visited_than_there_are_is_refused() -> None:
    config = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 5}
    with pytest.raises(ConfigError, match="does not go with"):
        Model.from_hf(config)


def test_a_broken_file_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with pytest.raises(ConfigError, match="no such file"):
        Model.from_hf(file)
    file.write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        Model.from_hf(file)
    file.write_text("[]")
    with pytest.raises(ConfigError, match="must hold one JSON object"):
        Model.from_hf(file)


def test_a_quantisation_file_beside_the_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    quantization = {"quantization": {"quant_algo": "NVFP4"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quantization))
    assert Model.from_hf(tmp_path).native_weights == "nvfp4"


def test_a_hub_id_without_the_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="pip install huggingface_hub"):
        Model.from_hf("someone/some-model")


def test_a_hub_id_without_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def refuse(*args: Any, **how: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    monkeypatch.setattr(models_catalog, "_hub_answers", lambda: True)
    with pytest.raises(ConfigError, match="could not be fetched: no route to host"):
        Model.from_hf("someone/some-model")


def test_the_hub_is_not_waited_for_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[bool] = []

    def without(repo: str, name: str, local_files_only: bool) -> str:
        asked.append(local_files_only)
        raise OSError("not in the cache")

    def nobody(*address: Any, **how: Any) -> None:
        raise OSError("refused")

    monkeypatch.setattr(hub, "hf_hub_download", without)
    monkeypatch.setattr(models_catalog.socket, "create_connection", nobody)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    models_catalog._hub_answers.cache_clear()
    for model in ("someone/some-model", "someone/another-model"):
        with pytest.raises(ConfigError, match="could not be fetched: no network"):
            Model.from_hf(model)
    models_catalog._hub_answers.cache_clear()
    assert asked == [True, True]


def test_a_hub_id_outside_the_catalog_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA))
    monkeypatch.setattr(hub, "hf_hub_download", lambda repo, name, **how: str(file))
    monkeypatch.setattr(models_catalog, "_hub_answers", lambda: True)
    assert Model.from_hf("someone/some-model").name == "someone/some-model"


def test_multimodal_configurations_are_read_by_their_text_part() -> None:
    wrapped = {
        "model_type": "qwen2_vl",
        "tie_word_embeddings": True,
        "text_config": {**LLAMA, "model_type": "qwen2"},
        "vision_config": {"hidden_size": 9999},
    }
    model = Model.from_hf(wrapped)
    assert model.hidden == 64
    assert model.tied_embeddings
    untyped = {**LLAMA}
    del untyped["model_type"]
    assert Model.from_hf({"model_type": "mistral3", "text_config": untyped}).hidden == 64


@pytest.mark.parametrize(
    ("quantization", "weights"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4-awq-g128"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, "int4-awq-g64"),
        ({"quant_method": "gptq", "bits": 4}, "int4-gptq"),
        ({"quant_method": "gptq", "bits": 8}, "int8-gptq"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-nf4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_algo": "FP8"}, "fp8"),
    ],
)
def test_quantised_releases_keep_their_format(quantization: dict[str, Any], weights: str) -> None:
    assert Model.from_hf({**LLAMA, "quantization_config": quantization}).native_weights == weights


def test_an_unknown_quantisation_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown quant_method 'awk' \(did you mean awq"):
        Model.from_hf({**LLAMA, "quantization_config": {"quant_method": "awk"}})


def test_releases_that_quantise_experts_only_say_so() -> None:
    kimi = Model.from_hf("kimi-k2.5")
    assert (kimi.native_weights, kimi.native_dense_weights) == ("int4-g32", "bf16")
    v4 = Model.from_hf("deepseek-v4-flash")
    assert (v4.native_weights, v4.native_dense_weights) == ("mxfp4", "fp8-block")
    oss = Model.from_hf("gpt-oss-20b")
    assert (oss.native_weights, oss.native_dense_weights) == ("mxfp4", "bf16")
    assert Model.from_hf("deepseek-v3").native_dense_weights is None


@pytest.mark.parametrize(("dtype", "weights"), [("float16", "fp16"), ("bfloat16", "bf16")])
def test_the_dtype_is_the_native_format(dtype: str, weights: str) -> None:
    assert Model.from_hf({**LLAMA, "torch_dtype": dtype}).native_weights == weights
    assert Model.from_hf({**LLAMA, "dtype": f"torch.{dtype}"}).native_weights == weights


def _attentions(name: str) -> list[Attention]:
    return [one.mixer for one in Model.from_hf(name).layers if isinstance(one.mixer, Attention)]


def test_window_patterns() -> None:
    spans = [mixer.window for mixer in _attentions("gemma-3-27b")]
    assert spans[:6] == [1024] * 5 + [None]
    assert [mixer.window for mixer in _attentions("gpt-oss-20b")][:2] == [128, None]
    assert {mixer.window for mixer in _attentions("mistral-7b-v0.1")} == {4096}
    assert {mixer.window for mixer in _attentions("mistral-7b-v0.3")} == {None}
    llama4 = _attentions("llama-4-scout")
    assert [mixer.chunked for mixer in llama4[:4]] == [True, True, True, False]


def test_hybrids_keep_their_order() -> None:
    kinds = [type(layer.mixer) for layer in Model.from_hf("qwen3-next-80b-a3b").layers]
    assert kinds[:4] == [GatedDelta, GatedDelta, GatedDelta, Attention]
    jamba = _attentions("jamba-v0.1")
    assert len(jamba) == 4


def test_sparse_attention_layers() -> None:
    v4 = Model.from_hf("deepseek-v4-pro")
    ratios = [one.mixer.ratio for one in v4.layers if isinstance(one.mixer, CompressedAttention)]
    assert len(ratios) == 61
    assert set(ratios) == {4, 128}
    assert v4.residual_streams == 4
    assert sum(isinstance(one.ffn, MoE) and one.ffn.hashed for one in v4.layers) == 3
    shared = Model.from_hf("glm-5.3").layers
    reused = [one.mixer.indexer.reused for one in shared if getattr(one.mixer, "indexer", None)]
    assert len(reused) == 78
    assert any(reused)


def test_models_are_values() -> None:
    one, other = Model.from_hf(LLAMA), Model.from_hf(dict(LLAMA))
    assert one == other
    assert hash(one.layers[0]) == hash(other.layers[0])
    assert one.layer_groups() == {one.layers[0]: 2}
