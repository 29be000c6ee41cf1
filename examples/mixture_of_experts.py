"""Mixtures of experts: a small batch reads few experts, a large one reads nearly all.

python examples/mixture_of_experts.py
"""

import numpy as np

import plumbline as pl

BATCHES = np.array([1, 4, 16, 64, 256], dtype=float)
CASES = (("mixtral-8x7b", 2, 1), ("deepseek-v3", 8, 1), ("deepseek-v3", 8, 8))

system = pl.load_system("H200-SXM")
asked = pl.Workload(batch=BATCHES, input_tokens=512, output_tokens=128)

print("time per token in ms over the batch, at 60 % of every peak")
print(f"{'model':<14} {'tp':>3} {'ep':>3}", *(f"{batch:8.0f}" for batch in BATCHES))
for name, tp, ep in CASES:
    plan = pl.Plan(tp=tp, ep=ep, weights=pl.load_model(name).native_weights)
    found = pl.predict(pl.load_model(name), system, plan, asked)
    print(f"{name:<14} {tp:3} {ep:3}", *(f"{1e3 * tpot_s:8.2f}" for tpot_s in found.tpot_s))
