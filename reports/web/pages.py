"""The pages, in the order in which they are offered. A new one is one entry here and one file."""

from __future__ import annotations

from typing import NamedTuple


class Page(NamedTuple):
    """One page: what it is called, and the module whose `show()` puts it on the screen."""

    title: str
    module: str


PAGES: dict[str, Page] = {
    "predict": Page("Predict", "reports.web.page_predict"),
    "compare": Page("Compare", "reports.web.page_compare"),
    "plan": Page("Plan under an SLO", "reports.web.page_plan"),
    "serve": Page("Serve", "reports.web.page_serve"),
    "require": Page("Requirements and sensitivity", "reports.web.page_require"),
    "validation": Page("Validation", "reports.web.page_validation"),
}
