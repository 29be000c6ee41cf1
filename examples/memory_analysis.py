"""What fills a device: weights, cache and the rest, against what some devices have.

python examples/memory_analysis.py
"""

import plumbline as pl

MODELS = ("llama-2-7b", "llama-2-70b", "llama-3.1-70b", "mixtral-8x7b", "mamba-2.8b")
DEVICES = ("RTX4090", "A100-SXM-40GB", "H100-SXM", "MI300X")

asked = pl.Workload(batch=16, input_tokens=2048, output_tokens=256)
roomy = pl.load_system("MI300X")
held = {name: pl.load_system(name).device.memory_B for name in DEVICES}

print("GB for 16 sequences of 2,304 tokens on one device")
print(f"{'model':<15} {'weights':>8} {'cache':>8} {'state':>8} {'rest':>8} {'all':>8}  fits one")
for name in MODELS:
    model = pl.load_model(name)
    found = pl.predict(model, roomy, pl.Plan(), asked, strict=False)
    used = found.memory
    total = float(used.total_B)
    rest = total - float(used.weights_B) - float(used.kv_B) - float(used.state_B)
    parts = (float(used.weights_B), float(used.kv_B), float(used.state_B), rest, total)
    fits = [device for device, memory_B in held.items() if total <= memory_B]
    print(f"{name:<15}", *(f"{part / 1e9:8.2f}" for part in parts), "", ", ".join(fits) or "none")
