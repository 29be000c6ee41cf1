"""Peaks of engines, term by term, on models whose sizes are known; and laws that all keep."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from analyzer.engines import ENGINES
from analyzer.holdings import HOLDINGS, SERVER, WARM_UP_B, holding, holding_name
from analyzer.memory import WORKSPACE_B, capacity, footprint_B, memory
from analyzer.model import Model
from analyzer.models_catalog import load
from analyzer.phases import Laid, lay
from analyzer.plan import Plan
from analyzer.workload import Workload

LAYERS, HIDDEN, HEADS, VOCAB, WIDTH = 32, 4096, 32, 32000, 11008
TOKEN_B = 2.0 * 2.0 * LAYERS * HIDDEN
"""Keys and values of one token of Llama-2-7B in 16 bits."""
LLAMA = load("llama-2-7b")


def laid(engine: str, release: str = "", model: Model = LLAMA, **plan: object) -> Laid:
    held = holding_name(engine, release, variant=release)
    kind = ENGINES[engine]
    usual = {"engine": engine, "holding": held, "chunk_tokens": kind.chunk_tokens}
    return lay(model, Plan(**{**usual, **plan}))  # type: ignore[arg-type]


def beside_weights(one: Laid, batch: float, prompt: float, answer: float) -> float:
    held = memory(one, Workload(batch=batch, input_tokens=prompt, output_tokens=answer))
    return float(held.allocated_B) - float(held.weights_B)


@pytest.mark.parametrize(
    ("engine", "version", "date", "name"),
    [
        ("transformers", "4.46.0", "", ""),
        ("transformers", "4.44.2", "", "transformers-4.44"),
        ("transformers", "4.38.2", "", "transformers-4.41"),
        ("transformers", "4.30", "", "transformers-4.35"),
        ("transformers-bnb", "4.38", "", "transformers-4.41"),
        ("transformers", "", "2023", "transformers-4.41"),
        ("transformers", "5.1", "2023", ""),
        ("transformers", "unknown", "", ""),
        ("autoawq", "0.1.6", "", "autoawq-0.1"),
        ("autoawq", "0.2.x", "", ""),
        ("vllm-v1", "0.10", "", ""),
    ],
)
def test_releases_find_their_span(engine: str, version: str, date: str, name: str) -> None:
    assert holding_name(engine, version, date) == name


def test_every_span_is_an_engine_that_is_known() -> None:
    assert {held.engine for held in HOLDINGS.values()} <= set(ENGINES)
    assert all(held.why for held in HOLDINGS.values())
    assert holding("vllm-v1") is SERVER


def test_transformers_reads_with_three_hidden_states_beside_the_layer() -> None:
    """Stream, embeddings, layer's input, normed input; gate, up and their product; positions."""
    prompt = 2048.0
    turns = 2.0 * 2 * 128 + 8
    active = prompt * (2.0 * (4 * HIDDEN + 3 * WIDTH) + turns)
    expected = prompt * TOKEN_B + active + WORKSPACE_B
    assert beside_weights(laid("transformers"), 1.0, prompt, 1.0) == pytest.approx(expected)


def test_transformers_answers_with_one_tensor_copied() -> None:
    """The last token's layer joins its keys to a new tensor before the old one is freed."""
    tokens = 8.0 + 4000.0
    held = memory(laid("transformers"), Workload(batch=64, input_tokens=8.0, output_tokens=4000.0))
    assert float(held.kv_B) == 64 * tokens * TOKEN_B
    assert float(held.copies_B) == pytest.approx(64 * tokens * TOKEN_B / LAYERS / 2)


def test_transformers_before_4_42_holds_the_cache_twice() -> None:
    held = memory(
        laid("transformers", "4.38"), Workload(batch=64, input_tokens=8.0, output_tokens=4000.0)
    )
    assert float(held.copies_B) == float(held.kv_B)


def test_transformers_before_4_45_keeps_logits_of_the_prompt() -> None:
    """In 16 bits and in 32, beside three hidden states; the layer's tensors are gone by then."""
    prompt = 16384.0
    qwen = load("qwen2.5-0.5b")
    held = memory(
        laid("transformers", "4.44", qwen), Workload(input_tokens=prompt, output_tokens=1)
    )
    assert float(held.logits_B) == 6.0 * prompt * qwen.vocab
    assert float(held.activations_B) == 3.0 * 2.0 * prompt * qwen.hidden
    newer = memory(
        laid("transformers", "4.45", qwen), Workload(input_tokens=prompt, output_tokens=1)
    )
    assert float(newer.logits_B) < 6.0 * 2 * qwen.vocab


def test_attention_modules_used_to_hold_tables_of_all_positions() -> None:
    """Sines and cosines of 32,768 positions, 64 wide, in each of 24 layers."""
    qwen = load("Qwen/Qwen2-0.5B-Instruct")
    load_ = Workload(input_tokens=1, output_tokens=64)
    tables = memory(laid("transformers", "4.40", qwen), load_).workspace_B
    assert float(tables) == 24 * 2 * 32768 * 64 * 2.0 + WORKSPACE_B
    assert float(memory(laid("transformers", "4.46", qwen), load_).workspace_B) == WORKSPACE_B


def test_exllama_keeps_room_for_the_largest_matrix() -> None:
    load_ = Workload(input_tokens=8, output_tokens=8)
    gptq = memory(laid("transformers", weights="int4-gptq"), load_)
    assert float(gptq.workspace_B) == 2.0 * HIDDEN * WIDTH + WORKSPACE_B
    second = memory(laid("transformers", "exllamav2", weights="int4-gptq"), load_)
    more = float(second.workspace_B) - float(gptq.workspace_B)
    assert more == 4.0 * 2048 * 8 * WIDTH


def test_a_tied_head_of_awq_weights_takes_room_while_loading() -> None:
    qwen = load("qwen2.5-0.5b")
    short = Workload(input_tokens=1, output_tokens=8)
    held = memory(laid("transformers", model=qwen, weights="int4-awq-g128"), short)
    assert float(held.copies_B) == 2.0 * qwen.vocab * qwen.hidden
    assert float(held.kv_B) == 0.0
    untied = memory(laid("transformers", weights="int4-awq-g128"), short)
    assert float(untied.copies_B) < 1e6


def test_autoawq_peaks_in_its_warm_up_on_short_prompts() -> None:
    one = laid("autoawq", weights="int4-awq-g128")
    expected = 2 * 32 * TOKEN_B + WARM_UP_B + WORKSPACE_B
    assert beside_weights(one, 2.0, 8.0, 32.0) == pytest.approx(expected)


def test_early_autoawq_holds_projections_twice() -> None:
    """Three square matrices of each layer."""
    one = laid("autoawq", "0.1.6", weights="int4-awq-g128")
    copies = 3 * LAYERS * HIDDEN**2 * float(one.layout.weight_B)
    expected = 2 * 32 * TOKEN_B + copies + WORKSPACE_B
    assert beside_weights(one, 2.0, 8.0, 32.0) == pytest.approx(expected)


def test_autoawq_peaks_in_the_softmax_on_long_prompts() -> None:
    """Scores of all heads at ten bytes each; the cache has room for the answer only."""
    one = laid("autoawq", weights="int4-awq-g128")
    held = memory(one, Workload(batch=2, input_tokens=2048, output_tokens=64))
    assert float(held.kv_B) == 2 * 64 * TOKEN_B
    assert float(held.activations_B) > 10.0 * 2 * HEADS * 2048**2
    assert float(held.activations_B) < 1.2 * 10.0 * 2 * HEADS * 2048**2


def test_llama_cpp_sets_aside_what_it_logs() -> None:
    """Llama-2-7B, 4,096 cells: scores 256 MiB, mask 8, four streams 32, as its log says: 296."""
    one = laid("llama.cpp", weights="fp16")
    held = memory(one, Workload(input_tokens=4095, output_tokens=1))
    assert float(held.kv_B) == 2048 * 2.0**20
    assert float(held.activations_B) == 296 * 2.0**20
    assert float(held.workspace_B) == 0.0


def test_llama_cpp_needs_room_for_all_logits_of_a_step() -> None:
    """Llama-3-8B, 512 cells: 512 x 128,256 logits and one stream, as its log says: 258.5 MiB."""
    one = laid("llama.cpp", model=load("llama-3-8b"), weights="fp16")
    held = memory(one, Workload(input_tokens=511, output_tokens=1))
    assert float(held.logits_B + held.activations_B) == 258.5 * 2.0**20


def test_llama_cpp_keeps_the_token_table_on_the_host() -> None:
    load_ = Workload(input_tokens=64, output_tokens=1)
    gap = [memory(laid(name, weights="fp16"), load_).weights_B for name in ("vllm-v1", "llama.cpp")]
    assert float(gap[0]) - float(gap[1]) == 2.0 * VOCAB * HIDDEN


def test_rows_dealt_out_hold_cache_and_buffers_once() -> None:
    load_ = Workload(input_tokens=500, output_tokens=12)
    one, two = (footprint_B(laid("llama.cpp", weights="q4_0", tp=tp), load_) for tp in (1, 2))
    assert float(two) == pytest.approx(float(one), rel=2e-3)


@pytest.mark.parametrize("name", ["transformers", "autoawq", "llama.cpp", "vllm-v1", "deepspeed"])
@pytest.mark.parametrize("pp", [1, 2])
def test_the_largest_batch_fits_and_one_more_does_not(name: str, pp: int) -> None:
    one, room_B = laid(name, pp=pp), 40e9
    load_ = Workload(batch=1, input_tokens=700, output_tokens=300)
    most = float(np.floor(capacity(one, load_, room_B)))
    held = [
        float(memory(one, msgspec.structs.replace(load_, batch=most + more)).total_B)
        for more in (0.0, 1.0)
    ]
    if ENGINES[name].queues:
        assert held[0] < room_B
    else:
        assert held[0] <= room_B < held[1]


@pytest.mark.parametrize("name", [*HOLDINGS, "vllm-v1"])
def test_more_of_anything_never_needs_less(name: str) -> None:
    span = HOLDINGS.get(name)
    one = lay(LLAMA, Plan(engine=span.engine if span else name, holding=name if span else ""))
    sizes = [
        float(memory(one, Workload(batch=b, input_tokens=i, output_tokens=o)).total_B)
        for b, i, o in ((1, 64, 64), (2, 64, 64), (2, 128, 64), (2, 128, 128), (8, 512, 512))
    ]
    assert all(more >= less for less, more in itertools.pairwise(sizes))


def test_arrays_say_what_single_questions_say() -> None:
    batch = np.array([1.0, 8.0, 64.0])[:, None]
    prompt = np.array([16.0, 4000.0])
    for name in ("transformers", "autoawq", "llama.cpp", "vllm-v1"):
        one = laid(name)
        grid = memory(one, Workload(batch=batch, input_tokens=prompt, output_tokens=64.0)).total_B
        for row, column in itertools.product(range(3), range(2)):
            b, i = float(batch[row, 0]), float(prompt[column])
            alone = memory(one, Workload(batch=b, input_tokens=i, output_tokens=64.0)).total_B
            assert float(np.broadcast_to(grid, (3, 2))[row, column]) == pytest.approx(float(alone))
