"""Chunked prefill under a steady load: small chunks keep tokens flowing, large ones start sooner.

python examples/chunked_prefill.py
"""

import plumbline as pl

system, model = pl.load_system("A100-SXM-80GB"), pl.load_model("llama-3.1-8b")
basis = pl.calibrated(system, "vllm-v1", "closed_loop")

print("32 requests in flight, 4096 tokens in, 256 out")
print(f"{'chunk':>7} {'TTFT ms':>9} {'TPOT ms':>9} {'tok/s':>8}")
for chunk in (256, 512, 1024, 2048, 4096, None):
    plan = pl.Plan(chunk_tokens=chunk, engine="vllm-v1")
    asked = pl.Workload(batch=32, input_tokens=4096, output_tokens=256)
    found = pl.answer(model, system, plan, asked, basis, "closed_loop").prediction
    rate = float(found.total_tok_s)
    shown = "whole" if chunk is None else str(chunk)
    ttft_ms, tpot_ms = 1e3 * float(found.ttft_s), 1e3 * float(found.tpot_s)
    print(f"{shown:>7} {ttft_ms:9.1f} {tpot_ms:9.2f} {rate:8.0f}")
