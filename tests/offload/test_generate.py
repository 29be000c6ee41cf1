"""Stop tokens, sampling, prompts of unequal length, and what a profile reports."""

from __future__ import annotations

import json

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM

from analyzer.errors import ConfigError
from analyzer.offload_policy import OffloadPolicy
from analyzer.records import Record
from profilers.offload.engine import OffloadEngine
from profilers.offload.profile import OffloadOptions, run_profile
from profilers.offload.sampling import Sampling, choose, filtered

from .oracle import NEW, PROMPT, prompts

SPREAD = OffloadPolicy.from_percent(
    (30, 30, 30, 30, 30, 30), gpu_batch=2, num_gpu_batches=3, cpu_attention=True
)


def engine(folder, tmp_path, policy=SPREAD, **options) -> OffloadEngine:
    return OffloadEngine(
        folder, policy, dtype="float32", device="cpu", offload_dir=tmp_path / "spill", **options
    )


@pytest.mark.parametrize("overlap", [True, False])
def test_stop_tokens_end_sequences_as_transformers_does(checkpoint, tmp_path, expected, overlap):
    folder, free = checkpoint("llama3"), expected("llama3", 6)
    stop = [int(free[0, 1]), int(free[1, 3]), *free[2:, 2].tolist()]
    ids, mask = prompts(6)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ends = model.generate(
        ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False,
        eos_token_id=stop, pad_token_id=0,
    )[:, PROMPT:]  # fmt: skip
    policy = OffloadPolicy.from_percent(
        (0, 50, 0, 50, 0, 50), gpu_batch=3, num_gpu_batches=2, overlap=overlap
    )
    with engine(folder, tmp_path, policy) as offload:
        made = offload.generate(ids, NEW, attention_mask=mask, stop=stop, pad=0)
    assert ends.shape[1] < NEW  # every sequence stopped early
    assert torch.equal(made.tokens, ends)
    run = made.blocks[0]
    moved = sum(ticket.moved_B for ticket in run.tickets)
    assert moved == sum(run.counted.values())


def test_sampling_does_not_depend_on_the_policy(checkpoint, tmp_path):
    ids, mask = prompts(6)
    sampling = Sampling(sample=True, temperature=2.0, top_k=40, top_p=0.95, seed=7)
    made = []
    for policy in (
        SPREAD,
        OffloadPolicy(gpu_batch=6),
        OffloadPolicy(gpu_batch=1, num_gpu_batches=6),
    ):
        with engine(checkpoint("qwen3"), tmp_path, policy) as offload:
            made.append(offload.generate(ids, NEW, attention_mask=mask, sampling=sampling).tokens)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_sampled_frequencies_follow_the_filtered_softmax():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -9.0]])
    sampling = Sampling(sample=True, temperature=1.5, top_k=4, top_p=0.9)
    dice = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    chosen = choose(logits.expand(20_000, -1), sampling, dice)
    shares = torch.bincount(chosen, minlength=5) / 20_000
    odds = filtered(logits / 1.5, sampling).softmax(-1)[0]
    assert torch.allclose(shares, odds, atol=1e-4)
    assert odds[4] == 0


def test_unequal_prompts_equal_each_alone(checkpoint, tmp_path):
    texts = [[5, 6, 7], [9], [11, 12, 13, 14, 15]]
    policy = OffloadPolicy.from_percent((0, 100, 0, 100, 100, 0), gpu_batch=2, num_gpu_batches=2)
    with engine(checkpoint("opt"), tmp_path, policy) as offload:
        together = offload.generate(texts, 4).tokens
        alone = torch.cat([offload.generate([text], 4).tokens for text in texts])
    assert torch.equal(together, alone)


def test_padding_on_the_right_is_refused(checkpoint, tmp_path):
    ids = torch.tensor([[5, 6, 0]])
    mask = torch.tensor([[1, 1, 0]])
    with (
        engine(checkpoint("opt"), tmp_path) as offload,
        pytest.raises(ConfigError, match="left"),
    ):
        offload.generate(ids, 1, attention_mask=mask)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close_to_fp32(checkpoint, tmp_path, expected, dtype):
    """First tokens agree for most sequences; later ones may part for good after one near tie."""
    ids, mask = prompts(6)
    folder = checkpoint("llama3")
    with OffloadEngine(folder, SPREAD, dtype=dtype, offload_dir=tmp_path / "s") as offload:
        made = offload.generate(ids, 2, attention_mask=mask)
    assert (made.tokens[:, 0] == expected("llama3", 6)[:, 0]).float().mean() >= 0.5


def profile(checkpoint, tmp_path, **options):
    chosen = {"percent": (30, 40, 50, 25, 50, 25)} | options
    return run_profile(
        OffloadOptions(
            model=str(checkpoint("llama3")), gpu_batch_size=2, num_gpu_batches=2, prompt_len=8,
            gen_len=4, dtype="float32", device="cpu", offload_dir=str(tmp_path / "s"), **chosen,
        )
    )  # fmt: skip


def test_profile_counts_places_and_records(checkpoint, tmp_path):
    trace = tmp_path / "trace.json"
    got = profile(checkpoint, tmp_path, trace=str(trace), repeats=2)
    assert got.streams_B == got.counted_B
    assert got.realised_B["weights"]["disk"] > 0
    kinds = {record.kind for record in got.records}
    assert kinds == {"offload"}
    whole = got.records[0]
    assert len(whole.samples["e2e_s"]) == 2
    assert whole.metrics["e2e_s"] == pytest.approx(got.times.prefill_s + got.times.decode_s)
    assert whole.metrics["tpot_s"] == pytest.approx(got.times.decode_s / 3)
    for record in got.records:
        again = msgspec.json.decode(msgspec.json.encode(record), type=Record)
        assert again == record
    events = json.loads(trace.read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["cat"] for event in spans} >= {"compute", "load_weight", "store_cache", "attend"}
    assert all(event["dur"] >= 0 and event["ts"] >= -1 for event in spans)


def test_profile_refuses_nonsense(checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="temperature"):
        profile(checkpoint, tmp_path, temperature=0.0)
    with pytest.raises(ConfigError, match="4, 8 or 16"):
        profile(checkpoint, tmp_path, weight_bits=3)
