"""The source of fitted kernel forms, with the learnt residual inside of its hull."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from analyzer.errors import ConfigError, InputError
from analyzer.optable import OpTable
from analyzer.sources.base import Answer, Context, Source
from analyzer.sources.describe import Described, describe, features_of
from analyzer.sources.operator_fit import OperatorFit, catalog_fits, read_operator_fits
from analyzer.sources.table import chip_of, count
from analyzer.system import System
from analyzer.timing.kernels import FORMS, Chip
from analyzer.timing.kernels.common import Array
from analyzer.timing.residual import correct


@dataclass(frozen=True)
class Fitted:
    """Kernel forms of one device; a shape outside of the residual's hull gets the form alone."""

    system: System
    fits: Sequence[OperatorFit]
    notes: Mapping[str, int] = field(default_factory=dict)
    name: str = "residual"

    def answer(self, table: OpTable) -> Answer:
        """Times of the operators whose class was fitted."""
        shape = (len(table.names), *table.shape)
        seconds, uncertainty = np.full(shape, np.nan), np.full(shape, np.nan)
        remarks: dict[str, int] = {}
        for index in range(len(table.names)):
            described = describe(table, index)
            fit = self._find(described) if described is not None else None
            if described is None or fit is None:
                count(remarks, f"{table.names[index]}: no fitted class", seconds[index].size)
                continue
            found, doubt, outside = _time(fit, described, chip_of(self.system, fit.dtype))
            seconds[index] = found.reshape(described.shape)
            uncertainty[index] = doubt.reshape(described.shape)
            if outside:
                cells = round(outside / described.scenarios * seconds[index].size)
                count(remarks, f"{table.names[index]}: {_WHY_FORM[fit.residual is None]}", cells)
        return Answer(seconds, uncertainty, remarks)

    def _find(self, described: Described) -> OperatorFit | None:
        for dtype in described.dtypes:
            for fit in self.fits:
                if (fit.op, fit.dtype, fit.kv_dtype) == (described.op, dtype, described.kv_dtype):
                    return fit
        return None


_WHY_FORM = {
    True: "the form alone, no residual was learnt",
    False: "the form alone, outside of the residual's hull",
}


def _time(fit: OperatorFit, described: Described, chip: Chip) -> tuple[Array, Array, int]:
    """Seconds, relative uncertainty, and how many scenarios the residual does not know."""
    scenarios = described.scenarios
    modelled = FORMS[fit.form].time(described.work, chip, fit.kernel_params) * described.share
    seconds = np.broadcast_to(modelled, (scenarios,))
    doubt = np.full(scenarios, fit.held_out_form)
    rows = features_of(described, chip)
    if fit.residual is None or not rows:
        return seconds, doubt, scenarios
    corrections = [correct(fit.residual, features) for features in rows]
    known = np.stack([correction.inside for correction in corrections])
    logs = np.log(np.stack([correction.factor for correction in corrections]))
    ways = known.sum(axis=0)
    factor = np.exp(logs.sum(axis=0) / np.maximum(ways, 1))
    doubt = np.where(ways > 0, fit.held_out_residual or fit.held_out_form, fit.held_out_form)
    return seconds * factor, doubt, int((ways == 0).sum())


def build(context: Context) -> Source:
    """Options `residual`: `path` of exported operator fits, or `fits` (default: the catalog's,
    which are forms without residuals); and `software`."""
    from analyzer.systems_catalog import load_system

    given = context.options.get("residual", {})
    fits: Sequence[OperatorFit] = given.get("fits", catalog_fits())
    if "path" in given:
        fits = read_operator_fits(Path(given["path"]))
    software = str(given.get("software", ""))
    mine = []
    for fit in fits:
        try:
            device = load_system(fit.hardware).device.name
        except InputError:
            continue
        if device == context.system.device.name and fit.software.startswith(software):
            mine.append(fit)
    if not mine:
        raise ConfigError(
            f"residual: no operator fits for {context.system.name}; "
            f"export some with calibration.operators, or use another source"
        )
    return Fitted(context.system, tuple(sorted(mine, key=_rank)))


def _rank(fit: OperatorFit) -> tuple[bool, float]:
    """Evenly routed experts before skewed ones, then the form that holds best on unseen shapes."""
    return fit.routing not in ("", "balanced"), fit.held_out_form
