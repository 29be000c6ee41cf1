"""Overlap with emulated links: the schedule's wall against the busy time of its stages.

Stage times are work over rate, walls are measured. Links and the GPU are emulated by sleeping, so
that the machine's own load matters little; a disturbed run is measured again, at most twice.
"""

from __future__ import annotations

from collections import defaultdict

import torch

from analyzer.offload_policy import OffloadPolicy
from profilers.offload.engine import OffloadEngine
from profilers.offload.timeline import Span, spans

from .oracle import prompts

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "max_position_embeddings": 64,
}
STEPS, ROWS, BATCHES = 5, 6, 3
LINK_S = 0.05  # seconds that one unit's weights and its compute both take


def run(tmp_path, overlap: bool) -> tuple[float, dict[str, float], float]:
    """Wall, busy seconds of link and GPU, and what one step of filling may cost."""
    policy = OffloadPolicy.from_percent(
        (0, 100, 100, 0, 100, 0),
        gpu_batch=ROWS // BATCHES,
        num_gpu_batches=BATCHES,
        overlap=overlap,
    )
    unit_B = 4 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 192)
    unit_flops = 2 * ROWS * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 192)
    rates = {"h2d": unit_B / LINK_S, "gpu": unit_flops / LINK_S}
    ids, _ = prompts(ROWS)
    with OffloadEngine(
        CONFIG, policy, random_weights=True, dtype="float32", device="cpu",
        offload_dir=tmp_path / "spill", rates=rates,
    ) as engine:  # fmt: skip
        result = engine.generate(ids[:, :1], STEPS).blocks[0]
    done = spans(result.tickets, result.start_s)
    busy = _busy(done, rates)
    return max(s.end_s for s in done), busy, max(busy.values()) / STEPS


def _busy(done: list[Span], rates: dict[str, float]) -> dict[str, float]:
    """Seconds that each emulated part must be busy: its work over its rate, and not what a
    disturbed machine made of it."""
    busy: dict[str, float] = defaultdict(float)
    for span in done:
        if span.link in rates:
            busy[span.link] += span.work / rates[span.link]
    return busy


def test_overlapped_wall_is_the_longest_stage_plus_one_fill(tmp_path):
    tries = []
    for _ in range(3):
        wall, busy, fill = run(tmp_path, overlap=True)
        tries.append(wall / (1.15 * max(busy.values()) + fill))
        if tries[-1] <= 1:
            break
    assert min(tries) <= 1, tries
    assert abs(busy["h2d"] / busy["gpu"] - 1) < 0.25  # the case that overlap is for


def test_serial_wall_is_the_sum_of_the_stages(tmp_path):
    wall, busy, _ = run(tmp_path, overlap=False)
    assert wall >= sum(busy.values()) * 0.999


def test_overlap_beats_serial_by_a_wide_margin(tmp_path):
    serial, _, _ = run(tmp_path, overlap=False)
    overlapped = min(run(tmp_path, overlap=True)[0] for _ in range(2))
    assert overlapped < 0.75 * serial


def test_overlap_does_not_change_tokens(tmp_path):
    ids, _ = prompts(4)
    made = []
    for overlap in (False, True):
        policy = OffloadPolicy.from_percent(
            (20, 30, 30, 30, 30, 30), gpu_batch=2, num_gpu_batches=2, overlap=overlap
        )
        with OffloadEngine(
            CONFIG, policy, random_weights=True, dtype="float32", device="cpu",
            offload_dir=tmp_path / "spill",
        ) as engine:  # fmt: skip
            made.append(engine.generate(ids, 4).tokens)
    assert torch.equal(*made)
