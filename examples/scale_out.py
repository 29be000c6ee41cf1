"""Beyond one node: tensor parallelism across the network, or pipelines between nodes.

python examples/scale_out.py
"""

import plumbline as pl

system, model = pl.load_system("H100-SXM"), pl.load_model("llama-3.1-405b")
asked = pl.Workload(batch=32, input_tokens=2048, output_tokens=256)
basis = pl.calibrated(system)

print("Llama-3.1-405B in fp8, 32 sequences, 2048 tokens in, 256 out")
print(f"{'tp':>3} {'pp':>3} {'devices':>8} {'TTFT ms':>9} {'TPOT ms':>9} {'tok/s/device':>13}")
for tp, pp in ((8, 1), (16, 1), (8, 2), (8, 4)):
    plan = pl.Plan(tp=tp, pp=pp, weights="fp8")
    found = pl.answer(model, system, plan, asked, basis).prediction
    rate = float(found.decode_tok_s) / plan.devices
    ttft_ms, tpot_ms = 1e3 * float(found.ttft_s), 1e3 * float(found.tpot_s)
    print(f"{tp:3} {pp:3} {plan.devices:8} {ttft_ms:9.1f} {tpot_ms:9.2f} {rate:13.1f}")
print(f"rates: {basis.label}")
