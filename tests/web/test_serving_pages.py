"""The server itself: whom it listens to, what it is told, and many users at once."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from analyzer.errors import ConfigError
from plumbline import main
from reports.web.serve import HOST, SETTINGS, check_free, server

from .running import running

pytest.importorskip("streamlit")
ROOT = Path(__file__).parents[2]


def test_it_listens_to_this_machine_only() -> None:
    with running() as (port, pid):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        heard = [
            each.laddr
            for process in family
            for each in process.net_connections("inet")
            if each.status == psutil.CONN_LISTEN
        ]
        assert {(place.ip, place.port) for place in heard} == {(HOST, port)}
        for address in _other_addresses():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, port), timeout=2)


def _other_addresses() -> list[str]:
    """Addresses of this machine that are not loopback."""
    return [
        each.address
        for some in psutil.net_if_addrs().values()
        for each in some
        if each.family is socket.AF_INET and not each.address.startswith("127.")
    ]


def test_it_tells_nobody_and_takes_nothing() -> None:
    told = dict(SETTINGS)
    assert told["browser.gatherUsageStats"] == "false"
    assert told["client.showErrorDetails"] == "none"
    assert told["server.enableXsrfProtection"] == "true"
    words = server(8600)
    assert f"--server.address={HOST}" in words
    assert not [word for word in words if "0.0.0.0" in word]  # noqa: S104 - that is the point


def test_no_page_takes_files_or_paths() -> None:
    for path in (ROOT / "reports" / "web").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "file_uploader" not in text
        assert "text_input" not in text


@pytest.mark.parametrize("port", [0, -1, 70_000])
def test_an_impossible_port_is_refused(port, capsys) -> None:
    assert main(["web", "--port", str(port)]) == 2
    assert "--port must lie between" in capsys.readouterr().err


def test_a_port_in_use_is_one_line(capsys) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["web", "--port", str(port)]) == 2
        with pytest.raises(ConfigError):
            check_free(port)
    assert "choose another: --port" in capsys.readouterr().err


def test_without_streamlit_it_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setattr("reports.web.serve.find_spec", lambda name: None)
    assert main(["web"]) == 2
    assert "plumbline[web]" in capsys.readouterr().err


def test_twenty_users_click_at_once() -> None:
    words = [sys.executable, "scripts/web_load.py", "--users", "20", "--clicks", "2"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 answers" in done.stdout
    assert " 0 failed" in done.stdout
