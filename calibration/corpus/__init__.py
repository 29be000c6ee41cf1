"""The corpus: published and own measurements as records, with what may be used and why.

In come tables with a declaration of what their columns mean: benchmark-perf and benchmark-mem
(`load_corpus`), a folder of chat.csv-style files or any CSV with a mapping (`read_perf_dir`),
operator timings (`load_operators`). Out go frozen records, their split into used and excluded rows
(`usable`, `physics_gate`), columns for a fit (`columns`), and the READMEs of the data folders
(summary.py).
"""

from calibration.corpus.columns import columns, engine_class_of
from calibration.corpus.load import MEM_DIR, PERF_DIR, Corpus, load_corpus
from calibration.corpus.mapping import Column, Mapping, Source
from calibration.corpus.operators import OperatorTable, load_operators
from calibration.corpus.perf_dir import PerfDir, read_perf_dir
from calibration.corpus.reading import Reader, read_table
from calibration.corpus.use import (
    NEEDS,
    Excluded,
    Gate,
    Need,
    Split,
    physics_gate,
    reason_against,
    usable,
)

__all__ = [
    "MEM_DIR",
    "NEEDS",
    "PERF_DIR",
    "Column",
    "Corpus",
    "Excluded",
    "Gate",
    "Mapping",
    "Need",
    "OperatorTable",
    "PerfDir",
    "Reader",
    "Source",
    "Split",
    "columns",
    "engine_class_of",
    "load_corpus",
    "load_operators",
    "physics_gate",
    "read_perf_dir",
    "read_table",
    "reason_against",
    "usable",
]
