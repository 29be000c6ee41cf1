"""Models from configurations: tokens against transformers' own loop, bytes against formulas."""

from __future__ import annotations

import json

import pytest
import torch

from analyzer.errors import ConfigError
from analyzer.records import Scenario
from profilers.cases import Case, Failure, Outcome
from profilers.device import CpuDevice
from profilers.generation_work import Generator
from profilers.layer_work import layer_calls
from profilers.ledger import Ledger, allocator_peak_B
from profilers.measure import Kit
from profilers.model_shapes import SMALL_CONFIGS
from profilers.modelling import build_model, make_config, parameter_B, shortened, token_ids
from profilers.stopping import Rules
from profilers.telemetry import NoWatch
from profilers.workbench import Workbench

QUICK = Rules(min_samples=3, min_time_s=0.0, cap_s=0.5, warmup_s=0.0, max_samples=4, block_s=0.01)
TINY = SMALL_CONFIGS["tiny-llama"]
BATCH, PROMPT, OUTPUT = 2, 7, 5


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Workbench("cpu", None, str(tmp_path_factory.mktemp("scratch")))
    device = CpuDevice(made.clock, cache_B=1 << 16)  # flushing a real cache would take minutes
    made.kit = Kit(device=device, clock=made.clock, watch=NoWatch())
    yield made
    torch.set_grad_enabled(True)


@pytest.fixture(scope="module")
def model(bench):
    return build_model(make_config(TINY), "fp32", bench)


def asked(profile, kind, model="tiny-llama", config=TINY, **case) -> Case:
    scenario = Scenario(
        model=model, engine="transformers", weight_precision="fp32",
        concurrency=BATCH, input_tokens=PROMPT, output_tokens=OUTPUT,
    )  # fmt: skip
    return Case(
        profile=profile, kind=kind, scenario=scenario, case={"config": json.dumps(config), **case}
    )


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_our_loop_draws_the_tokens_that_transformers_draws(bench, model, cache):
    drawn: list[torch.Tensor] = []
    generator = Generator(model, asked("generation", "e2e", cache=cache), bench)
    forward = generator._forward

    def spy(tokens, cache_of_model):
        token, kept = forward(tokens, cache_of_model)
        drawn.append(token)
        return token, kept

    generator._forward = spy  # type: ignore[method-assign]
    generator.run()
    ours = torch.cat(drawn, dim=1)
    prompt = token_ids(bench, BATCH, PROMPT, 512)
    theirs = model.generate(
        prompt, max_new_tokens=OUTPUT, min_new_tokens=OUTPUT, do_sample=False, pad_token_id=0,
        attention_mask=torch.ones_like(prompt),
    )  # fmt: skip
    assert torch.equal(ours, theirs[:, PROMPT:])


def test_the_parts_of_a_run_add_up(bench, model):
    generator = Generator(model, asked("generation", "e2e", cache="dynamic"), bench)
    generator.run()
    parts = generator.parts()
    assert parts["e2e_s"] == pytest.approx(parts["ttft_s"] + (OUTPUT - 1) * parts["tpot_s"])


def test_a_generation_has_its_metrics_with_samples_of_their_own(bench):
    (reply,) = bench.measure([asked("generation", "e2e", cache="dynamic")], QUICK, 0)
    assert isinstance(reply, Outcome)
    assert set(reply.metrics) == {"ttft_s", "tpot_s", "e2e_s"}
    assert len({len(values) for values in reply.samples.values()}) == 1
    assert reply.notes["attention_used"] == "sdpa"
    assert reply.metrics["ttft_s"] < reply.metrics["e2e_s"]


def test_weights_are_random_and_the_model_is_the_configured_one(model):
    head = TINY["hidden_size"] // TINY["num_attention_heads"]
    attention = 2 * 64 * (4 * head) + 2 * 64 * (2 * head)
    expected = 512 * 64 + 2 * (attention + 3 * 64 * 160 + 2 * 64) + 64
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    weight = model.model.layers[0].mlp.up_proj.weight
    assert float(weight.std()) == pytest.approx(0.02, rel=0.1)
    norm = model.model.layers[0].input_layernorm.weight
    assert float(norm.mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("kept", ["last", "all"])
def test_memory_is_split_into_parts_that_formulas_confirm(bench, kept):
    (reply,) = bench.measure([asked("memory", "memory", logits=kept)], QUICK, 0)
    assert isinstance(reply, Outcome), reply
    metrics = reply.metrics
    rows = PROMPT if kept == "all" else 1
    assert metrics["kv_cache_B"] == 2 * 2 * BATCH * PROMPT * 2 * 16 * 4
    assert metrics["logits_B"] == BATCH * rows * 512 * 4
    model = build_model(make_config(TINY), "fp32", bench)
    assert metrics["weights_B"] == parameter_B(model)
    assert metrics["activations_B"] >= BATCH * PROMPT * 160 * 4  # the widest tensor of a layer
    together = metrics["weights_B"] + metrics["kv_cache_B"] + metrics["logits_B"]
    assert metrics["peak_mem_B"] >= metrics["weights_B"] + metrics["kv_cache_B"]
    assert metrics["peak_mem_B"] <= together + metrics["activations_B"] + metrics["workspace_B"]


def test_the_ledger_counts_live_storages_exactly():
    standing = torch.ones(1000)
    with Ledger([standing]) as ledger:
        a = standing * 2  # 4000 B
        b = a + 1  # 8000 B
        view = a[:10]
        del a  # the view keeps the storage alive
        c = b.sum()  # 4 B
        del view  # 4004 B
        d = torch.zeros(500)  # 6004 B
    assert ledger.peak_B() == 8004
    assert ledger.peak_B(without=[b]) == 4004
    assert float(c + d.sum()) == 3000.0


def test_the_allocators_peak_sees_what_was_alive_at_once(bench):
    source = torch.ones(100_000)

    def work() -> float:
        return float(((source * 2) + 1).sum())

    assert 800_000 <= allocator_peak_B(work, bench) <= 801_000


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", ["tiny-llama", "qwen3-tiny-moe"])
def test_a_layers_call_can_be_repeated_without_growing_its_cache(bench, name, phase):
    small = {**SMALL_CONFIGS[name], "hidden_size": 64, "vocab_size": 128}
    model = build_model(shortened(make_config(small)), "fp32", bench)
    calls = layer_calls(model, asked("layers", "layer", phase=phase), bench)
    for run, reset in calls.values():
        results = []
        for _ in range(3):
            reset()
            out = run()
            results.append(out[0] if isinstance(out, tuple) else out)
        rows = PROMPT if phase == "prefill" else 1
        assert results[0].shape == (BATCH, rows, 64)
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])


def test_a_hybrid_model_is_cut_to_one_layer_of_each_kind(bench):
    config = {
        "model_type": "qwen3_next", "hidden_size": 64, "intermediate_size": 64,
        "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "vocab_size": 128,
    }  # fmt: skip
    case = asked("layers", "layer", "hybrid", config, phase="decode")
    (reply,) = bench.measure([case], QUICK, 0)
    assert isinstance(reply, Outcome), reply
    assert reply.notes["layer_kinds"] == 2
    assert "latency_full_attention_experts_s" in reply.metrics


def test_an_architecture_that_is_unknown_is_a_clear_error(bench):
    with pytest.raises(ConfigError, match="does not know model_type 'warp'"):
        make_config({"model_type": "warp"})
    case = asked("layers", "layer", config={"model_type": "warp"}, phase="decode")
    with pytest.raises(ConfigError, match="warp"):
        list(bench.measure([case], QUICK, 0))


def test_a_case_too_large_for_the_memory_is_answered_as_out_of_memory(bench, monkeypatch):
    def exhausted(*_args, **_kwargs):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1e12 bytes")

    monkeypatch.setattr(Generator, "run", exhausted)
    (reply,) = bench.measure([asked("generation", "e2e", cache="dynamic")], QUICK, 0)
    assert isinstance(reply, Failure)
    assert reply.code == "oom"
