"""Saying exactly what is wrong with a document, after it has been refused.

msgspec names the innermost type, but neither the key of a mapping nor the name that was meant, so
the document is walked beside its type; this runs only on the way to an error message.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable
from typing import Any

import msgspec

from analyzer.errors import nearest


def locate(value: object, hint: Any, path: str = "") -> str | None:
    """The first fault of `value` read as `hint`, as 'path: what'; None when there is none."""
    hint = _narrow(value, hint)
    if isinstance(value, dict):
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return _locate_in_struct(value, hint, path)
        if typing.get_origin(hint) is dict:
            inner = typing.get_args(hint)[1]
            found = _first(locate(item, inner, join(path, key)) for key, item in value.items())
            return found or _fault_of_leaf(value, hint, path)
    if isinstance(value, list):
        item_hints = _item_hints(value, hint)
        triples = enumerate(zip(value, item_hints, strict=False))
        found = _first(locate(item, inner, f"{path}[{i}]") for i, (item, inner) in triples)
        return found or _fault_of_leaf(value, hint, path)
    return _fault_of_leaf(value, hint, path)


def join(path: str, key: object) -> str:
    """The dotted path of `key` inside `path`."""
    return f"{path}.{key}" if path else str(key)


def _locate_in_struct(value: dict[str, Any], hint: type[msgspec.Struct], path: str) -> str | None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(hint)}
    config = hint.__struct_config__
    known = [*fields, config.tag_field] if config.tag_field else list(fields)
    at = f"{path}: " if path else ""
    if config.forbid_unknown_fields:
        for key in value:
            if key not in known:
                meant = nearest(str(key), known) or f" (known: {', '.join(sorted(known))})"
                return f"{at}unknown key '{key}'{meant}"
    for name, field in fields.items():
        if field.required and name not in value:
            return f"{at}key '{name}' is missing"
    inner = _first(
        locate(value[name], field.type, join(path, name))
        for name, field in fields.items()
        if name in value
    )
    return inner or _fault_of_leaf(value, hint, path)


def _fault_of_leaf(value: object, hint: Any, path: str) -> str | None:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        message = re.sub(r" - at `[^`]*`$", "", str(error)).replace("`", "'")
        shown = repr(value) if isinstance(value, (str, int, float)) else ""
        said = f"{message} {shown[:60]}".rstrip()
        return f"{path}: {said}" if path else said
    return None


def _narrow(value: object, hint: Any) -> Any:
    """The member of a union that `value` was meant to be, where its shape tells."""
    if typing.get_origin(hint) is typing.Annotated:
        return _narrow(value, typing.get_args(hint)[0]) if isinstance(value, (dict, list)) else hint
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    members = [_narrow(value, member) for member in typing.get_args(hint)]
    if isinstance(value, dict):
        fitting = [m for m in members if _takes_mapping(m, value)]
    elif isinstance(value, list):
        fitting = [m for m in members if typing.get_origin(m) in (list, tuple, set, frozenset)]
    else:
        return hint
    return fitting[0] if len(fitting) == 1 else hint


def _takes_mapping(member: Any, value: dict[str, Any]) -> bool:
    if typing.get_origin(member) is dict:
        return True
    if not (isinstance(member, type) and issubclass(member, msgspec.Struct)):
        return False
    config = member.__struct_config__
    return config.tag_field is None or value.get(config.tag_field) == config.tag


def _item_hints(value: list[Any], hint: Any) -> list[Any]:
    args = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        return list(args)
    if origin in (list, tuple, set, frozenset):
        return [args[0]] * len(value)
    return []


def _first(faults: Iterable[str | None]) -> str | None:
    return next((fault for fault in faults if fault), None)
