"""A search's result as people read it, and as a program does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from analyzer.errors import ConfigError
from analyzer.plan import Plan
from analyzer.search import OBJECTIVES, Found, Row
from analyzer.search.confirm import Confirmed
from reports.table import table

SHOWN = (
    "row", "system", "plan", "replicas", "batch", "TTFT ms", "TPOT ms", "E2E s",
    "tok/s/device", "tok/s/user", "$/M tok", "J/tok", "",
)  # fmt: skip


def words(plan: Plan) -> str:
    """A plan in a few words."""
    parts = [f"tp{plan.tp}"]
    parts += [f"pp{plan.pp}"] if plan.pp > 1 else []
    parts += [f"ep{plan.ep}"] if plan.ep > 1 else []
    parts += [f"adp{plan.attention_dp}"] if plan.attention_dp > 1 else []
    parts.append(plan.weights + (f"/kv {plan.kv}" if plan.kv else ""))
    if plan.chunk_tokens:
        parts.append(f"chunk {plan.chunk_tokens}")
    if plan.speculation:
        parts.append(f"drafts {plan.speculation.tokens}")
    if plan.offload:
        parts.append(f"{plan.offload.weights_host:.0%} in host memory")
    return " ".join(parts)


def layout(row: Row) -> str:
    """The plan, with its prefill workers where they are apart."""
    own = words(row.plan)
    if row.prefill_plan is None:
        return own
    return (
        f"{row.prefill_workers} prefill ({words(row.prefill_plan)}) + "
        f"{row.decode_workers} decode ({own})"
    )


def summary(found: Found, most: int) -> Iterator[Any]:
    """The best plans, how sure they are, and why the others lost."""
    rows = [found.row(row) for row in found.leaders(most)]
    ties = found.ties()
    if rows:
        marks = set() if ties is None else set(ties.tolist())
        yield table(SHOWN, [_cells(row, marks) for row in rows], left=("system", "plan"))
        yield from _sureness(found, ties)
    else:
        yield "No plan keeps the promise and the budget."
        yield from _nearest(found)
    yield _counted(found)
    yield from _reasons(found)


def _cells(row: Row, ties: set[int]) -> list[str]:
    return [
        str(row.row), row.system, layout(row), str(row.replicas), f"{row.batch:g}",
        f"{1e3 * row.ttft_s:.4g}", f"{1e3 * row.tpot_s:.4g}", f"{row.e2e_s:.4g}",
        f"{row.tok_s_per_device:.4g}", f"{row.tok_s_per_user:.4g}",
        _or_dash(row.usd_per_million), _or_dash(row.J_per_token),
        "tie" if row.row in ties else "",
    ]  # fmt: skip


def _or_dash(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "–"


def _sureness(found: Found, ties: Any) -> Iterator[str]:
    best = found.best()
    if best is None:
        return
    answered = found.answer(best)
    yield f"rates: {answered.basis.label}"
    for name, title in (("ttft_s", "TTFT"), ("tpot_s", "TPOT"), ("e2e_s", "E2E")):
        held = found.interval(best, name, answered)
        if held is not None:
            value = float(getattr(found.columns, name)[best])
            low, high = (_time(float(end)) for end in (held.low, held.high))
            yield (
                f"{title} of the best: {_time(value)}, measured ones lie in "
                f"{low} to {high} ({held.level:.0%})"
            )
    if ties is None:
        yield "no interval is known of it, so nothing says which plans are ties"
    else:
        yield (
            f"{len(ties)} plans lie within the interval of the best: ties, as far as anybody "
            "measured (plans share much of their error, so the ranking is surer than that)"
        )
    for warning in answered.warnings:
        yield f"note: {warning}"


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{1e3 * seconds:.4g} ms"


def _nearest(found: Found) -> Iterator[str]:
    """The plan that comes nearest to what was promised."""
    fits = np.flatnonzero(np.isfinite(found.columns.e2e_s))
    if not len(fits):
        return
    promised = {
        name: value
        for name in ("ttft_s", "tpot_s", "e2e_s")
        if (value := getattr(found.question.slo, name)) is not None
    }
    if promised:
        over = np.max([getattr(found.columns, n)[fits] / v for n, v in promised.items()], axis=0)
        nearest = int(fits[np.argmin(over)])
        row = found.row(nearest)
        yield (
            f"nearest: row {nearest}, {row.system} {layout(row)}, {_sequences(row.batch)}: "
            f"{found.why(nearest)}"
        )


def _counted(found: Found) -> str:
    kept = int(found.keeps.sum())
    return (
        f"{found.plans:,} plans predicted, {kept:,} keep promise and budget; ranked by "
        f"{OBJECTIVES[found.question.objective].meaning}"
    )


def _reasons(found: Found) -> Iterator[Any]:
    lost = found.lost()
    if lost:
        rows = [[one.reason, f"{one.plans:,}", f"{one.alone:,}", one.meaning] for one in lost]
        columns = ("lost to", "plans", "by it alone", "which means")
        yield table(columns, rows, left=("lost to", "which means"))
    for reason, count in found.refused.most_common(3):
        yield f"not possible ({count} layouts or formats): {reason}"


def confirmed(found: Found, seen: Sequence[Confirmed]) -> Iterator[Any]:
    """Predicted beside simulated."""
    rows = []
    for one in seen:
        row = found.row(one.row)
        if one.result is None or one.result.ttft is None or one.result.tpot is None:
            rows.append([str(one.row), one.problem, *("",) * 6])
            continue
        verdict = {True: "keeps", False: "breaks", None: ""}[one.keeps]
        kept = "" if one.result.attainment is None else f"{one.result.attainment:.0%}"
        rows.append([
            str(one.row), verdict, f"{1e3 * row.ttft_s:.4g}", f"{1e3 * one.result.ttft.mean:.4g}",
            f"{1e3 * row.tpot_s:.4g}", f"{1e3 * one.result.tpot.mean:.4g}", f"{row.tok_s:.4g}",
            f"{one.result.output_tokens_per_s:.4g}" + (f" ({kept} in time)" if kept else ""),
        ])  # fmt: skip
    columns = (
        "row", "simulated", "TTFT ms", "simulated ms", "TPOT ms", "simulated ms", "tok/s",
        "simulated tok/s",
    )  # fmt: skip
    yield "One replica served by the simulator, from empty; 'keeps': 90 % of requests in time."
    yield table(columns, rows, left=("simulated",))


def _sequences(batch: float) -> str:
    return f"{batch:g} sequence{'' if batch == 1 else 's'}"


def why(found: Found, row: int) -> str:
    """Why one plan lost."""
    if not 0 <= row < found.plans:
        raise ConfigError(f"--why {row}: rows go from 0 to {found.plans - 1}")
    one = found.row(row)
    return f"row {row}, {one.system} {layout(one)}, {_sequences(one.batch)}: {found.why(row)}"


def document(found: Found, most: int, seen: Sequence[Confirmed]) -> dict[str, Any]:
    """Everything as one document, SI units."""
    import msgspec

    ties = found.ties()
    best = found.best()
    return {
        "schema": 1,
        "model": found.question.model.name,
        "objective": found.question.objective,
        "plans": found.plans,
        "keep": int(found.keeps.sum()),
        "best": [_plain(found, row) for row in found.leaders(most)],
        "ties": None if ties is None else len(ties),
        "front": [_plain(found, int(row)) for row in found.front()],
        "lost": [one._asdict() for one in found.lost()],
        "refused": dict(found.refused),
        "rates": None if best is None else found.answer(best).basis.label,
        "warnings": [] if best is None else list(found.answer(best).warnings),
        "simulated": [
            {
                "row": one.row, "keeps": one.keeps, "problem": one.problem or None,
                "result": _brief(msgspec.to_builtins(one.result)) if one.result else None,
            }
            for one in seen
        ],
    }  # fmt: skip


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    """Without the thousands of single requests."""
    left_out = ("request_times", "step_rows", "timeline")
    return {name: value for name, value in result.items() if name not in left_out}


def _plain(found: Found, row: int) -> dict[str, Any]:
    one = found.row(row)
    numbers = {
        name: value for name, value in one._asdict().items() if name not in ("plan", "prefill_plan")
    }
    plans = {"plan": words(one.plan)}
    if one.prefill_plan is not None:
        plans["prefill_plan"] = words(one.prefill_plan)
    ranks = {name: getattr(one.plan, name) for name in ("tp", "pp", "ep", "attention_dp", "dp")}
    formats = {name: getattr(one.plan, name) for name in ("weights", "kv", "chunk_tokens")}
    return {**numbers, **plans, **ranks, **formats}
