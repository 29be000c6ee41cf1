"""What is believed of a machine before any measurement of it: a centre and a width per rate.

The generic priors below are wide. Calibration narrows them by measurements; `kinship.py` moves
them towards what machines and engines of the same kind were found to do.
"""

from __future__ import annotations

import msgspec
import numpy as np

LINEAR = frozenset({
    "gqa_exponent", "interference", "rows_few", "stream_overlap", "unsplit_cost", "wave_loss",
})  # fmt: skip
"""Fitted as they are; all others by their logarithm, since they are ratios or times."""


Z90 = 1.6449
"""Deviations to either side of the centre that hold 90 % of a normal belief."""


class Prior(msgspec.Struct, frozen=True, kw_only=True):
    """A normal belief about one rate, in its fitting scale (logarithm unless LINEAR)."""

    name: str
    centre: float
    width: float
    before: float = 0.0
    """Width before this machine's operators narrowed it; 0: nothing did."""

    @property
    def ignorance(self) -> float:
        """Width before anything was measured on this machine."""
        return self.before or self.width

    @property
    def value(self) -> float:
        """The centre, as a rate."""
        return self.centre if self.name in LINEAR else float(np.exp(self.centre))

    def interval(self) -> tuple[float, float]:
        """Where the rate lies with 90 %, if the belief is right."""
        ends = (self.centre - Z90 * self.width, self.centre + Z90 * self.width)
        return ends if self.name in LINEAR else (float(np.exp(ends[0])), float(np.exp(ends[1])))


def prior(name: str, value: float, width: float) -> Prior:
    """A belief centred on `value`, with `width` in the fitting scale."""
    centre = value if name in LINEAR else float(np.log(value))
    return Prior(name=name, centre=centre, width=width)


GENERIC: dict[str, Prior] = {
    entry.name: entry
    for entry in (
        prior("gemm_eff_32", 0.6, 0.5),
        prior("gemm_eff_16", 0.65, 0.35),
        prior("gemm_eff_8", 0.5, 0.4),
        prior("gemm_eff_block", 0.4, 0.4),
        prior("gemm_eff_4", 0.4, 0.5),
        prior("gemm_half", 15.0, 0.7),
        prior("wave_loss", 0.4, 0.3),
        prior("expert_eff", 0.8, 0.3),
        prior("expert_eff_8", 0.75, 0.3),
        prior("expert_gemm_eff", 0.5, 0.4),
        prior("attention_eff", 0.35, 0.5),
        prior("attention_half", 200.0, 1.0),
        prior("mem_eff", 0.75, 0.25),
        prior("mem_eff_8", 0.65, 0.35),
        prior("mem_eff_4", 0.75, 0.4),
        prior("kv_eff", 0.6, 0.4),
        prior("kv_splits", 4.0, 1.5),
        prior("kv_narrow_eff", 0.7, 0.5),
        prior("mem_wide", 1.0, 0.4),
        prior("rows_wide", 1.0, 0.5),
        prior("rows_few", 0.9, 0.4),
        prior("turned_eff", 1.0, 0.4),
        prior("turned_wide", 1.0, 0.4),
        prior("kv_wide", 1.0, 1.0),
        prior("attention_wide", 1.0, 0.7),
        prior("half_wide", 1.0, 0.7),
        prior("gqa_exponent", 0.25, 0.3),
        prior("query_cost", 2.0, 1.0),
        prior("unsplit_cost", 0.0, 30.0),
        prior("vector_eff", 0.5, 0.4),
        prior("sharpness", 3.0, 0.6),
        prior("sharpness_wide", 1.0, 0.7),
        prior("launch_s", 2e-6, 1.0),
        prior("linear_s", 1e-5, 1.5),
        prior("host_launch_s", 5e-6, 1.5),
        prior("prefill_launch_s", 2e-5, 1.0),
        prior("step_s", 2e-3, 1.5),
        prior("sequence_s", 3e-5, 1.5),
        prior("prefill_s", 5e-3, 1.5),
        prior("token_s", 2e-6, 1.0),
        prior("stream_overlap", 0.8, 0.15),
        prior("cold_s", 0.03, 1.0),
        prior("burst", 0.05, 0.1),
        prior("interference", 1.0, 0.3),
        prior("collective_s", 8e-6, 1.0),
        prior("link_eff", 0.6, 0.5),
    )
}
