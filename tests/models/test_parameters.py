"""Parameter counts against transformers on the meta device, and against published figures."""

from __future__ import annotations

import math

import pytest
from transformers import CONFIG_MAPPING

from analyzer.counting.parameters import count_parameters, layer_parameters
from analyzer.hf import from_config
from analyzer.hf.registry import READERS
from analyzer.models_catalog import entry, load, names
from tests.models import truth

BUILDABLE = [
    name
    for name in names()
    if truth.shape(entry(name).config)["model_type"] not in truth.IMPOSSIBLE
]
PUBLISHED = [name for name in names() if entry(name).parameters_published is not None]
ACTIVE = [name for name in names() if entry(name).published_active is not None]

NEEDED = {
    # Keys without which the defaults of transformers' own classes do not build a model.
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2},
    "deepseek_v2": {"num_experts_per_tok": 6, "moe_intermediate_size": 1408},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 8, "moe_topk": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "glm4_moe": {"head_dim": 128},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4}},
}


@pytest.mark.parametrize("name", BUILDABLE)
def test_equals_transformers(name: str) -> None:
    assert count_parameters(load(name)).total == truth.parameters(entry(name).config)


def test_covers_most_of_the_catalog_and_fifty_architectures() -> None:
    kinds = {truth.shape(entry(name).config)["model_type"] for name in BUILDABLE}
    assert len(kinds) >= 50
    assert len(BUILDABLE) >= 250
    assert len(names()) - len(BUILDABLE) <= len(truth.IMPOSSIBLE)


@pytest.mark.parametrize("kind", sorted(set(READERS) & set(CONFIG_MAPPING)))
def test_reads_what_transformers_writes(kind: str) -> None:
    """The defaults of a configuration class, as transformers itself would save them."""
    config = CONFIG_MAPPING[kind](**NEEDED.get(kind, {})).to_dict()
    config["model_type"] = kind
    expected = truth.parameters({"model_type": kind, **NEEDED.get(kind, {})})
    assert count_parameters(from_config(config, kind)).total == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_agrees_with_the_published_count(name: str) -> None:
    """Within what the rounding of the published figure allows.

    Publishers differ in whether multi-token-prediction layers are part of their figure.
    """
    given = entry(name)
    assert given.parameters_published is not None
    assert given.published_digits is not None
    count = count_parameters(load(name))
    rounding = _half_of_last_digit(given.parameters_published, given.published_digits)
    assert count.total - rounding <= given.parameters_published
    assert given.parameters_published <= count.total + count.prediction + rounding


@pytest.mark.parametrize("name", ACTIVE)
def test_agrees_with_the_published_active_count(name: str) -> None:
    """Publishers differ in whether embedding and head are part of what is active, and some cut
    the last digit off instead of rounding."""
    published = entry(name).published_active
    assert published is not None
    count = count_parameters(load(name))
    rounding = 2 * _half_of_last_digit(published, 2 if published >= 1e10 else 1)
    tables = count.embedding + max(count.head, count.embedding)
    assert count.active - tables - rounding <= published <= count.active + rounding


def _half_of_last_digit(value: float, digits: int) -> float:
    return 0.5 * 10.0 ** (math.floor(math.log10(value)) - digits + 1)


@pytest.mark.parametrize("name", names())
def test_components_add_up(name: str) -> None:
    model = load(name)
    count = count_parameters(model)
    layers = sum(
        layer_parameters(layer, model.hidden) for layer in model.layers if not layer.weights_shared
    )
    around = count.embedding + count.head + model.final_norm_params
    assert count.total >= layers + around
    assert 0 < count.active <= count.total
    assert count.embedding > 0
    assert (count.head > 0) == (not model.tied_embeddings or model.lm_head_bias)


def test_shared_weights_count_once() -> None:
    model = load("zamba2-7b")
    blocks = [layer for layer in model.layers if layer.linears]
    assert len(blocks) == 13
    assert sum(not layer.weights_shared for layer in blocks) == 2


def test_expected_exact_counts() -> None:
    """Figures that are quoted often, so that a change of the oracle would be noticed too."""
    known = {
        "llama-3-70b": 70_553_706_496,
        "mixtral-8x7b": 46_702_792_704,
        "deepseek-v3": 671_026_404_352,
        "qwen3-235b-a22b": 235_093_634_560,
        "qwen3-next-80b-a3b": 79_674_391_296,
        "jamba-v0.1": 51_570_323_328,
        "gpt-oss-120b": 116_829_156_672,
        "gemma-3-27b": 27_009_346_304,
    }
    assert {name: count_parameters(load(name)).total for name in known} == known
