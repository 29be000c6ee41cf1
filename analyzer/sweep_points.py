"""Points of a design, predicted: grouped by what cannot be an array, the rest as flat arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.answer import check_arithmetic, settle
from analyzer.basis import Basis
from analyzer.engines import engine
from analyzer.errors import InputError
from analyzer.model import Model
from analyzer.models_catalog import load as load_model
from analyzer.plan import Plan
from analyzer.predict import predict
from analyzer.resolve import activation_format, cache_format, check_plan
from analyzer.sweep import METRICS
from analyzer.system import System
from analyzer.systems_catalog import load_system
from analyzer.workload import Workload

Array = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]

USUAL: dict[str, Any] = {
    "weights": "", "kv": "", "batch": 1, "input_tokens": 1024, "output_tokens": 128, "tp": 1,
    "pp": 1, "dp": 1, "ep": 1, "attention_dp": 1, "chunk_tokens": -1,
}  # fmt: skip
"""What a point has where the design does not say; -1 chunk tokens: the engine's habit."""
_STRUCTURE = ("model", "system", "weights", "kv", "pp", "chunk_tokens")
_RANKS = ("tp", "dp", "ep", "attention_dp")

Choose = Callable[[System], Basis]


class Fixed(NamedTuple):
    """What all points share."""

    engine: str
    arrival: str
    choose: Choose


def predict_points(points: Columns, fixed: Fixed) -> dict[str, Array]:
    """One array for each of METRICS, NaN where a point cannot run; memory is per device."""
    count = len(next(iter(points.values())))
    whole: Columns = {
        name: np.asarray(points.get(name, np.full(count, usual))) for name, usual in USUAL.items()
    }
    whole |= {name: points[name] for name in ("model", "system")}
    columns = {name: np.full(count, np.nan) for name in METRICS}
    for key, rows in _groups(whole, count):
        _predict_group(key, {name: values[rows] for name, values in whole.items()}, rows, fixed,
                       columns)  # fmt: skip
    return columns


def _groups(whole: Columns, count: int) -> Iterator[tuple[tuple[Any, ...], NDArray[np.intp]]]:
    """Rows that share a structure; in the order of their first row."""
    codes: Any = np.zeros(count, dtype=np.int64)
    for name in _STRUCTURE:
        _, code = np.unique(whole[name], return_inverse=True)
        codes = codes * (int(code.max()) + 1) + code
    for code in dict.fromkeys(codes.tolist()) if count < 64 else np.unique(codes):
        rows = np.flatnonzero(codes == code)
        yield tuple(whole[name][rows[0]].item() for name in _STRUCTURE), rows


def _predict_group(
    key: tuple[Any, ...],
    own: Columns,
    rows: NDArray[np.intp],
    fixed: Fixed,
    columns: dict[str, Array],
) -> None:
    name, place, weights, kv, pp, chunk = key
    model, system = load_model(name), load_system(place)
    basis = fixed.choose(system)
    plan = _plan(model, basis, fixed, weights, kv, int(pp), int(chunk))
    legal = _legal(plan, model, system, own) & _short_enough(model, own)
    if not legal.any():
        return
    kept = rows[legal]
    ranks: dict[str, Any] = {axis: own[axis][legal].astype(np.int64) for axis in _RANKS}
    if all(len(np.unique(values)) == 1 for values in ranks.values()):
        ranks = {axis: int(values[0]) for axis, values in ranks.items()}
    lengths: dict[str, Any] = {
        axis: own[axis][legal].astype(np.float64)
        for axis in ("batch", "input_tokens", "output_tokens")
    }
    load = Workload(**lengths)
    found = predict(
        model, system, msgspec.structs.replace(plan, **ranks), load, basis.rates, fixed.arrival,
        queue=False, strict=False,
    )  # fmt: skip
    for metric in METRICS:
        values = found.memory.total_B if metric == "memory_B" else getattr(found, metric)
        columns[metric][kept] = values


def _plan(
    model: Model, basis: Basis, fixed: Fixed, weights: str, kv: str, pp: int, chunk: int
) -> Plan:
    stored = weights or model.native_weights
    plan = Plan(
        pp=pp,
        weights=stored,
        activations=activation_format(stored),
        kv=cache_format(kv, stored, engine(fixed.engine)),
        chunk_tokens=chunk if chunk > 0 else None,
        engine=fixed.engine,
    )
    settled = settle(plan, model, basis)
    return msgspec.structs.replace(settled, chunk_tokens=None) if chunk == 0 else settled


def _legal(plan: Plan, model: Model, system: System, own: Columns) -> NDArray[np.bool_]:
    """Layouts that can be, asked once for each."""
    ranks = np.stack([own[name].astype(np.int64) for name in _RANKS], axis=1)
    kinds, member = np.unique(ranks, axis=0, return_inverse=True)
    good = [_possible(plan, model, system, tuple(kind.tolist())) for kind in kinds]
    return np.array(good)[member.reshape(-1)]


def _possible(plan: Plan, model: Model, system: System, ranks: tuple[int, ...]) -> bool:
    whole = msgspec.structs.replace(plan, **dict(zip(_RANKS, ranks, strict=True)))
    try:
        check_arithmetic(whole, model, system)
        check_plan(whole, model, system)
    except InputError:
        return False
    return True


def _short_enough(model: Model, own: Columns) -> NDArray[np.bool_]:
    longest = own["input_tokens"] + own["output_tokens"]
    return np.asarray(longest <= (model.max_context or np.inf))


@lru_cache(maxsize=8)
def chooser(engine_class: str, arrival: str, given: str) -> Choose:
    """The rates of each system: calibrated ones, or what `given` names for all alike."""
    from analyzer import basis

    single = {"uncalibrated": basis.uncalibrated, "ideal": basis.ideal}
    if given in single:
        held = single[given]()
        return lambda _system: held
    if given:
        held = basis.single(float(given[4:])) if given.startswith("eff=") else basis.given(given)
        return lambda _system: held
    known: dict[str, Basis] = {}

    def choose(system: System) -> Basis:
        if system.name not in known:
            named = engine_class and basis.generation(system, engine_class, arrival)
            known[system.name] = basis.calibrated(system, named, arrival)
        return known[system.name]

    return choose
