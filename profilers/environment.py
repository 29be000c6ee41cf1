"""Where a measurement was taken: the facts that change a result, and the circumstances.

`facts` identify the environment: records with different facts are never mixed. `circumstances`
(load, free memory, temperature) vary from run to run and are kept beside them. Host and user names,
addresses, keys and tokens are taken out before anything is written.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec

PACKAGES = ("torch", "transformers", "numpy", "triton", "vllm", "flash-attn", "nvidia-ml-py")
SECRET_WORD = re.compile(
    # Tokens that are counted (batched tokens, a block's tokens) are no secrets; all others are.
    r"(?i)((?<!batched[-_])(?<!model[-_])(?<!block[-_])(?<!cache[-_])token"
    r"|secret|password|passwd|api[-_]?key|authorization|bearer|cookie|header|credential)"
)
SECRET_SHAPE = re.compile(
    r"(hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|gh[pousr]_[A-Za-z0-9]{8,}|AKIA[0-9A-Z]{12,}"
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|(?<=://)[^/@\s]+(?=@))"
)
REDACTED = "<redacted>"
EVERYDAY = frozenset({"root", "localhost", "user", "home"})


class Environment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hardware and software of one run, fit to be published."""

    facts: dict[str, str]
    circumstances: dict[str, str] = {}

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the facts."""
        canonical = msgspec.json.encode(dict(sorted(self.facts.items())))
        return hashlib.sha256(canonical).hexdigest()[:16]


def redact(text: str, names: Sequence[str] | None = None) -> str:
    """`text` without anything shaped like a secret, a host name, a user name or a home folder."""
    text = SECRET_SHAPE.sub(REDACTED, text)
    for private in private_names() if names is None else names:
        if len(private) >= 3:
            text = re.sub(rf"(?<![\w-]){re.escape(private)}(?![\w-])", REDACTED, text)
    return text


def redact_arguments(arguments: Sequence[str], names: Sequence[str] | None = None) -> list[str]:
    """A command line with the value of every secret-looking option hidden."""
    shown, hide_next = [], False
    for argument in arguments:
        key, equals, _value = argument.partition("=")
        if hide_next and not argument.startswith("--"):
            shown.append(REDACTED)
            hide_next = False
            continue
        hide_next = bool(argument.startswith("-") and SECRET_WORD.search(key) and not equals)
        hidden = equals and SECRET_WORD.search(key)
        shown.append(f"{key}={REDACTED}" if hidden else redact(argument, names))
    return shown


def short_paths(command: str) -> str:
    """A command line with absolute paths cut to their last part: where they lie is nobody's
    business."""
    return re.sub(r"(?<![^\s=])[~/](?:[^\s=/]*/)+", "", command)


def redact_mapping(values: Mapping[str, str], names: Sequence[str] | None = None) -> dict[str, str]:
    """A mapping with the values of secret-looking keys hidden and all others cleaned."""
    return {
        key: REDACTED if SECRET_WORD.search(key) else redact(value, names)
        for key, value in values.items()
    }


def private_names() -> list[str]:
    """What would tell whose machine this is: host, user and home folder."""
    names = {socket.gethostname(), platform.node(), socket.gethostname().partition(".")[0]}
    for variable in ("USER", "LOGNAME", "HOSTNAME", "HOME"):
        names.add(os.environ.get(variable, ""))
    # A user called root and a host called localhost tell nothing, and are everyday words.
    telling = [name for name in names if name and Path(name).name not in EVERYDAY]
    return sorted(telling, key=len, reverse=True)


def capture(device_facts: Mapping[str, str], threads: int | None) -> Environment:
    """Facts of this machine and its software; `device_facts` come from the device's module."""
    facts = {
        "os": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": cpu_name(),
        "cpu_cores": str(os.cpu_count() or 0),
        "cpu_flags": cpu_flags(),
        "numa_nodes": str(len(list(Path("/sys/devices/system/node").glob("node[0-9]*")))),
        "memory_GiB": f"{memory_B() / 1024**3:.0f}",
        "memory_modules": memory_modules(),
        "container": container(),
        "threads": str(threads or "default"),
        "python": platform.python_version(),
        **{f"package_{name}": version for name, version in package_versions().items()},
        **device_facts,
    }
    return Environment(facts=redact_mapping(facts), circumstances=redact_mapping(_circumstances()))


def _circumstances() -> dict[str, str]:
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    tasks = _first_line("/proc/loadavg").split()
    governor = _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "load_average": load,
        "runnable_of_all": tasks[3] if len(tasks) > 3 else "unknown",
        "governor": governor or "unknown",
        "command": short_paths(" ".join(redact_arguments([Path(sys.argv[0]).name, *sys.argv[1:]]))),
    }


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that matter, without importing them."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def cpu_name() -> str:
    """Model name of the processor, or its architecture where the system does not tell."""
    fields = _cpu_fields()
    name = fields.get("model name", platform.processor() or platform.machine())
    return " ".join(
        [name, *(f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields)]
    )


def cpu_flags() -> str:
    """The vector and matrix instructions that decide which kernels run."""
    flags = set(_cpu_fields().get("flags", "").split())
    telling = (
        "avx2",
        "avx512f",
        "avx512_bf16",
        "avx512_vnni",
        "avx512_fp16",
        "amx_bf16",
        "amx_int8",
    )
    return " ".join(flag for flag in telling if flag in flags)


def _cpu_fields() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo."""
    fields: dict[str, str] = {}
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return fields
    for line in lines:
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    return fields


def memory_modules(raw: Path = Path("/sys/firmware/dmi/tables/DMI")) -> str:
    """Memory modules as the firmware lists them ("2 x 32 GiB 5600 MT/s"); `unreadable` where only
    the administrator may look, or where there is no such list."""
    try:
        table = raw.read_bytes()
    except OSError:
        return "unreadable"
    counted = Counter(_modules(table))
    return ", ".join(f"{count} x {what}" for what, count in sorted(counted.items())) or "none"


def _modules(table: bytes) -> Iterator[str]:
    """Size and speed of every module of an SMBIOS table (structures of type 17)."""
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        if length < 4:
            return
        body = table[at : at + length]
        if kind == _MEMORY_DEVICE and length >= 0x17:
            size = int.from_bytes(body[0x0C:0x0E], "little")
            large = int.from_bytes(body[0x1C:0x20], "little") if length >= 0x20 else 0
            size_MiB = large if size == 0x7FFF else size
            speed = int.from_bytes(body[0x15:0x17], "little")
            if 0 < size_MiB < 0xFFFF or large:
                yield f"{size_MiB / 1024:g} GiB {speed} MT/s"
        end = table.find(b"\0\0", at + length)
        if end < 0:
            return
        at = end + 2


_MEMORY_DEVICE = 17


def container(root: Path = Path("/")) -> str:
    """Whether this runs in a container, and its image's digest where the image says it.

    No container knows its own digest by itself; an image that sets IMAGE_DIGEST is believed.
    """
    digest = re.fullmatch(r"sha256:[0-9a-f]{64}", os.environ.get("IMAGE_DIGEST", ""))
    inside = (root / ".dockerenv").exists() or (root / "run/.containerenv").exists()
    if digest:
        return digest[0]
    return "yes, digest not told" if inside else "none seen"


def memory_B() -> float:
    """Memory of the machine."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().split("\n", 1)[0]
    except OSError:
        return ""
