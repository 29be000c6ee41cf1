"""What every page has around it: style, navigation, and sentences instead of tracebacks."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import streamlit as st

from analyzer.errors import PlumblineError
from reports.web import markup
from reports.web.pages import PAGES
from reports.web.state import plain

NOT_YOURS = "This page met a fault of its own"
_LOG = logging.getLogger("plumbline.web")


def main() -> None:
    """One run of the app: the navigation, and the page that the address asks for."""
    st.set_page_config(page_title="Plumbline", page_icon="📏", layout="wide")
    first = next(iter(PAGES))
    made = [
        st.Page(partial(show, name), title=page.title, url_path=name)
        for name, page in PAGES.items()
        if name != first
    ]
    # The first page has the address of the site; its own name finds it as well.
    opening = st.Page(
        partial(show, first), title=PAGES[first].title, url_path="start", default=True
    )
    named = st.Page(
        partial(show, first), title=PAGES[first].title, url_path=first, visibility="hidden"
    )
    st.navigation([opening, named, *made], position="top").run()


def show(name: str) -> None:
    """One page, from its title to its end."""
    page = PAGES[name]
    html(f"<style>{markup.asset('page.css')}{markup.asset('app.css')}</style>")
    html(f'<h1 class="pl-title">{page.title}</h1>')
    with sentences():
        importlib.import_module(page.module).show()


@contextmanager
def sentences() -> Iterator[None]:
    """Whatever goes wrong inside is one sentence on the page."""
    try:
        yield
    except PlumblineError as error:
        refuse(str(error))
    # The edge of the app: without this, Streamlit shows visitors a traceback of ours.
    except Exception as error:
        _LOG.exception("a page failed")
        st.error(
            plain(f"{NOT_YOURS} ({type(error).__name__}: {error}). The server's log says where.")
        )


def complain(problems: Iterable[str]) -> None:
    """What could not be read from the address."""
    for problem in problems:
        st.warning(plain(f"{problem}."))


def refuse(why: str) -> None:
    """One sentence that says why there is no answer."""
    st.error(plain(f"{why}."))


def html(text: str) -> None:
    """Markup made by markup.py, in which every text is escaped."""
    if text:
        st.html(text)
