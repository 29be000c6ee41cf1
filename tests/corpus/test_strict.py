"""Configuration is read strictly: every mistake names file, key and the nearest right key."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import ConfigError, DataError, InputError
from analyzer.strict import convert, decode_json, decode_lines, decode_toml
from corpus.trial import outcome


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bandwidth_Bps: float
    source: str = ""


class System(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    links: dict[str, Link] = {}
    tiers: tuple[Link, ...] = ()
    host: Link | None = None
    ports: tuple[int, str] | None = None


def _toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "system.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_right_document_is_read(tmp_path: Path) -> None:
    path = _toml(tmp_path, 'name = "x"\n[links.nvlink]\nbandwidth_Bps = 4\n')
    assert decode_toml(path, System).links["nvlink"] == Link(bandwidth_Bps=4.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "x"\n[links.nv]\nbandwith_Bps = 3', "links.nv: unknown key 'bandwith_Bps' (did"),
        ('name = "x"\n[links.nv]\nbandwith_Bps = 3', "bandwidth_Bps?"),
        ('name = "x"\n[links.nv]\nbandwidth_Bps = "3"', "links.nv.bandwidth_Bps: Expected 'float'"),
        ('name = "x"\n[links.nv]\nbandwidth_Bps = inf', "links.nv.bandwidth_Bps: inf is not"),
        ('name = "x"\n[links.nv]\nbandwidth_Bps = nan', "nan is not finite"),
        ('name = "x"\n[links.nv]\n', "links.nv: key 'bandwidth_Bps' is missing"),
        ('name = "x"\ntiers = [{bandwidth_Bps=1},{bandwidth_Bps=1, sauce="y"}]', "tiers[1]: unkn"),
        ('name = "x"\n[host]\nbandwidthBps = 3', "host: unknown key 'bandwidthBps'"),
        ('name = "x"\nports = [1, 2]', "ports[1]: Expected 'str'"),
        ('name = "x"\nzzz = 1', "known: host, links, name, ports, tiers"),
        ('name = "x"\nname = "y"', "Cannot overwrite a value"),
        ("name = 3", "name: Expected 'str', got 'int' 3"),
        ("", "key 'name' is missing"),
        ("name = [", "not valid TOML"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("x = " + "9" * 5000, "digits"),
    ],
)
def test_a_wrong_document_names_file_key_and_remedy(tmp_path: Path, text: str, says: str) -> None:
    path = _toml(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        decode_toml(path, System)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": "a", "name": "b"}', "key 'name' is given twice"),
        ('{"name": "a", "host": {"bandwidth_Bps": NaN}}', "NaN is not a number"),
        ('{"name": "a", "host": {"bandwidth_Bps": 1e999}}', "host.bandwidth_Bps: inf"),
        ("[]", "Expected 'object'"),
        ("{", "not valid JSON"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_wrong_json_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "system.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        decode_json(path, System)
    assert says in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "system.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "x"\r\n')
    assert decode_toml(path, System).name == "x"


def test_what_is_not_utf8_or_not_there_says_so(tmp_path: Path) -> None:
    path = tmp_path / "system.toml"
    path.write_bytes(b'name = "\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8 at byte 8"):
        decode_toml(path, System)
    with pytest.raises(ConfigError, match="cannot be read"):
        decode_toml(tmp_path / "absent.toml", System)


def test_lines_are_read_one_by_one_and_named(tmp_path: Path) -> None:
    path = tmp_path / "links.jsonl"
    path.write_text('{"bandwidth_Bps": 1}\n\n{"bandwidth_Bps": 2}\n{"bandwidth": 3}\n')
    lines = decode_lines(path, Link)
    assert next(lines) == (1, Link(bandwidth_Bps=1.0))
    assert next(lines) == (3, Link(bandwidth_Bps=2.0))
    with pytest.raises(DataError, match=r"line 4: unknown key 'bandwidth'"):
        next(lines)


_KEYS = st.sampled_from(["name", "links", "tiers", "host", "ports", "bandwidth_Bps", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(document=st.dictionaries(_KEYS, JSON, max_size=4))
def test_any_document_is_read_or_refused_in_one_line(document: dict[str, object]) -> None:
    system = outcome(lambda: convert(document, System, "fuzz"))
    if isinstance(system, InputError):
        assert str(system).startswith("fuzz: ")
        assert len(str(system)) > len("fuzz: ")
    else:
        assert convert(json.loads(msgspec.json.encode(system)), System, "again") == system
