"""What the server says about itself: its Prometheus page, read along the run."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request

import msgspec

WATCHED = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "vllm:num_preemptions_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:request_queue_time_seconds_sum",
    "vllm:request_queue_time_seconds_count",
)
_LINE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\d+)?$")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the page."""

    name: str
    labels: dict[str, str]
    value: float


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The watched figures at one moment of the run (summed over engines)."""

    at_s: float
    values: dict[str, float]


def parse(page: str) -> list[Sample]:
    """The samples of a page; comments and lines that are no samples are left out."""
    samples = []
    for line in page.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        name, labels, value = match.groups()
        try:
            number = float(value)
        except ValueError:
            continue
        samples.append(Sample(name=name, labels=dict(_LABEL.findall(labels or "")), value=number))
    return samples


def watched(samples: list[Sample]) -> dict[str, float]:
    """Sums of the watched figures that are there."""
    sums: dict[str, float] = {}
    for sample in samples:
        if sample.name in WATCHED:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def fetch(url: str, timeout_s: float = 5.0) -> str | None:
    """The page, or None if there is none."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=timeout_s) as answer:  # noqa: S310
            text: str = answer.read().decode("utf-8", "replace")
            return text
    except (urllib.error.URLError, OSError):
        return None


async def watch(url: str, every_s: float, start: float, into: list[Reading]) -> None:
    """Read the page every `every_s` seconds until cancelled; skip a page that is not there."""
    while True:
        await look(url, start, into)
        await asyncio.sleep(every_s)


async def look(url: str, start: float, into: list[Reading]) -> None:
    """Read the page once, in a thread: a slow page must not hold up the load generator."""
    at_s = asyncio.get_running_loop().time() - start
    page = await asyncio.to_thread(fetch, url)
    if page is not None:
        into.append(Reading(at_s=at_s, values=watched(parse(page))))
