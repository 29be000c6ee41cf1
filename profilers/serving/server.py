"""The server under test: started and stopped, or attached to; what it really is, read back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from analyzer.errors import ConfigError, ServerFailed
from analyzer.records import Scalar
from profilers.environment import redact_arguments
from profilers.serving.options import VllmServer
from profilers.serving.prometheus import fetch, parse

_QUIET = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_POLL_S = 0.25
_TAIL = 15
_LOG_FACTS: dict[str, re.Pattern[str]] = {
    "attention_backend": re.compile(r"Using (?:the )?(\S+)(?: attention)? backend", re.I),
    "kv_cache_tokens": re.compile(r"KV cache size: ([\d,]+) tokens"),
    "engine_config": re.compile(r"with config: (.*)"),
}
_CONFIG_FACTS = (
    "dtype",
    "enforce_eager",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "kv_cache_dtype",
    "quantization",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "speculative_config",
    "load_format",
)


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a server says about itself; None: it does not say."""

    version: str | None = None
    max_model_tokens: int | None = None
    kv_blocks: int | None = None
    """As the server counts them. vLLM keeps one of them for itself."""
    block_tokens: int | None = None
    prefix_caching: bool | None = None
    more: dict[str, Scalar] = {}

    def as_environment(self) -> dict[str, Scalar]:
        """Flat, for a record."""
        named = {
            "server_version": self.version,
            "server_max_model_tokens": self.max_model_tokens,
            "server_kv_blocks": self.kv_blocks,
            "server_block_tokens": self.block_tokens,
            "server_prefix_caching": self.prefix_caching,
        }
        known = {name: value for name, value in named.items() if value is not None}
        return {**known, **{f"server_{name}": value for name, value in self.more.items()}}


class RunningServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server that answers."""

    url: str
    facts: ServerFacts
    process: subprocess.Popen[bytes] | None = None
    log: str | None = None

    def check_alive(self) -> None:
        """Raise ServerFailed with the log's last lines if the server has died."""
        if self.process is not None and self.process.poll() is not None:
            raise ServerFailed(
                f"the server ended with code {self.process.returncode}:\n{_tail(self.log)}"
            )


def attach(url: str, model: str) -> RunningServer:
    """A server that somebody else runs; raises ServerFailed if it does not answer."""
    models = _get_json(f"{url}/v1/models")
    if models is None:
        raise ServerFailed(f"{url}: no answer to /v1/models; is the server up?")
    names = [str(each.get("id")) for each in models.get("data", []) if isinstance(each, dict)]
    if names and model not in names:
        raise ConfigError(f"{url} does not serve '{model}', but: {', '.join(names[:10])}")
    return RunningServer(url=url, facts=read_facts(url, model))


@contextlib.contextmanager
def started(how: VllmServer, served_name: str) -> Iterator[RunningServer]:
    """Start vLLM, wait until it is healthy, stop it at the end whatever happens."""
    url = f"http://127.0.0.1:{how.port}"
    if _healthy(url):
        raise ConfigError(f"port {how.port} is taken by another server; choose another port")
    with tempfile.NamedTemporaryFile("w+b", prefix="vllm-", suffix=".log", delete=False) as log:
        process = _launch(how, served_name, log.fileno())
    try:
        _wait_until_healthy(how, url, process, log.name)
        facts = read_facts(url, served_name)
        more = {**facts.more, **log_facts(Path(log.name).read_text(errors="replace"))}
        more["command"] = " ".join(redact_arguments(list(how.flags)))
        facts = msgspec.structs.replace(facts, more=more)
        yield RunningServer(url=url, facts=facts, process=process, log=log.name)
    finally:
        _stop(process, how.stop_s)
        Path(log.name).unlink(missing_ok=True)


def read_facts(url: str, model: str) -> ServerFacts:
    """Version, longest sequence and KV blocks, as far as the server tells."""
    version = _get_json(f"{url}/version") or {}
    models = _get_json(f"{url}/v1/models") or {}
    longest = [
        each.get("max_model_len")
        for each in models.get("data", [])
        if isinstance(each, dict) and each.get("id") == model
    ]
    cache = cache_labels(fetch(url) or "")
    return ServerFacts(
        version=str(version["version"]) if "version" in version else None,
        max_model_tokens=longest[0] if longest and isinstance(longest[0], int) else None,
        kv_blocks=_whole(cache.get("num_gpu_blocks")),
        block_tokens=_whole(cache.get("block_size")),
        prefix_caching=_truth(cache.get("enable_prefix_caching")),
        more={name: cache[name] for name in ("cache_dtype",) if name in cache},
    )


def cache_labels(page: str) -> Mapping[str, str]:
    """Labels of vLLM's cache_config_info, which hold its real cache configuration."""
    for sample in parse(page):
        if sample.name == "vllm:cache_config_info":
            return sample.labels
    return {}


def log_facts(log: str) -> dict[str, Scalar]:
    """What vLLM's log tells that its endpoints do not."""
    found: dict[str, Scalar] = {}
    for name, pattern in _LOG_FACTS.items():
        match = pattern.search(log)
        if match is not None:
            found[name] = match.group(1)
    config = str(found.pop("engine_config", ""))
    for name in _CONFIG_FACTS:
        match = re.search(rf"\b{name}=([^,)]+)", config)
        if match is not None:
            found[name] = match.group(1)
    return found


def _launch(how: VllmServer, name: str, log: int) -> subprocess.Popen[bytes]:
    command = [how.python, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", how.model, "--served-model-name", name]
    command += ["--host", "127.0.0.1", "--port", str(how.port), *how.flags]
    environment = {**os.environ, **_QUIET, **how.environment}
    try:
        return subprocess.Popen(  # noqa: S603
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            # A group of its own: vLLM's children end with it, and Ctrl-C reaches only us.
            start_new_session=True,
        )
    except OSError as error:
        raise ConfigError(f"{how.python}: cannot be started: {error.strerror}") from None


def _wait_until_healthy(
    how: VllmServer, url: str, process: subprocess.Popen[bytes], log: str
) -> None:
    deadline = time.monotonic() + how.ready_s
    while not _healthy(url):
        if process.poll() is not None:
            raise ServerFailed(
                f"the server ended with code {process.returncode} while starting:\n{_tail(log)}"
            )
        if time.monotonic() > deadline:
            raise ServerFailed(f"the server was not ready in {how.ready_s:g} s:\n{_tail(log)}")
        time.sleep(_POLL_S)


def _stop(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Ask, wait, then force the whole group."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def _get_json(url: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
            content = json.loads(answer.read())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _truth(text: str | None) -> bool | None:
    return {"True": True, "False": False}.get(text or "")


def _tail(log: str | None) -> str:
    if log is None:
        return ""
    lines = Path(log).read_text(errors="replace").splitlines()
    return "\n".join(lines[-_TAIL:])
