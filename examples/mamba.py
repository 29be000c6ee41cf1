"""State or cache: what long contexts cost a state-space model and a transformer.

python examples/mamba.py
"""

import numpy as np

import plumbline as pl

CONTEXTS = np.array([1024, 8192, 65536], dtype=float)
MODELS = ("falcon-mamba-7b", "llama-3.1-8b")

system = pl.load_system("A100-SXM-80GB")
asked = pl.Workload(batch=8, input_tokens=CONTEXTS, output_tokens=64)

print("8 sequences on one A100 at 60 % of every peak")
print(f"{'model':<16} {'context':>8} {'GB held':>8} {'TPOT ms':>8} {'TTFT s':>8}")
for name in MODELS:
    found = pl.predict(pl.load_model(name), system, pl.Plan(), asked)
    held_B = np.broadcast_to(found.memory.kv_B + found.memory.state_B, CONTEXTS.shape)
    for row in zip(CONTEXTS, held_B, found.tpot_s, found.ttft_s, strict=True):
        context, held, tpot_s, ttft_s = map(float, row)
        print(f"{name:<16} {context:8.0f} {held / 1e9:8.2f} {1e3 * tpot_s:8.2f} {ttft_s:8.2f}")
