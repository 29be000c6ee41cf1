"""A headless Chromium where the machine has one: Debian's, with its driver."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
PATIENCE_S = 60.0


def missing() -> str:
    """What a browser test lacks here; '' where it can run."""
    lacking = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    return f"needs {' and '.join(lacking)}" if lacking else ""


def opened(downloads: Path, width: int = 1280, height: int = 900) -> Any:
    """A browser window; below 600 pixels it is a phone."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    # A script's click is no person's: without this, the browser would ask before a second file.
    prefs = {
        "download.default_directory": str(downloads),
        "profile.default_content_setting_values.automatic_downloads": 1,
    }
    options.add_experimental_option("prefs", prefs)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if width < 600:
        metrics = {"width": width, "height": height, "pixelRatio": 1.0}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def wait_for(found: Callable[[], Any]) -> Any:
    """The first true answer; a busy machine may take long to give it.

    While a page is drawn anew, what was found on it a moment ago may be gone: that is no answer.
    """
    from selenium.common.exceptions import WebDriverException

    end_s, trouble = time.monotonic() + PATIENCE_S, "it did not come"
    while time.monotonic() < end_s:
        try:
            answer = found()
        except WebDriverException as error:
            answer, trouble = None, str(error.msg)
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(trouble)


FIGURES = """
const found = [];
const look = (root) => {
  for (const each of root.querySelectorAll("*")) {
    const drawn = each.matches(".plumbline-figure svg[role=img]");
    if (drawn) found.push(each.getAttribute("aria-label"));
    if (each.shadowRoot) look(each.shadowRoot);
  }
};
look(document);
return found;
"""
CLICK = """
const [title, kind] = arguments;
const look = (root) => {
  for (const each of root.querySelectorAll("*")) {
    if (each.matches("button") && each.title === `Download “${title}” as ${kind}`) return each;
    if (each.shadowRoot) { const inner = look(each.shadowRoot); if (inner) return inner; }
  }
  return null;
};
look(document).click();
"""


def figures(browser: Any) -> list[str]:
    """Titles of all figures that are drawn."""
    found: list[str] = browser.execute_script(FIGURES)
    return found


def download(browser: Any, folder: Path, title: str, kind: str) -> bytes:
    """What a figure's button saves."""
    before = set(folder.iterdir())
    browser.execute_script(CLICK, title, kind)
    made = wait_for(lambda: [
        path for path in set(folder.iterdir()) - before if path.suffix == f".{kind.lower()}"
    ])  # fmt: skip
    return bytes(made[0].read_bytes())


def requested(browser: Any) -> set[str]:
    """Every address that the browser asked for since it was last asked."""
    import json

    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
