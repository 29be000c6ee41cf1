"""`plumbline search --offload`: the best policy for a model that does not fit the device.

Batches, shares of weights, cache and activations on device, host and disk, and attention on the
CPU are searched; nothing is proposed that would run out of memory. Rates are those of measured
records where a store is named, else shares of the system's own figures, and are printed.
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.console import write, write_json

if TYPE_CHECKING:
    from analyzer.offload_machine import OffloadMachine
    from analyzer.records import Record
    from calibration.offload_search import Proposal

SHARE = 0.8
"""Of a link's or a memory's bandwidth, where nothing was measured."""
COMPUTE_SHARE = 0.6
CPU_ATTENTION_BPS = 10.1e9
"""Cache attended per second by the host's processor, as fitted to FlexGen's published figures."""


MEANT_FOR_OFFLOAD = {
    "prompt_len": 512, "gen_len": 32, "host_gb": None, "disk_gb": None, "narrow": False,
    "store": None,
}  # fmt: skip
"""Options of these policies alone, with what they are when nobody says."""


def declare(group: Any) -> None:
    """Options of the policies; model, system, --best and --json are the search's own."""
    group.add_argument("--offload", action="store_true", help="search offload policies")
    group.add_argument("--prompt-len", type=int, default=512, metavar="N")
    group.add_argument("--gen-len", type=int, default=32, metavar="N")
    group.add_argument("--host-gb", type=float, metavar="GB", help="host memory to use")
    group.add_argument("--disk-gb", type=float, metavar="GB", help="disk to use; 0: none")
    group.add_argument("--narrow", action="store_true", help="4-bit weights and 8-bit cache too")
    group.add_argument("--store", metavar="FILE", help="records of `plumbline profile offload`")


def run(options: Namespace) -> None:
    """Search, and say what was found."""
    from analyzer.errors import ConfigError
    from calibration.offload_search import SearchSpace, search_policies

    for name in ("model", "system"):
        if not getattr(options, name):
            raise ConfigError(f"--{name} is missing")
    for name in ("prompt_len", "gen_len", "best"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1")
    dims, machine = _dims(options.model), _machine(options)
    fitted: list[str] = []
    if options.store:
        machine, fitted = measured(machine, options.store, dims)
    space = SearchSpace(weight_bits=(16, 4), kv_bits=(16, 8)) if options.narrow else SearchSpace()
    found = search_policies(
        dims,
        machine,
        prompt_len=options.prompt_len,
        gen_len=options.gen_len,
        space=space,
    )[: options.best]
    if options.json:
        write_json({"policies": [_plain(each) for each in found], "measured_rates": fitted})
        return
    write(
        f"host link {machine.h2d_Bps / 1e9:.3g} GB/s, device memory "
        f"{machine.hbm_Bps / 1e9:.3g} GB/s, disk {machine.disk_read_Bps / 1e9:.3g} GB/s, "
        f"attention on the CPU {machine.cpu_attention_Bps / 1e9:.3g} GB/s"
    )
    write(_origin(fitted))
    for each in found:
        _tell(each)


class Beside(NamedTuple):
    """Policies that run where no plan of the search fits, and what is to be said of them."""

    system: str
    found: tuple[Proposal, ...]
    problem: str


def beside(model: str, system: str, input_tokens: int, output_tokens: int, most: int) -> Beside:
    """The best policies of one device of a system, at shares of its figures."""
    from analyzer.errors import InputError
    from calibration.offload_search import search_policies

    asked = Namespace(model=model, system=system, host_gb=None, disk_gb=None)
    try:
        found = search_policies(
            _dims(model), _machine(asked), prompt_len=input_tokens, gen_len=output_tokens
        )
    except InputError as error:
        return Beside(system, (), str(error))
    distinct: dict[float, Proposal] = {}
    for each in found:
        distinct.setdefault(round(each.tok_s, 6), each)
    return Beside(system, tuple(distinct.values())[:most], "")


def beside_table(held: Beside) -> list[Any]:
    """As people read it."""
    from reports.table import table

    if held.problem:
        return [f"offloading on one {held.system}: {held.problem}"]
    rows = []
    for each in held.found:
        policy, forecast = each.policy, each.forecast
        steps = max(forecast.tokens // (policy.gpu_batch * policy.num_gpu_batches) - 1, 1)
        weights_g, weights_c, cache_g, cache_c, *_ = _percents(each)
        rows.append([
            f"{policy.gpu_batch} × {policy.num_gpu_batches}", _thirds(weights_g, weights_c),
            _thirds(cache_g, cache_c), f"{float(forecast.prefill_s):.4g}",
            f"{float(forecast.decode_s) / steps:.4g}", f"{each.tok_s:.4g}",
            forecast.bound.replace("_", " "),
        ])  # fmt: skip
    columns = (
        "batch", "weights device/host/disk", "cache device/host/disk", "prefill s", "step s",
        "tok/s/device", "busiest",
    )  # fmt: skip
    return [
        f"Offloaded, on one {held.system} (search --offload --store takes measured rates; these "
        f"are {SHARE:g} of links and memories, {COMPUTE_SHARE:g} of the peak, uncalibrated):",
        table(columns, rows, left=("busiest",)),
    ]


def _thirds(device: float, host: float) -> str:
    return f"{device:g}/{host:g}/{100 - device - host:g} %"


def _origin(fitted: list[str]) -> str:
    """Whose figures the rates are."""
    if not fitted:
        return (
            f"uncalibrated: rates are shares of the system's figures ({SHARE:g} of links and "
            f"memories, {COMPUTE_SHARE:g} of the peak); --store takes measured ones"
        )
    return f"measured on this machine: {', '.join(fitted)}; all else are shares of the figures"


def measured(start: OffloadMachine, store: str, dims: Any) -> tuple[OffloadMachine, list[str]]:
    """The machine with every rate that records of `plumbline profile offload` tell."""
    from calibration.offload_records import machine_from_records

    records = _records(store)
    itemsize = 4 if any(r.scenario.weight_precision == "fp32" for r in records) else 2
    return machine_from_records(start, records, dims, itemsize)


def _records(store: str) -> list[Record]:
    """Of a store's folder, a file of records, or what `profile offload --json` printed."""
    import json
    from pathlib import Path

    import msgspec

    from analyzer.errors import ConfigError
    from analyzer.records import Record
    from analyzer.records_codec import decode_record
    from profilers.reading import load_records

    path = Path(store)
    if path.is_dir():
        return list(load_records(path))
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{store}: cannot be read: {error}") from None
    found: list[Record] = []
    for number, line in enumerate(lines, 1):
        if '"records"' not in line:
            found.append(decode_record(line, f"{store}:{number}"))
            continue
        try:
            found += msgspec.convert(json.loads(line)["records"], list[Record])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{store}:{number}: no records: {error}") from None
    return found


def _dims(model: str) -> Any:
    from pathlib import Path

    from analyzer.errors import ConfigError
    from analyzer.models_catalog import entry, resolve
    from profilers.offload.engine import read_config
    from profilers.offload.spec import read_spec

    if Path(model).exists():
        return read_spec(read_config(model)[0]).dims
    named = resolve(model)
    if named is None:
        raise ConfigError(f"model {model!r} is not in the catalog; give its config.json")
    return read_spec(entry(named[0]).config).dims


def _machine(options: Namespace) -> OffloadMachine:
    from analyzer.errors import ConfigError
    from analyzer.offload_machine import OffloadMachine
    from analyzer.systems_catalog import load_system

    system = load_system(options.system)
    if system.host_link is None:
        raise ConfigError(f"{system.name} names no host link; give [host_link] in a .toml file")
    host_B = system.host.capacity_B if system.host else None
    if options.host_gb is None and host_B is None:
        raise ConfigError(f"{system.name} does not say how much host memory there is: --host-gb")
    disk_B = system.disk.capacity_B if system.disk else 0.0
    flops = system.device.peak("fp16") * COMPUTE_SHARE
    return OffloadMachine(
        h2d_Bps=system.host_link.h2d_Bps * SHARE,
        d2h_Bps=system.host_link.d2h_Bps * SHARE,
        disk_read_Bps=system.disk.read_Bps * SHARE if system.disk else 1.0,
        disk_write_Bps=system.disk.write_Bps * SHARE if system.disk else 1.0,
        hbm_Bps=system.device.memory_bandwidth_Bps * SHARE,
        gpu_flops=flops,
        attention_flops=flops / 2,
        cpu_attention_Bps=CPU_ATTENTION_BPS,
        gpu_B=system.device.memory_B,
        cpu_B=options.host_gb * 1e9 if options.host_gb is not None else host_B or 0.0,
        disk_B=options.disk_gb * 1e9 if options.disk_gb is not None else disk_B,
    )


def _plain(found: Proposal) -> dict[str, Any]:
    return {
        "tok_s": found.tok_s,
        "percent": list(_percents(found)),
        "gpu_batch_size": found.policy.gpu_batch,
        "num_gpu_batches": found.policy.num_gpu_batches,
        "cpu_cache_compute": found.policy.cpu_attention,
        "weight_bits": found.policy.weight_bits,
        "kv_bits": found.policy.kv_bits,
        "memory_B": list(found.memory_B),
    }


def plain(held: Beside) -> list[dict[str, Any]]:
    """For a program."""
    return [
        {
            "system": held.system,
            **_plain(each),
            "prefill_s": float(each.forecast.prefill_s),
            "decode_s": float(each.forecast.decode_s),
        }
        for each in held.found
    ]


def _percents(found: Proposal) -> tuple[float, ...]:
    policy = found.policy
    return tuple(
        getattr(policy, f"{what}_{tier}_pct")
        for what in ("weights", "kv", "act")
        for tier in ("gpu", "cpu")
    )


def _tell(found: Proposal) -> None:
    percents = " ".join(f"{value:g}" for value in _percents(found))
    on_cpu = " --cpu-cache-compute" if found.policy.cpu_attention else ""
    write(
        f"{found.tok_s:8.2f} tok/s  --percent {percents} --gpu-batch-size "
        f"{found.policy.gpu_batch} --num-gpu-batches {found.policy.num_gpu_batches}{on_cpu}"
    )
