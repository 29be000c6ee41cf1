"""Run a model that need not fit the device: weights, cache and activations spread over tiers.

  plumbline profile offload --model folder/ --percent 20 80 0 100 100 0 \\
      --gpu-batch-size 16 --num-gpu-batches 4 --prompt-len 512 --gen-len 32

The six percents are weights, cache and activations on the device and in host memory; the rest is
on disk. `--model` is a folder with a safetensors checkpoint, or a config.json with
--random-weights.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from reports.console import write, write_json

if TYPE_CHECKING:
    from profilers.offload.profile import OffloadProfile


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", required=True, metavar="DIR", help="checkpoint or config.json")
    parser.add_argument("--percent", nargs=6, type=float, default=[100, 0, 100, 0, 100, 0])
    for name, default in (
        ("--gpu-batch-size", 4),
        ("--num-gpu-batches", 1),
        ("--prompt-len", 512),
        ("--gen-len", 32),
        ("--weight-bits", 16),
        ("--kv-bits", 16),
        ("--repeats", 1),
        ("--seed", 0),
    ):
        parser.add_argument(name, type=int, default=default, metavar="N")
    parser.add_argument("--no-overlap", action="store_true", help="one job at a time")
    parser.add_argument("--no-pin", action="store_true", help="do not pin weights in host memory")
    parser.add_argument("--cpu-cache-compute", action="store_true", help="attend on the CPU")
    parser.add_argument("--random-weights", action="store_true", help="a config is enough")
    parser.add_argument("--offload-dir", default="offload", metavar="DIR")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--trace", metavar="FILE", help="timeline for a trace viewer")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Run the policy and say what moved, how long it took, and what waited."""
    import msgspec

    from profilers.offload.profile import OffloadOptions, run_profile

    given = vars(options)
    chosen = OffloadOptions(
        percent=tuple(options.percent),
        overlap=not options.no_overlap,
        pin_weights=not options.no_pin,
        **{name: value for name, value in given.items() if name not in _OWN},
    )
    found = run_profile(chosen)
    if options.json:
        write_json(msgspec.to_builtins(found))
    else:
        _tell(found)


_OWN = {"percent", "no_overlap", "no_pin", "json"}


def _tell(found: OffloadProfile) -> None:
    for kind, tiers in found.realised_B.items():
        shares = ", ".join(f"{size / 1e9:.3f} GB {tier}" for tier, size in tiers.items())
        write(f"{kind}: {shares}")
    times = found.times
    write(
        f"on {found.device}: {times.wall_s:.3f} s in all, {times.prefill_s:.3f} s to the first "
        f"token, {times.decode_s:.3f} s decoding, {times.exposed_wait_s:.3f} s waiting for data"
    )
    for total in found.stages:
        write(
            f"  {total.stage:<14} {total.link:<11} {total.count:>6} jobs "
            f"{total.moved_B / 1e9:9.3f} GB {total.busy_s:9.3f} s busy"
        )
