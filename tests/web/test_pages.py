"""Every page, without a browser: it renders, its address is its state, its faults are sentences."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

testing = pytest.importorskip("streamlit.testing.v1")

from reports.web.frame import NOT_YOURS  # noqa: E402 - needs Streamlit
from reports.web.pages import PAGES  # noqa: E402
from reports.web.state import plain  # noqa: E402

from .made_up_points import made_up_points  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def report(tmp_path_factory, monkeypatch):
    """The validation page reads a small report, not the shipped one."""
    folder = tmp_path_factory.getbasetemp() / "points"
    folder.mkdir(exist_ok=True)
    made_up_points(folder)
    monkeypatch.setattr("reports.web.validated.FOLDER", folder)


def opened(page: str, **query: str):
    """A page as it is when its address is opened."""
    script = f"from reports.web.frame import show\nshow({page!r})\n"
    app = testing.AppTest.from_string(script, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def healthy(app) -> None:
    """No traceback, and no fault of the page's own."""
    assert not app.exception
    assert not [error.value for error in app.error if plain(NOT_YOURS) in error.value]


def texts(app) -> str:
    """Everything that a page says."""
    shown = [*app.error, *app.warning, *app.info]
    said = [each.value for each in shown]
    return "\n".join([*said, *(each.proto.body for each in app.get("html"))])


@pytest.mark.parametrize("page", PAGES)
def test_a_page_answers_without_any_setup(page) -> None:
    app = opened(page)
    healthy(app)
    assert not app.error
    assert f'<h1 class="pl-title">{PAGES[page].title}</h1>' in texts(app)
    assert 'class="pl-card"' in texts(app) or "<td" in texts(app)
    assert app.get("bidi_component")
    assert dict(app.query_params) == {}


def test_the_address_is_the_state_of_the_page() -> None:
    app = opened("predict", model="qwen3-8b", batch="3", weights="fp8", arrival="closed_loop")
    healthy(app)
    assert "qwen3-8b" in texts(app)
    assert app.selectbox(key="predict.weights").value == "fp8"
    assert app.number_input(key="predict.batch").value == 3
    app.number_input(key="predict.batch").set_value(5).run()
    healthy(app)
    asked = {"model": "qwen3-8b", "batch": "5", "weights": "fp8", "arrival": "closed_loop"}
    assert dict(app.query_params) == asked
    again = opened("predict", **asked)
    assert texts(again) == texts(app)


def test_an_address_that_changes_under_the_page_is_read_anew() -> None:
    app = opened("predict", batch="3")
    app.query_params["batch"] = "7"
    app.run()
    assert app.number_input(key="predict.batch").value == 7


def test_what_cannot_be_read_is_said_until_something_is_chosen() -> None:
    app = opened("predict", batch="abc", colour="red")
    healthy(app)
    assert len(app.warning) == 2
    assert "batch must be a whole number" in texts(app)
    app.number_input(key="predict.batch").set_value(2).run()
    assert not app.warning


def test_an_impossible_plan_is_a_sentence() -> None:
    app = opened("predict", model="deepseek-v3", system="RTX4090", tp="4")
    healthy(app)
    assert len(app.error) == 1
    assert "does not fit RTX4090" in app.error[0].value.replace("\\", "")


@pytest.mark.parametrize(
    ("page", "query", "said"),
    [
        ("plan", {"tpot_ms": "0.01"}, "plans keeps promise and budget"),
        ("plan", {"systems": ""}, "choose at least one system"),
        ("plan", {"model": "llama-3.1-405b", "systems": "T4", "devices": "1"}, ""),
        ("serve", {"model": "llama-3.1-405b", "tp": "1"}, "leaves no memory for a KV cache"),
        ("require", {"ranks": "3"}, "tp=3 does not divide"),
        ("require", {"case": "own", "ttft_ms": "", "tpot_ms": ""}, "needs a promise"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(page, query, said) -> None:
    app = opened(page, **query)
    healthy(app)
    assert app.error
    assert said in app.error[0].value.replace("\\", "")


def test_a_form_is_read_when_it_is_submitted() -> None:
    app = opened("serve", requests="20")
    healthy(app)
    app.number_input(key="serve.requests").set_value(30)
    app.button[0].click().run()
    healthy(app)
    assert dict(app.query_params) == {"requests": "30"}
    assert "30 requests" in texts(app)


def test_a_promise_can_be_taken_back() -> None:
    app = opened("plan", ttft_ms="900", tpot_ms="30")
    assert app.number_input(key="plan.ttft_ms").value == 900
    app.number_input(key="plan.ttft_ms").set_value(None)
    app.button[0].click().run()
    healthy(app)
    assert not app.warning
    assert dict(app.query_params) == {"ttft_ms": "", "tpot_ms": "30.0"}
    assert opened("plan", ttft_ms="", tpot_ms="30").number_input(key="plan.ttft_ms").value is None


def test_text_from_an_address_is_never_markup() -> None:
    app = opened("predict", model="![x](http://a.b/c)<b>")
    healthy(app)
    assert "](http" not in texts(app)
    assert "<b>" not in app.warning[0].value


@pytest.mark.parametrize("kind", ["use cases", "models", "systems", "technologies"])
def test_every_comparison_has_a_row_for_each_entry(kind) -> None:
    app = opened("compare", by=kind)
    healthy(app)
    assert texts(app).count("<tr>") >= 5


def test_a_comparison_keeps_what_the_others_chose() -> None:
    app = opened("compare", by="models", models="llama-3-8b,qwen3-8b", stacks="6")
    app.selectbox(key="compare.by").set_value("technologies").run()
    healthy(app)
    assert app.number_input(key="compare.stacks").value == 6
    app.selectbox(key="compare.by").set_value("models").run()
    healthy(app)
    assert app.multiselect(key="compare.models").value == ["llama-3-8b", "qwen3-8b"]


def test_what_cannot_be_compared_is_said_beside_the_rest() -> None:
    app = opened("compare", by="systems", systems="AppleM2Max,H100-SXM", model="llama-3.1-405b")
    healthy(app)
    assert len(app.warning) == 1
    assert "AppleM2Max" in app.warning[0].value


def test_the_report_can_be_filtered_to_nothing() -> None:
    app = opened("validation", system="A100-SXM-80GB", metric="ttft", load="served")
    healthy(app)
    assert app.info


def test_a_report_that_was_never_made_is_a_sentence(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("reports.web.validated.FOLDER", tmp_path)
    app = opened("validation")
    healthy(app)
    assert "plumbline validate" in app.error[0].value.replace("\\", "")


NUMBERS = ("0", "1", "2", "65536", "4000000", "1000000", "-1", "1e300", "9" * 30, "nan", "")
WORDS = ("llama-3-8b", "deepseek-v3", "mamba2-2.7b", "RTX3090", "H100-SXM", "ideal", "closed_loop",
         "fp8", "int4-awq-g128", "nvfp4", "auto", "256", "systems", "technologies", "served",
         "all", "hbm4,nvlink5", "no", "yes", "closed", "bursty", "own", "user",
         "A100-SXM-80GB,T4")  # fmt: skip
KEYS = ("model", "system", "batch", "input", "output", "tp", "pp", "dp", "ep", "weights", "kv",
        "engine", "arrival", "basis", "by", "models", "systems", "technologies", "cases", "stacks",
        "ttft_ms", "tpot_ms", "metric", "load", "way", "axis", "rate", "come", "requests", "users",
        "case", "ranks", "spread", "devices", "objective", "formats", "split",
        "surely")  # fmt: skip
QUERIES = st.dictionaries(
    st.sampled_from(KEYS) | st.text("ab=&%#/\x00é", max_size=6),
    st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | st.text(max_size=30),
    max_size=8,
)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(PAGES)), QUERIES)
def test_no_address_gives_a_traceback(page, query) -> None:
    healthy(opened(page, **query))
