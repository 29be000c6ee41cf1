"""Kernel forms: seconds of one kernel from its shape, a device's figures and a few parameters.

Pure and vectorised: a `…Work` of arrays, a `Chip`, a `…Params` in; seconds out. With ideal
parameters a form is never faster than the device's peaks; `FORMS` lists them for fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from analyzer.timing.kernels import decode, experts, gemm, prefill, stream
from analyzer.timing.kernels.common import Array, Chip
from analyzer.timing.rates import Parameter

__all__ = ["FORMS", "Chip", "Form"]


class Form(NamedTuple):
    """A kernel form and all that fitting needs to know of it."""

    time: Callable[[Any, Chip, Any], Array]
    params: type
    parameters: Mapping[str, Parameter]


FORMS: dict[str, Form] = {
    "gemm": Form(gemm.gemm_time, gemm.GemmParams, gemm.PARAMETERS),
    "attn_decode": Form(decode.decode_time, decode.DecodeParams, decode.PARAMETERS),
    "attn_prefill": Form(prefill.prefill_time, prefill.PrefillParams, prefill.PARAMETERS),
    "moe": Form(experts.experts_time, experts.ExpertParams, experts.PARAMETERS),
    "stream": Form(stream.stream_time, stream.StreamParams, stream.PARAMETERS),
}
