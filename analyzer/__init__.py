"""What a scenario must cost: exact counts, times from rates, memory, schedules. No torch, no I/O.

In:  nouns (`Model`, `System`, `Plan`, `Workload`) and `Rates`; files of the catalog and of
     calibrations; tables of scenarios.
Out: `Prediction`: latencies, throughput, memory, energy, and what bounds each operator.
Counting knows no machine and timing knows no model: between them stands the `OpTable`. Imports the
standard library, NumPy and msgspec, and no other room.
"""
