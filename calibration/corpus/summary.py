"""The READMEs of the data folders, written from the data, so that they cannot say otherwise."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from analyzer.records import Record
from calibration.corpus.flags import gist_of
from calibration.corpus.load import MEM_DIR, PERF_DIR, Corpus, load_corpus
from calibration.corpus.mapping import Source
from calibration.corpus.operators import OperatorTable, load_operators
from calibration.corpus.profiled import load_profiled
from calibration.corpus.use import BESIDE_THE_POINT, NEEDS, reason_against

README = "README.md"

_PERF_INTRO = """\
# Measured and published performance

Every figure that plumbline is fitted to or compared with, each row with its source. One folder per
source: `SOURCE.toml` says who measured what and how, what each column means in that source's own
terms, and under which licence; each table is named after the system that it was measured on.
Figures stand here as they were published (units, per device or per system, with or without the
prompt); the reader turns them into seconds and whole-system rates by the declared definitions.

This page is generated from the data (`calibration.corpus.summary.write_readmes`); a test fails
when it no longer says what the data say. "Used" means offered to a fit or a comparison; the physics
gate of a calibration may turn away more, and says so in its report.
"""

_MEM_INTRO = """\
# Measured memory

Footprints and pools, in the same form as benchmark-perf. A pool is what an engine sets aside
whatever the batch; it is listed and never taken for a footprint. GiB and GB are told apart by
declaration, because several sources print one and mean the other.

This page is generated from the data (`calibration.corpus.summary.write_readmes`); a test fails
when it no longer says what the data say.
"""


def write_readmes(perf: Path = PERF_DIR, mem: Path = MEM_DIR) -> None:
    """Write both READMEs anew."""
    (perf / README).write_text(perf_readme(perf), encoding="utf-8")
    (mem / README).write_text(mem_readme(mem), encoding="utf-8")


def perf_readme(folder: Path = PERF_DIR) -> str:
    """The text of benchmark-perf/README.md."""
    corpus = load_corpus(folder)
    operators = load_operators(folder / "operators")
    parts = [
        _PERF_INTRO,
        "## What is used",
        source_table(corpus),
        "## Kernels, links and collectives",
        _operator_table(operators),
        *_profiled(folder),
        "## Sources",
        *(_about(source) for source in corpus.sources.values()),
        *_about_operators(operators),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def mem_readme(folder: Path = MEM_DIR) -> str:
    """The text of benchmark-mem/README.md."""
    corpus = load_corpus(folder)
    about = [_about(source) for source in corpus.sources.values()]
    parts = [_MEM_INTRO, "## What is used", source_table(corpus), "## Sources", *about]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def source_table(corpus: Corpus) -> str:
    """Markdown: per source its rows, what they are used for, and why others are not."""
    lines = [
        "| source | licence | rows | used | used for (rows) | not used, and why (rows) |",
        "|---|---|---|---|---|---|",
    ]
    total = used_total = 0
    for name, source in corpus.sources.items():
        records = corpus.of_source(name).records
        uses = Counter(use for record in records for use in uses_of(record))
        against = Counter(why_unused(record) for record in records if not uses_of(record))
        used = len(records) - against.total()
        total += len(records)
        used_total += used
        lines.append(
            f"| {name} | {source.licence} | {len(records)} | {used} "
            f"| {_counted(uses)} | {_counted(against)} |"
        )
    lines.append(f"| all | | {total} | {used_total} | | {total - used_total} |")
    return "\n".join(lines) + "\n"


def uses_of(record: Record) -> list[str]:
    """The needs that a record meets."""
    return [name for name, need in NEEDS.items() if reason_against(record, need) is None]


def why_unused(record: Record) -> str:
    """The first thing that speaks against a record; for one that meets no need."""
    found = [reason_against(record, need) for need in NEEDS.values()]
    for reason in found:
        if reason is not None and reason[0] not in BESIDE_THE_POINT:
            return gist_of(reason[0]) or reason[1].split(" (")[0]
    for sign, text in _BESIDE.items():
        if sign in record.metrics or sign in record.case:
            return text
    return "gives no figure that a fit asks for"


_BESIDE = {
    "pool_B": "memory set aside in advance: a pool, no footprint",
    "process_B": "memory of a process on the host",
    "outcome": "the run ended without a figure",
    "claim": "a claim without a figure",
}
"""What a row gives in place of a figure to fit, by the metric or case that shows it."""


def _counted(counter: Counter[str]) -> str:
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    merged: Counter[str] = Counter()
    for text, count in ranked:
        merged[text if len(merged) < 8 else "other reasons"] += count
    return "; ".join(f"{text} ({count})" for text, count in merged.items()) or "–"


def _operator_table(table: OperatorTable) -> str:
    lines = [
        "| source | licence | rows | used | operators (rows) | not used, and why (rows) |",
        "|---|---|---|---|---|---|",
    ]
    against = [d.reason if d and d.severity != "note" else "" for d in table.doubts]
    for name, source in table.sources.items():
        part = table.where(table.columns["source"] == name)
        reasons = [against[index] for index in part.columns["doubt"].tolist()]
        doubts = Counter(reason for reason in reasons if reason)
        ops = Counter(part.columns["op"].tolist())
        used = len(part) - doubts.total()
        lines.append(
            f"| {name} | {source.licence} | {len(part)} | {used} "
            f"| {_counted(ops)} | {_counted(doubts)} |"
        )
    systems = len(np.unique(table.columns["hardware"].astype(str)))
    lines.append(f"| all | | {len(table)} | {len(table.usable())} | {systems} systems | |")
    return "\n".join(lines) + "\n"


_PROFILED = """\
## Measured by this suite

One folder per machine, written by `plumbline profile` and copied by `scripts/campaign_gpu.py`: one
record per line with its samples, its doubts, its environment and its provenance, one file per
kind. `check.jsonl` holds generations that no fit may see; `measured-system.toml` the best that the
machine reached. What the memory profile took lies in the folder of the same name in benchmark-mem.
"""


def _profiled(folder: Path) -> list[str]:
    machines = load_profiled(folder)
    if not machines:
        return []
    lines = [
        "| folder | machine | taken | records by kind | to check on | with doubts |",
        "|---|---|---|---|---|---|",
    ]
    for one in machines:
        first = one.records[0]
        everything = (*one.records, *one.check)
        dates = sorted({record.provenance.date for record in everything})
        doubted = sum(bool(record.flags) for record in everything)
        kinds = Counter(str(record.kind) for record in one.records)
        lines.append(
            f"| {one.name} | {first.scenario.hardware} | {', '.join(dates)} "
            f"| {_counted(kinds)} | {len(one.check)} | {doubted} |"
        )
    return [_PROFILED, "\n".join(lines) + "\n"]


def _about(source: Source) -> str:
    documents = [
        f"{document.name}" + (f" at {document.commit}" if document.commit else "")
        for document in source.documents.values()
    ]
    shown = documents if len(documents) <= 6 else [*documents[:6], "…"]
    lines = [
        f"### {source.name}: {source.title}",
        "",
        f"- Cite: {source.citation}. {source.url}",
        f"- Licence: {source.licence}",
        f"- Measured: {source.measured}",
        *([f"- Throughput means: {source.throughput}"] if source.throughput else []),
        *([f"- Documents: {'; '.join(shown)}"] if shown else []),
        *[f"- Note: {caveat}" for caveat in source.caveats],
    ]
    return "\n".join(lines) + "\n"


def _about_operators(table: OperatorTable) -> list[str]:
    texts = []
    for name, source in table.sources.items():
        lines = [
            f"### operators/{name}: {source.title}",
            "",
            f"- Cite: {source.citation}. {source.url}",
            f"- Licence: {source.licence}",
            f"- Measured: {source.measured}",
            *[f"- Note: {caveat}" for caveat in source.caveats],
        ]
        texts.append("\n".join(lines) + "\n")
    return texts
