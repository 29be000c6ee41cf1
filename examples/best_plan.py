"""The best plan under a promise, and what would have to be better to do with less.

python examples/best_plan.py
"""

import plumbline as pl
from analyzer.search import Budget, Offer, Question, search
from reports.search_text import layout

systems = [pl.load_system(name) for name in ("H100-SXM", "H200-SXM")]
question = Question(
    model=pl.load_model("llama-3.1-70b"),
    offers=tuple(Offer(each, pl.calibrated(each, "vllm-v1", "closed_loop")) for each in systems),
    input_tokens=4000,
    output_tokens=500,
    slo=pl.SLO(ttft_s=2.0, tpot_s=0.04),
    budget=Budget(devices=8),
    engine="vllm-v1",
)
found = search(question)
print(f"{found.plans:,} plans, {int(found.keeps.sum()):,} keep the promise")
for number in found.ranked(3):
    row = found.row(number)
    rate = f"{row.tok_s_per_device:.0f} tok/s/device"
    print(f"  {row.system} {layout(row)}, {row.batch:g} in flight: {rate}")
for lost in found.lost():
    print(f"  {lost.plans:,} lost because {lost.meaning}")
