"""Fields as things to click, and the page's address kept in step with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from reports.web.state import Choice, Field, Flag, Real, Several, State, Values, Whole, parse, write

_KEPT = "kept"
"""What was last chosen, by field: pages that share a field share its value within a session."""


def read(page: str, fields: Sequence[Field]) -> None:
    """Take the page's state from its address where that is new to the session.

    Streamlit forgets widgets that a page did not show; they get back what the address says.
    """
    query = dict(st.query_params)
    fresh = st.session_state.get(f"{page}:query") != query
    missing = [field for field in fields if _key(page, field) not in st.session_state]
    if not fresh and not missing:
        return
    found = _found(fields, query)
    for field in fields if fresh else missing:
        st.session_state[_key(page, field)] = _for_widget(field, found.values[field.name])
    if fresh:
        st.session_state[f"{page}:problems"] = found.problems
        st.session_state[f"{page}:query"] = None


def _found(fields: Sequence[Field], query: dict[str, str]) -> State:
    """The state of an address; one without any is what this session chose on other pages."""
    if query:
        return parse(fields, query)
    kept: dict[str, str] = st.session_state.get(_KEPT, {})
    mine = {field.name: kept[field.name] for field in fields if field.name in kept}
    return State(parse(fields, mine).values, ())


def settle(page: str, fields: Sequence[Field]) -> tuple[Values, tuple[str, ...]]:
    """The values that the widgets hold, and what could not be read from the address.

    The address is made to say the same; once something was chosen, old complaints are over.
    """
    values = {field.name: _value(page, field) for field in fields}
    wanted = write(fields, values)
    kept: dict[str, str] = st.session_state.setdefault(_KEPT, {})
    for field in fields:
        kept.pop(field.name, None)
    kept.update(wanted)
    if wanted != dict(st.query_params):
        st.query_params.from_dict(wanted)
    if st.session_state[f"{page}:query"] not in (None, wanted):
        st.session_state[f"{page}:problems"] = ()
    st.session_state[f"{page}:query"] = wanted
    return values, st.session_state[f"{page}:problems"]


def _key(page: str, field: Field) -> str:
    return f"{page}.{field.name}"


def _for_widget(field: Field, value: Any) -> Any:
    return list(value) if isinstance(field, Several) else value


def _value(page: str, field: Field) -> Any:
    value = st.session_state[_key(page, field)]
    return tuple(value) if isinstance(field, Several) else value


def widget(page: str, field: Field) -> None:
    """The widget of one field."""
    shared: dict[str, Any] = {"key": _key(page, field), "help": field.about or None}
    if isinstance(field, Whole):
        st.number_input(field.label, field.low, field.high, step=1, **shared)
    elif isinstance(field, Real):
        # What may be left out can be emptied again.
        if field.optional:
            shared["value"] = None
        st.number_input(field.label, field.low, field.high, format="%g", **shared)
    elif isinstance(field, Choice):
        offered = field.offered(st.session_state[_key(page, field)])
        st.selectbox(field.label, offered, format_func=field.shown, **shared)
    elif isinstance(field, Several):
        st.multiselect(field.label, field.options(), max_selections=field.most, **shared)
    elif isinstance(field, Flag):
        st.toggle(field.label, **shared)


def widgets(page: str, fields: Sequence[Field], columns: int = 1) -> None:
    """Widgets of several fields, in columns that a phone shows one below the other."""
    if columns == 1:
        for field in fields:
            widget(page, field)
        return
    for start in range(0, len(fields), columns):
        places = st.columns(columns)
        for place, field in zip(places, fields[start : start + columns], strict=False):
            with place:
                widget(page, field)
