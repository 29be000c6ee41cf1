"""Measurements to rates: what was measured is sorted, fitted, scored on what it never saw, written.

In:  records (published ones in benchmark-perf and benchmark-mem, a user's CSVs, a profiler's
     store); systems, models and closed forms of `analyzer`.
Out: calibrations (`run.calibrate`, `run.calibrate_all`) as TOML that `analyzer.calibrated` reads;
     errors on models, lengths and systems left out, with intervals (`holdout`, `intervals`);
     what to measure next (`suggest`); a fit of few points of one's own (`own`); a scikit-learn
     estimator (`estimator`); whether what is shipped still follows the data (`check`).
"""
