"""Latency and throughput of some models on one system, over the batch.

python examples/inference_performance.py
"""

import numpy as np

import plumbline as pl

MODELS = ("llama-3.1-8b", "qwen3-32b", "mixtral-8x7b")
BATCHES = np.array([1, 4, 16, 64], dtype=float)

system = pl.load_system("H200-SXM")
basis = pl.calibrated(system)
asked = pl.Workload(batch=BATCHES, input_tokens=1024, output_tokens=256)

print(f"{system.name}, 1024 tokens in, 256 out; rates: {basis.label}")
print(f"{'model':<14} {'batch':>5} {'TTFT ms':>9} {'TPOT ms':>9} {'tok/s':>9}")
for name in MODELS:
    found = pl.answer(pl.load_model(name), system, pl.Plan(), asked, basis)
    predicted = found.prediction
    rows = zip(BATCHES, predicted.ttft_s, predicted.tpot_s, predicted.decode_tok_s, strict=True)
    for batch, ttft_s, tpot_s, tok_s in rows:
        print(f"{name:<14} {batch:5.0f} {1e3 * ttft_s:9.1f} {1e3 * tpot_s:9.2f} {tok_s:9.0f}")
    for warning in found.warnings:
        print(f"  note: {warning}")
