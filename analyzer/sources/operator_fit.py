"""A fitted kernel form as calibration exports it, and how to read it back."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec

from analyzer.errors import DataError
from analyzer.timing.kernels import FORMS
from analyzer.timing.residual import Residual


class OperatorFit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One class of operators on one device with one software: form, parameters, how good it is."""

    hardware: str
    op: str
    dtype: str
    software: str
    kv_dtype: str = ""
    routing: str = ""
    kernel: str = ""
    """Which of the memory-bound kernels."""
    form: str
    params: dict[str, float]
    at_bound: tuple[str, ...] = ()
    """Parameters that the data pushed against a bound: not to be believed one by one."""
    rows: int
    groups: int
    """Different shapes among the rows; whole shapes were held out."""
    held_out_form: float
    """Geomean error of the form alone on held-out shapes, as a ratio."""
    held_out_bias: float
    held_out_residual: float | None = None
    covered: float = 0.0
    """Share of held-out rows inside of the residual's hull."""
    feature_names: tuple[str, ...]
    hull: tuple[tuple[float, float], ...]
    residual: Residual | None = None
    data_sha256: str

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise DataError(f"operator fit {self.name}: no kernel form {self.form!r}")

    @property
    def name(self) -> str:
        """Device, class, format and software in one line."""
        parts = (
            self.hardware, self.op, self.dtype, self.software,
            self.kv_dtype, self.routing, self.kernel,
        )  # fmt: skip
        return "|".join(parts).rstrip("|")

    @property
    def kernel_params(self) -> Any:
        """The parameters as the form's own struct; those that came after the fit are without
        effect."""
        form = FORMS[self.form]
        later = {
            name: entry.ideal for name, entry in form.parameters.items() if name not in self.params
        }
        return form.params(**later, **self.params)


CATALOG = Path(__file__).parents[1] / "catalog" / "operators.json"
"""Forms fitted on the project's own operator records, residuals left out."""


@functools.cache
def catalog_fits() -> tuple[OperatorFit, ...]:
    """The fits that come with the project."""
    return tuple(read_operator_fits(CATALOG))


def read_operator_fits(path: Path) -> list[OperatorFit]:
    """The fits of an exported file; a DataError that names the file where it is broken."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[OperatorFit])
    except (msgspec.DecodeError, OSError) as error:
        raise DataError(f"{path}: not an export of operator fits ({error})") from None
