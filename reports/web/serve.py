"""The server's command line: on this machine only, silent to the outside, nothing to upload."""

from __future__ import annotations

import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from analyzer.errors import ConfigError

APP = Path(__file__).parent / "app.py"
HOST = "127.0.0.1"
PORT = 8501
SETTINGS: tuple[tuple[str, str], ...] = (
    ("server.address", HOST),
    ("server.headless", "true"),
    ("server.allowedHosts", HOST),
    ("server.allowedHosts", "localhost"),
    ("server.enableXsrfProtection", "true"),
    ("server.enableStaticServing", "false"),
    ("server.enableAgentApi", "false"),
    ("server.maxUploadSize", "1"),
    ("server.maxMessageSize", "20"),
    ("server.maxWidgetStateSize", "1"),
    ("server.fileWatcherType", "none"),
    ("server.disconnectedSessionTTL", "30"),
    ("browser.gatherUsageStats", "false"),
    ("client.toolbarMode", "minimal"),
    ("client.showErrorDetails", "none"),
    ("client.showErrorLinks", "false"),
    ("runner.magicEnabled", "false"),
    ("theme.light.primaryColor", "#2b6cb0"),
    ("theme.dark.primaryColor", "#6ba6e8"),
    ("theme.light.textColor", "#1c2530"),
    ("theme.dark.backgroundColor", "#14181d"),
    ("theme.dark.secondaryBackgroundColor", "#1d232a"),
    ("theme.baseRadius", "0.5rem"),
    ("theme.headingFontSizes", '["1.6rem", "1.2rem", "1.05rem"]'),
)
"""Streamlit's settings; what stands here wins over any file of the user's."""


def server(port: int = PORT) -> list[str]:
    """The words that start the server on a port of this machine."""
    if find_spec("streamlit") is None:
        raise ConfigError("the web pages need Streamlit: pip install 'plumbline[web]'")
    if not 1 <= port <= 65_535:
        raise ConfigError(f"--port must lie between 1 and 65535, not {port}")
    flags = [f"--{name}={value}" for name, value in SETTINGS]
    return [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={port}", *flags]


def check_free(port: int) -> None:
    """Refuse a port that another program listens on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of {HOST} cannot be taken ({error.strerror}); choose another: --port"
            ) from None
