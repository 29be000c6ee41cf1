"""Fits of kernel forms to measured operators: per device, operator class, format and software.

Log errors, robust loss, weak priors at each parameter's default; what is held out is whole shapes
(weight matrices, head counts), never single rows. A boosted residual may go on top; outside of the
hull of its training data it stays silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from analyzer.errors import CalibrationError, ConfigError, InputError, TooFewGroups, nearest
from analyzer.sources.operator_fit import OperatorFit, read_operator_fits
from analyzer.sources.operator_rows import OperatorRows, read_operator_rows
from analyzer.sources.operator_work import FORM_OF, Shaped, shape_rows
from analyzer.sources.physics import copies, fingerprint, gate
from analyzer.timing.kernels import FORMS, Chip, Form
from analyzer.timing.kernels.common import Array
from calibration.operators_residual import fit_residual
from calibration.operators_routing import labelled_rows
from calibration.operators_solve import Solved, solve

FOLDS = 4
LEAST_ROWS = 20
LEAST_FOR_RESIDUAL = 200
WORST_SHIPPED = 0.5
"""Held-out error beyond which a form does not describe a kernel and is not shipped."""
KEYS = ("hardware", "op", "dtype", "software", "kv_dtype", "routing", "kernel")

ChipOf = Callable[[str, str], Chip]
"""(hardware, dtype) to the device's figures; an InputError where it is unknown."""


class Campaign(NamedTuple):
    """What came of fitting all classes of a corpus."""

    fits: list[OperatorFit]
    skipped: dict[str, str]
    """Class to why it has no fit."""
    refused: dict[str, int]
    """Rows that no machine could have produced, by class and reason."""


class Split(NamedTuple):
    """Log errors (predicted over measured) of rows that the fit did not see."""

    form: Array
    residual: Array
    covered: Array
    """1 where the residual knew the shape, 0 where the form answered alone."""


def fit_operators(rows: OperatorRows, chip_of: ChipOf, residual: bool = True) -> Campaign:
    """Fit every (hardware, op, dtype, software) class that has rows enough."""
    campaign = Campaign([], {}, {})
    classes = dict(_classes(rows))
    copied = copies(classes)
    for name, members in classes.items():
        if name in copied:
            campaign.skipped[name] = f"the same rows as {copied[name]}"
            continue
        try:
            chip = chip_of(str(members.text["hardware"][0]), str(members.text["dtype"][0]))
            campaign.fits.append(fit_class(members, chip, residual, campaign.refused))
        except (InputError, CalibrationError) as error:
            campaign.skipped[name] = str(error)
    return campaign


def fit_class(
    rows: OperatorRows, chip: Chip, residual: bool = True, refused: dict[str, int] | None = None
) -> OperatorFit:
    """Fit one class; TooFewGroups where its shapes do not let any be held out."""
    op, dtype = str(rows.text["op"][0]), str(rows.text["dtype"][0])
    form = FORMS[FORM_OF.get(op, op)]
    rows, mislabelled = labelled_rows(rows, chip)
    if not len(rows):
        raise CalibrationError("no row's routing is what its label says")
    whole = shape_rows(rows, op, dtype, chip)
    passed = gate(rows.seconds, whole.flops, whole.moved_B, chip)
    for reason, count in (mislabelled | passed.refused).items():
        if refused is not None:
            refused[f"{_name(rows)}: {reason}"] = count
    kept = rows.take(passed.possible)
    if len(kept) < LEAST_ROWS:
        raise CalibrationError(f"{len(kept)} rows; a fit needs {LEAST_ROWS}")
    shaped = shape_rows(kept, op, dtype, chip)
    held_out = cross_validate(form, shaped, chip, kept.seconds, residual)
    solved = solve(form, shaped.work, chip, kept.seconds, fixed_parameters(form, shaped))
    return _summary(kept, shaped, chip, form, solved, held_out, residual)


def cross_validate(form: Form, shaped: Shaped, chip: Chip, seconds: Array, residual: bool) -> Split:
    """Errors on shapes that were held out, with and without the residual."""
    from sklearn.model_selection import GroupKFold

    groups = len(np.unique(shaped.groups))
    if groups < 2:
        raise TooFewGroups("all rows have one shape; none can be held out")
    split = Split(*(np.zeros(len(seconds)) for _ in Split._fields))
    folds = GroupKFold(min(FOLDS, groups))
    for train, test in folds.split(seconds, groups=shaped.groups):
        solved = solve(
            form,
            take(shaped.work, train),
            chip,
            seconds[train],
            fixed_parameters(form, shaped),
            starts=1,
        )
        off = np.log(seconds / form.time(shaped.work, chip, solved.params))
        split.form[test] = split.residual[test] = -off[test]
        if residual and len(train) >= LEAST_FOR_RESIDUAL:
            learnt = fit_residual(shaped.features[train], off[train], shaped.feature_names)
            correction = learnt.correct(shaped.features[test])
            split.residual[test] += np.log(correction.factor)
            split.covered[test] = correction.inside
    return split


def take(work: Any, which: Any) -> Any:
    """The rows of a work tuple at these positions."""
    return type(work)(*(np.asarray(part)[which] if np.ndim(part) == 1 else part for part in work))


def geomean_error(log_errors: Array) -> float:
    """exp(mean |ln(predicted/measured)|) − 1."""
    return float(np.expm1(np.abs(log_errors).mean()))


def _classes(rows: OperatorRows) -> Iterator[tuple[str, OperatorRows]]:
    known = np.isin(rows.text["op"], [*FORMS, *FORM_OF])
    rows = rows.take(known)
    labels = np.stack([rows.text[key] for key in KEYS], axis=1)
    found, which = np.unique(labels, axis=0, return_inverse=True)
    for index in range(len(found)):
        members = rows.take(np.flatnonzero(which.ravel() == index))
        yield _name(members), members


def _name(rows: OperatorRows) -> str:
    return "|".join(str(rows.text[key][0]) for key in KEYS).rstrip("|")


def fixed_parameters(form: Form, shaped: Shaped) -> dict[str, float]:
    """Parameters that these rows cannot tell anything about, at their ideal."""
    fixed: dict[str, float] = {}
    narrowed = getattr(shaped.work, "narrowed", None)
    if narrowed is not None and not np.any(narrowed):
        fixed |= {"quantise_s": 0.0, "quantise_eff": 1.0}
    if "mha_unsplit" in form.parameters:
        fixed |= {"compute_eff": 1.0}
    return fixed


def _summary(
    rows: OperatorRows,
    shaped: Shaped,
    chip: Chip,
    form: Form,
    solved: Solved,
    held_out: Split,
    residual: bool,
) -> OperatorFit:
    log_off = np.log(rows.seconds / form.time(shaped.work, chip, solved.params))
    wanted = residual and len(rows) >= LEAST_FOR_RESIDUAL
    better = geomean_error(held_out.residual) < geomean_error(held_out.form)
    learnt = fit_residual(shaped.features, log_off, shaped.feature_names) if wanted else None
    low, high = shaped.features.min(axis=0), shaped.features.max(axis=0)
    first = {key: str(rows.text[key][0]) for key in KEYS}
    return OperatorFit(
        **first,
        form=FORM_OF.get(first["op"], first["op"]),
        params=msgspec.to_builtins(solved.params),
        at_bound=solved.at_bound,
        rows=len(rows),
        groups=len(np.unique(shaped.groups)),
        held_out_form=geomean_error(held_out.form),
        held_out_bias=float(np.expm1(held_out.form.mean())),
        held_out_residual=geomean_error(held_out.residual) if learnt else None,
        covered=float(held_out.covered.mean()),
        feature_names=shaped.feature_names,
        hull=tuple(zip(low.tolist(), high.tolist(), strict=True)),
        residual=learnt.residual if learnt and better else None,
        data_sha256=fingerprint(rows),
    )


def without_residual(fit: OperatorFit) -> OperatorFit:
    """The form alone, small enough to ship; what the residual reached stays on record."""
    return msgspec.structs.replace(fit, residual=None)


def export(fits: list[OperatorFit], path: Path) -> None:
    """Write fits as one JSON file, in a stable order."""
    ordered = sorted(fits, key=lambda fit: fit.name)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")


def refit_catalog(folder: Path, path: Path, only: str = "") -> Campaign:
    """Fit all operator records of a folder and write their forms, without residuals, to `path`.

    This is how `analyzer/catalog/operators.json` is made from `benchmark-perf/operators`. `only`
    fits the classes of one device anew and leaves those of others in `path` as they are.
    """
    from analyzer.systems_catalog import load_system

    rows = read_operator_rows(sorted(folder.glob("*.csv*")))
    others: list[OperatorFit] = []
    if only:
        known = sorted(set(rows.text["hardware"].tolist()))
        if only not in known:
            raise ConfigError(f"no operator records of {only!r}{nearest(only, known)}")
        rows = rows.where(hardware=only)
        others = [fit for fit in read_operator_fits(path) if fit.hardware != only]
    campaign = fit_operators(rows, chips_from(load_system))
    good = [fit for fit in campaign.fits if fit.held_out_form <= WORST_SHIPPED]
    for fit in campaign.fits:
        if fit.held_out_form > WORST_SHIPPED:
            campaign.skipped[fit.name] = f"held-out error {fit.held_out_form:.0%}: not what it does"
    export([*others, *(without_residual(fit) for fit in good)], path)
    return campaign._replace(fits=good)


def chips_from(systems: Mapping[str, Any] | Callable[[str], Any]) -> ChipOf:
    """Look devices up by name in a mapping or by a function (`load_system`)."""
    from analyzer.sources.operator_work import format_of

    find = systems.__getitem__ if isinstance(systems, Mapping) else systems

    def chip_of(hardware: str, dtype: str) -> Chip:
        device = find(hardware).device
        peak = device.peak(format_of(dtype).compute)
        return Chip(peak, device.memory_bandwidth_Bps, device.units, device.l2_B or 0.0)

    return chip_of
