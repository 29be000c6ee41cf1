"""Where an operator's time comes from: one interface, several sources, a ladder of fallbacks.

In come counted operators (an OpTable) and a system; out come seconds, a relative uncertainty, and
which source said so. `analytic` is always there; measured tables, a residual on top of the kernel
forms, a systolic-array simulator and hooks that measure here and now are asked first where named.
Packages that a source needs are imported when it is first asked.
"""

from analyzer.sources.base import (
    Answer,
    Context,
    Source,
    Sourced,
    ladder,
    register,
    source_names,
    time_with,
)

__all__ = [
    "Answer",
    "Context",
    "Source",
    "Sourced",
    "ladder",
    "register",
    "source_names",
    "time_with",
]
