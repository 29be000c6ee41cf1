"""All rows of a group at once: what can be answered, what only in part, and what not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.answer import outside_of, was_measured
from analyzer.basis import BANDED_BY
from analyzer.engines import engine_on
from analyzer.errors import InputError
from analyzer.memory import capacity, memory
from analyzer.phases import lay
from analyzer.predict import of_which
from analyzer.records_arrival import FIXED_BATCHES, RATED
from analyzer.scenarios.columns import Load
from analyzer.scenarios.forms import Columns, Form, form_of
from analyzer.scenarios.groups import Group
from analyzer.workload import Workload

Array = NDArray[np.float64]

CHUNK = 4096
"""Rows that are predicted at once: their arrays stay in the processor's caches."""
ASSUMED_PROMPT = 256.0
"""Prompt of a row that does not state it: the time per token hardly depends on a short one."""
SMALL_SHARE = 0.1
"""Share of a whole time up to which it may hold the prefill of a prompt that was assumed."""
FIRST = ("ttft_s", "prefill_tok_s", "e2e_s", "total_tok_s")
LATER = ("tpot_s", "decode_tok_s", "e2e_s", "total_tok_s")
OVERRUN = (
    "more requests come than can be served: the queue never ends, and the time to first token with "
    "it; batch_or_concurrency can say how many requests there are in all"
)
UNCOUNTED = "prefill_workers or decode_workers are not stated: one worker assumed"
STRETCH = 4.0
"""Times the model's context up to which benchmarks are run all the same, with random prompts."""
METRICS = Columns._fields
HULL = ("batch", "input_tokens", "output_tokens", "devices")


class Outcome(NamedTuple):
    """What came of the rows of a group, in their order."""

    columns: dict[str, Array]
    """A metric, and its `_lo` and `_hi` where an interval is known; NaN where there is none."""
    problems: list[str]
    """Why figures are missing; '' where none is."""
    notes: list[str]
    """What was assumed or lies outside of what was measured."""


class _Sheet:
    """The rows of a group while they are worked on."""

    def __init__(self, group: Group, loads: Sequence[Load]) -> None:
        numbers = np.array([load[:3] for load in loads], dtype=np.float64).reshape(-1, 3)
        self.batch, self.input, self.output = numbers.T.copy()
        self.group = group
        self.problems = np.array([load.problem for load in loads], dtype=object)
        self.notes = np.full(len(loads), "", dtype=object)
        self.open = self.problems == ""
        self.no_first = np.zeros(len(loads), dtype=bool)
        self.no_later = np.zeros(len(loads), dtype=bool)
        self.no_prompt = np.isnan(self.input)
        self.alone = self.no_prompt & ~(self.output > 0)

    def numbers(self) -> dict[str, Any]:
        """What a hull bounds."""
        return {
            "batch": self.batch,
            "input_tokens": self.input,
            "output_tokens": self.output,
            "devices": np.full(len(self.batch), float(self.group.plan.devices)),
        }

    def refuse(self, rows: NDArray[np.bool_], why: str) -> None:
        """Rows that get no figures."""
        rows = rows & self.open
        if rows.any():
            self.problems[rows] = why
            self.open &= ~rows

    def remark(self, rows: NDArray[np.bool_], what: str, problem: bool = False) -> None:
        """Rows about which something must be said."""
        texts = self.problems if problem else self.notes
        for row in np.flatnonzero(rows & self.open):
            texts[row] = f"{texts[row]}; {what}" if texts[row] else what


def answer_rows(group: Group, loads: Sequence[Load]) -> Outcome:
    """Predict the rows of one group."""
    sheet = _Sheet(group, loads)
    form = form_of(group)
    everyone = np.ones(len(loads), dtype=bool)
    if form is None:
        sheet.refuse(everyone, f"no closed form answers {group.arrival} arrivals")
    if group.arrival in RATED and group.rate_per_s is None:
        sheet.refuse(
            everyone,
            f"column 'arrival': {group.arrival} arrivals need their rate, as 'rate 2.5'",
        )
    if group.pools is not None and not group.pools.counted:
        sheet.remark(everyone, UNCOUNTED)
    _complete(sheet)
    _check(sheet)
    _note_hull(sheet)
    columns = {name: np.full(len(loads), np.nan) for name in METRICS}
    if form is not None:
        for start in range(0, len(loads), CHUNK):
            rows = np.flatnonzero(sheet.open[start : start + CHUNK]) + start
            if len(rows):
                _fill(columns, sheet, form, rows)
    _hide(columns, sheet)
    return Outcome(_with_bounds(sheet, columns), list(sheet.problems), list(sheet.notes))


def _hide(columns: dict[str, Array], sheet: _Sheet) -> None:
    """Take back figures of what a row leaves out.

    A fixed batch that states its answer but no prompt keeps its whole time where the assumed
    prompt makes up little of it.
    """
    whole_s = columns["e2e_s"]
    fixed = sheet.group.arrival in FIXED_BATCHES
    little = fixed & sheet.no_prompt & ~sheet.alone & (columns["ttft_s"] < SMALL_SHARE * whole_s)
    kept_s = np.where(little, whole_s, np.nan)
    for mask, names in ((sheet.no_first, FIRST), (sheet.no_later, LATER)):
        for name in names:
            columns[name][mask] = np.nan
    columns["e2e_s"] = np.where(little, kept_s, columns["e2e_s"])
    if not fixed:
        columns["decode_tok_s"][sheet.alone] = np.nan


def _complete(sheet: _Sheet) -> None:
    """What a row leaves out and can be done without, said where it is."""
    fixed = sheet.group.arrival in FIXED_BATCHES
    if sheet.group.stated is not None:
        sheet.batch = np.where(np.isnan(sheet.batch), sheet.group.stated, sheet.batch)
    blank = np.isnan(sheet.batch)
    if sheet.group.arrival in RATED:
        return _complete_lengths(sheet)
    if fixed:
        sheet.remark(blank, "batch is not stated: 1 assumed")
    elif sheet.group.arrival in ("closed_loop", "burst"):
        sheet.refuse(blank, "batch_or_concurrency is not stated")
    sheet.batch = np.where(blank, 1.0, sheet.batch)
    _complete_lengths(sheet)


def _complete_lengths(sheet: _Sheet) -> None:
    _complete_prompts(sheet)
    _complete_answers(sheet)


def _complete_prompts(sheet: _Sheet) -> None:
    blank, alone = sheet.no_prompt, sheet.alone
    told = f"{ASSUMED_PROMPT:.0f} assumed"
    sheet.remark(
        blank & ~alone,
        f"input_tokens is not stated: {told}, nothing of prefill predicted",
        problem=True,
    )
    sheet.remark(
        alone,
        f"neither input_tokens nor output_tokens is stated: {told} of each, only the time per "
        "token predicted",
        problem=True,
    )
    empty = sheet.input == 0
    sheet.remark(empty, "input_tokens is 0: only decoding is predicted", problem=True)
    sheet.no_first |= blank | empty
    sheet.input = np.where(blank, ASSUMED_PROMPT, np.where(empty, 1.0, sheet.input))
    sheet.output = np.where(alone, ASSUMED_PROMPT, sheet.output)


def _complete_answers(sheet: _Sheet) -> None:
    blank = np.isnan(sheet.output)
    none = blank | (sheet.output == 0)
    sheet.refuse(none & sheet.no_first, "neither input_tokens nor output_tokens are above 0")
    sheet.remark(blank, "output_tokens is not stated: only prefill is predicted", problem=True)
    sheet.remark(none & ~blank, "output_tokens is 0: only prefill is predicted", problem=True)
    sheet.no_later |= none
    sheet.output = np.where(none, 1.0, sheet.output)


def _check(sheet: _Sheet) -> None:
    """Rows that no machine can run."""
    for name in ("batch", "input", "output"):
        low = getattr(sheet, name) < 1.0
        label = "batch" if name == "batch" else f"{name}_tokens"
        sheet.refuse(low, f"{label} is below 1")
    longest = sheet.group.max_context
    if longest is not None:
        total = sheet.input * ~sheet.no_first + sheet.output * ~sheet.no_later
        limit = f"{sheet.group.model.name} reads at most {longest} tokens, prompt and output"
        sheet.refuse(total > STRETCH * longest, limit)
        sheet.remark(total > longest, f"beyond what the model was made for: {limit}")


def _fill(columns: dict[str, Array], sheet: _Sheet, form: Form, rows: NDArray[np.intp]) -> None:
    """Predict rows and explain those without figures."""
    load = _load(sheet, rows)
    try:
        found = form(sheet.group, load)
    except InputError as error:
        sheet.problems[rows] = str(error)
        return
    lost = np.isnan(found.tpot_s)
    for name, values in zip(METRICS, found, strict=True):
        columns[name][rows] = np.where(lost, np.nan, values)
    if lost.any():
        sheet.problems[rows[lost]] = _reasons(sheet.group, _load(sheet, rows[lost]))
    if sheet.group.arrival in RATED:
        endless = np.zeros(len(sheet.open), dtype=bool)
        endless[rows] = np.isnan(found.ttft_s) & ~lost
        sheet.remark(endless, OVERRUN, problem=True)
    if sheet.group.basis.ladder is not None:
        _ask(columns, sheet, load, rows, lost)


def _ask(
    columns: dict[str, Array],
    sheet: _Sheet,
    load: Workload,
    rows: NDArray[np.intp],
    lost: NDArray[np.bool_],
) -> None:
    """Who timed the operators of these rows, and the intervals that follow from that."""
    from analyzer.scenarios.sourced import asked

    held = asked(sheet.group, load)
    for row, note in zip(rows[~lost], np.asarray(held.notes, dtype=object)[~lost], strict=True):
        sheet.notes[row] = f"{sheet.notes[row]}; {note}" if sheet.notes[row] else note
    for name, ends in held.bounds.items():
        for side, factor in zip(("lo", "hi"), ends, strict=True):
            bound = columns.setdefault(f"{name}_{side}", np.full(len(sheet.batch), np.nan))
            bound[rows] = columns[name][rows] * factor


def _load(sheet: _Sheet, rows: NDArray[np.intp]) -> Workload:
    return Workload(
        batch=sheet.batch[rows], input_tokens=sheet.input[rows], output_tokens=sheet.output[rows]
    )


def _reasons(group: Group, load: Workload) -> list[str]:
    """Why rows have no figures: too large for the memory, else more than can be served."""
    plans = (group.pools.prefill, group.pools.decode) if group.pools else (group.plan,)
    said = ["more requests come than can be served: the queue never ends"] * np.size(load.batch)
    for plan in plans:
        has_B = group.system.device.memory_B
        laid = lay(group.model, plan)
        needs_B = np.broadcast_to(memory(laid, load).total_B, np.shape(load.batch))
        kind = engine_on(plan.engine, group.system.device)
        room = capacity(laid, load, has_B * kind.memory_share, kind=kind)
        for row, most in enumerate(np.broadcast_to(room, needs_B.shape)):
            if most < 1.0 or (needs_B[row] > has_B and not group.queues):
                said[row] = (
                    f"does not fit: it needs {needs_B[row] / 1e9:.1f} GB per device of "
                    f"{has_B / 1e9:.1f} GB{of_which(kind)}; at most {int(most)} sequences fit"
                )
    return said


def _note_hull(sheet: _Sheet) -> None:
    """Which rows leave what was measured, and in what."""
    group = sheet.group
    said = "; ".join(group.basis.warnings)
    if said:
        sheet.remark(sheet.open, said)
    hull = group.basis.calibration.hull if group.basis.calibration else None
    if hull is None:
        return
    values = sheet.numbers()
    bits = sum(
        outside_of(hull, name, values[name]).astype(np.intp) << place
        for place, name in enumerate(HULL)
    )
    for code in np.unique(bits):
        names = [name for place, name in enumerate(HULL) if code >> place & 1]
        if names:
            sheet.remark(bits == code, f"extrapolates in {', '.join(names)}")


def _with_bounds(sheet: _Sheet, columns: dict[str, Array]) -> dict[str, Array]:
    bounded, group = dict(columns), sheet.group
    known = was_measured(group.basis, group.plan, group.model.name, group.arrival, sheet.numbers())
    for name in BANDED_BY:
        held = group.basis.interval(name, columns[name], known)
        if held is not None:
            bounded |= {f"{name}_lo": held.low, f"{name}_hi": held.high}
    return bounded
