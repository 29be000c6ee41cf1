"""Where the time goes, operator by operator, and what would help.

python examples/operator_breakdown.py
"""

import plumbline as pl
from analyzer.explain import levers, lines

system = pl.load_system("H100-SXM")
asked = pl.Workload(batch=8, input_tokens=2048, output_tokens=128)
found = pl.answer(
    pl.load_model("llama-3.1-70b"), system, pl.Plan(tp=8), asked, pl.calibrated(system)
)

for phase in ("prefill", "decode"):
    print(f"{phase}: the operators that take longest")
    listed = sorted((line for line in lines(found) if line.phase == phase), key=lambda x: -x.time_s)
    for line in listed[:8]:
        print(f"  {line.name:<24} {1e3 * line.time_s:9.3f} ms {line.share:6.1%}  {line.bound}")
print("what 10 % more of a figure would save end to end")
for lever in levers(found):
    print(f"  {lever}")
