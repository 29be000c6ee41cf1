"""The pages in a real Chromium: drawn, submitted, refused in a sentence, saved, on a phone too."""

from __future__ import annotations

import pytest

pytest.importorskip("streamlit")
pytest.importorskip("selenium")

from selenium.webdriver.common.by import By

from analyzer.errors import InputError
from reports.web.asking import ask
from reports.web.figure import csv_text
from reports.web.pages import PAGES
from reports.web.predicted import batches
from reports.web.static_compare import comparison
from reports.web.static_site import index, page
from reports.web.static_validation import validation
from reports.web.validated import Points, errors, load

from . import browser as chromium
from .made_up_points import made_up_points
from .running import running

pytestmark = pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing() or "runs")
ASKED = {"model": "llama-3-8b", "system": "H100-SXM", "batch": 8, "input": 1024, "output": 256}
STEP_UP = """
const up = document.querySelector('[data-testid="stNumberInputStepUp"]');
if (up) up.click();
return Boolean(up);
"""
SUBMIT = """
const wanted = arguments[0];
const label = [...document.querySelectorAll('[data-testid="stNumberInput"]')]
  .find((each) => each.textContent.includes("Requests to simulate"));
if (!label) return false;
const field = label.querySelector("input");
const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
set.call(field, wanted);
field.dispatchEvent(new Event("input", { bubbles: true }));
field.dispatchEvent(new Event("focusout", { bubbles: true }));
document.querySelector('[data-testid="stFormSubmitButton"] button').click();
return true;
"""
CURVE = "Time per output token as the batch grows"


@pytest.fixture(scope="module")
def port():
    with running() as (number, _):
        yield number


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def desktop(downloads):
    made = chromium.opened(downloads)
    yield made
    made.quit()


@pytest.fixture(scope="module")
def phone(downloads):
    made = chromium.opened(downloads, 390, 844)
    yield made
    made.quit()


def text(browser) -> str:
    """What a person can read."""
    return str(browser.find_element(By.TAG_NAME, "body").text)


def go(browser, port: int, address: str) -> None:
    """Open a page and wait for its title."""
    browser.get("about:blank")
    browser.get(f"http://127.0.0.1:{port}/{address}")
    chromium.wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, ".pl-title"))


@pytest.mark.parametrize("width", ["desktop", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_drawn(name, width, port, request) -> None:
    browser = request.getfixturevalue(width)
    go(browser, port, name)
    if name == "validation" and not _report_is_there():
        chromium.wait_for(lambda: "plumbline validate" in text(browser))
        return
    chromium.wait_for(lambda: chromium.figures(browser))
    assert "fault of its own" not in text(browser)
    assert "Page not found" not in text(browser)
    assert "Traceback" not in text(browser)
    wide = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]


def _report_is_there() -> bool:
    try:
        load()
    except InputError:
        return False
    return True


def test_an_address_opens_what_it_says(desktop, port) -> None:
    go(desktop, port, "predict?model=qwen3-8b&batch=4&weights=fp8")
    chromium.wait_for(lambda: "qwen3-8b (8.19 billion parameters)" in text(desktop))
    assert "4 sequences at once" in text(desktop)


def test_an_impossible_plan_is_a_sentence(desktop, port) -> None:
    go(desktop, port, "predict?model=deepseek-v3&system=RTX4090&tp=4")
    chromium.wait_for(lambda: "deepseek-v3 does not fit RTX4090" in text(desktop))


def test_a_widget_changes_the_answer_and_the_address(desktop, port) -> None:
    go(desktop, port, "predict")
    chromium.wait_for(lambda: "8 sequences at once" in text(desktop))
    chromium.wait_for(lambda: desktop.execute_script(STEP_UP))
    chromium.wait_for(lambda: "9 sequences at once" in text(desktop))
    chromium.wait_for(lambda: "batch=9" in desktop.current_url)


def test_a_form_is_submitted(desktop, port) -> None:
    go(desktop, port, "serve?requests=50")
    chromium.wait_for(lambda: "50 ended" in text(desktop))
    assert chromium.wait_for(lambda: desktop.execute_script(SUBMIT, "60"))
    chromium.wait_for(lambda: "60 ended" in text(desktop))
    assert "requests=60" in desktop.current_url


def test_a_promise_that_no_plan_keeps_is_a_sentence(desktop, port) -> None:
    go(desktop, port, "plan?tpot_ms=0.01")
    chromium.wait_for(lambda: "plans keeps promise and budget" in text(desktop))
    assert "Traceback" not in text(desktop)


def test_a_figure_is_saved_as_it_is(desktop, port, downloads) -> None:
    go(desktop, port, "predict")
    chromium.wait_for(lambda: CURVE in chromium.figures(desktop))
    wanted = csv_text(batches(ask(ASKED))).splitlines()
    found = chromium.download(desktop, downloads, CURVE, "CSV").decode().splitlines()
    assert found[0] == wanted[0]
    assert len(found) == len(wanted)
    for mine, theirs in zip(found[1:], wanted[1:], strict=True):
        assert list(map(float, mine.split(","))) == list(map(float, theirs.split(",")))
    picture = chromium.download(desktop, downloads, CURVE, "PNG")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 10_000
    assert chromium.download(desktop, downloads, CURVE, "SVG").startswith(b"<svg")


def test_nothing_is_asked_of_other_machines(desktop, port) -> None:
    chromium.requested(desktop)
    go(desktop, port, "predict")
    chromium.wait_for(lambda: chromium.figures(desktop))
    local = (f"http://127.0.0.1:{port}/", f"ws://127.0.0.1:{port}/", "data:", "blob:", "about:")
    assert not [each for each in chromium.requested(desktop) if not each.startswith(local)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The static pages of a small report and few models."""
    folder = tmp_path_factory.mktemp("site")
    made_up_points(folder)
    held = load(folder)
    small = comparison(("llama-3.1-8b", "qwen3-8b"), ("H100-SXM", "RTX4090"))
    texts = {
        "index": index(),
        "validation": page("validation", "Validation", "About.", validation(held)),
        "compare": page("compare", "Compare", "About.", small),
    }
    for name, html in texts.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return folder, held


@pytest.mark.parametrize("width", ["desktop", "phone"])
@pytest.mark.parametrize("name", ["validation", "compare"])
def test_a_static_page_opens_from_its_file(name, width, site, request) -> None:
    browser = request.getfixturevalue(width)
    chromium.requested(browser)
    browser.get("about:blank")
    browser.get((site[0] / f"{name}.html").as_uri())
    chromium.wait_for(lambda: len(chromium.figures(browser)) >= 3)
    assert not [
        each
        for each in chromium.requested(browser)
        if not each.startswith(("file:", "data:", "about:"))
    ]
    wide = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]


def test_the_static_report_counts_as_the_app_does(desktop, site) -> None:
    folder, held = site
    desktop.get("about:blank")
    desktop.get((folder / "validation.html").as_uri() + "#metric=tpot&system=H100-SXM")
    chromium.wait_for(lambda: chromium.figures(desktop))
    texts = held.texts
    some = held.where(
        (texts["metric"] == "tpot")
        & (texts["system"] == "H100-SXM")
        & (texts["load"] == "fixed batch")
    )
    assert isinstance(some, Points)
    found = errors(some, "held_out_s")
    assert f"Geomean error\n{100 * found.geomean:.1f} %" in text(desktop)
    assert f"Bias\n{100 * found.bias:.1f} %" in text(desktop)
    assert f"{found.rows} rows" in text(desktop)


@pytest.mark.parametrize("by", ["use cases", "models", "systems", "technologies"])
def test_every_static_comparison_is_drawn(by, desktop, site) -> None:
    desktop.get("about:blank")
    desktop.get((site[0] / "compare.html").as_uri() + f"#by={by.replace(' ', '+')}")
    chromium.wait_for(lambda: f"{by} side by side" in text(desktop))
    assert len(chromium.wait_for(lambda: chromium.figures(desktop))) == 4
