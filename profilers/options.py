"""What a user may choose about a campaign."""

from __future__ import annotations

from typing import Literal

import msgspec

from analyzer.errors import ConfigError, nearest

ABOUT = {
    "operators": "matrix products, attention, experts, norms, sampling, ... at models' sizes",
    "links": "memory, host to device, device to device, disk",
    "collectives": "all-reduce and its kin between devices, or processes on a CPU",
    "layers": "one decoder layer of each kind that a model has",
    "generation": "TTFT, TPOT, E2E of whole models with random weights, static batches",
    "gauge": "the machine's pace, by three fixed pieces of work, again and again",
    "memory": "weights, cache, activations, logits, workspace, reserve",
}
PROFILES = tuple(ABOUT)
Size = Literal["auto", "tiny", "small", "large"]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `plumbline profile`."""

    store: str
    """Folder of the records; made if absent, resumed if not."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto`: a GPU where there is one."""
    budget_s: float | None = None
    """Wall time for the whole campaign; None: all that is planned."""
    models: tuple[str, ...] = ()
    """Catalog names or paths of config.json files; empty: a set that suits the machine."""
    dtypes: tuple[str, ...] = ()
    """Number formats; empty: those that suit the machine."""
    threads: int | None = None
    """Threads of a CPU measurement, each bound to a core; None: the library's own choice."""
    size: Size = "auto"
    """Sizes of shapes and models: `tiny` proves that it works, `large` is for a data-centre GPU."""
    case_timeout_s: float | None = None
    retake_s: float | None = None
    """Seconds per batch to wait for a disturbed machine to calm down; 0: take it as it is."""
    retry_failed: bool = False
    retry_noisy: bool = False
    """Take what was noisy, short or throttled again; the newer record counts."""
    seed: int = 0
    hardware: str = ""
    """Name of the system in the records; empty: what the device calls itself."""
    scratch: str | None = None
    """Folder on the disk to be measured; None: the store's own."""
    batches: tuple[int, ...] = ()
    """Static batches of the generation and memory profiles; empty: a set that suits the size."""
    prompts: tuple[int, ...] = ()
    """Prompt lengths of the generation, layer and memory profiles."""
    output_tokens: int | None = None
    """Tokens to generate per sequence."""


def profiles_of(name: str) -> tuple[str, ...]:
    """The profiles that a name, or several with commas, stand for; a clear error otherwise."""
    if name == "all":
        return PROFILES
    named = tuple(part.strip() for part in name.split(","))
    for one in named:
        if one not in PROFILES:
            raise ConfigError(f"unknown profile {one!r}{nearest(one, (*PROFILES, 'all'))}")
    return named
