"""Measure a server: start vLLM, or attach to any OpenAI-compatible URL, and send it a load.

  plumbline profile serve --url http://host:8000 --model NAME --rate 2 --slo ttft=1 --store kept/
  plumbline profile serve --vllm VENV/bin/python --model DIR --concurrency 8 --requests 200
  plumbline profile serve --vllm VENV/bin/python --random-model 0.5b --sweep 0.5 --seconds 60
  plumbline profile serve --vllm VENV/bin/python --random-model 0.1b --validate

--validate measures static loads and rates up to saturation, calibrates on the static ones and two
low rates, simulates the others, prints the errors, and ends with 1 if one is above 10 %.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError, PlumblineError
from reports.commands.load_options import declare_load, declare_slo, load_of, slo_of
from reports.console import complain, write, write_json

if TYPE_CHECKING:
    from profilers.serving import ServeOptions, ServeReport, Sweep, VllmServer

SERVED = "m"
REQUESTS = 200


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    server = parser.add_argument_group("server")
    server.add_argument("--url", metavar="URL", help="of a running server, without /v1")
    server.add_argument("--vllm", metavar="PYTHON", help="start vLLM of this interpreter")
    server.add_argument("--model", help="name that is served; or folder of the model to start")
    server.add_argument("--random-model", metavar="SHAPE", help="tiny, 0.1b, 0.5b or 8b, made up")
    server.add_argument("--port", type=int, default=8123)
    server.add_argument("--server-flags", default="", metavar="FLAGS", help="one quoted word")
    server.add_argument("--endpoint", choices=("completions", "chat"), default="completions")
    server.add_argument("--vocabulary", type=int, metavar="N", help="token ids to draw from")
    server.add_argument("--api-key-env", metavar="NAME", help="variable that holds the key")
    declare_load(parser, REQUESTS)
    declare_slo(parser)
    how = parser.add_argument_group("measurement")
    how.add_argument("--sweep", type=float, metavar="R", help="rates from R on until it saturates")
    how.add_argument("--rates", metavar="LIST", help="these rates, one after another")
    how.add_argument("--seconds", type=float, default=60.0, help="length of each rate's run")
    how.add_argument("--warmup", type=int, default=4, metavar="N", help="requests not counted")
    how.add_argument(
        "--scrape", type=float, default=1.0, metavar="S", help="/metrics every S; 0: no"
    )
    how.add_argument("--compare", choices=("vllm-bench",), default="", help="side by side")
    how.add_argument("--tokenizer", default="", metavar="DIR", help="for --compare")
    how.add_argument("--validate", action="store_true", help="calibrate, simulate, show the errors")
    how.add_argument("--rounds", type=int, default=4, metavar="N", help="of --validate, --compare")
    how.add_argument("--keep", metavar="FILE", help="--validate: keep all that was measured")
    how.add_argument("--kept", metavar="FILE", help="--validate: analyse that again")
    out = parser.add_argument_group("output")
    out.add_argument("--store", metavar="DIR", help="where the records go")
    out.add_argument("--hardware", default="", help="name of the system in the records")
    out.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Measure, or validate."""
    if options.validate:
        _validate(options)
        return
    from profilers.serving import run_serve
    from reports.serving_text import report_document, report_text

    with tempfile.TemporaryDirectory() as folder:
        report = run_serve(serve_options(options, Path(folder)), complain)
    if options.json:
        write_json(report_document(report))
    else:
        write(report_text(report))
    _judge(report)


def _judge(report: ServeReport) -> None:
    """Nothing succeeded: an error, whatever was printed."""
    if not any(run.summary.ok for run in report.runs):
        raise PlumblineError("no request succeeded")


def serve_options(options: Namespace, folder: Path) -> ServeOptions:
    """The profile that the options describe; a random model is made in `folder`."""
    from profilers.serving import ServeOptions, Target
    from profilers.serving.random_model import SHAPES, write_model

    if (options.url is None) == (options.vllm is None):
        raise ConfigError("say either --url of a running server or --vllm PYTHON to start one")
    vocabulary = options.vocabulary
    model = options.model
    if options.random_model is not None:
        if options.random_model not in SHAPES:
            known = ", ".join(SHAPES)
            raise ConfigError(f"--random-model {options.random_model!r} is none of {known}")
        shape = SHAPES[options.random_model]
        model = str(write_model(folder / options.random_model, shape))
        vocabulary = vocabulary or shape.vocabulary
    if not model:
        raise ConfigError("--model is missing: the served name, or a folder to start")
    key = os.environ.get(options.api_key_env) if options.api_key_env else None
    target = Target(
        url=options.url or "http://127.0.0.1",
        model=model if options.url else SERVED,
        endpoint=options.endpoint,
        vocabulary=vocabulary or 32_000,
        api_key=key,
    )
    sweep = _sweep(options)  # before the load, which then begins at its first rate
    return ServeOptions(
        target=target,
        load=load_of(options),
        server=_server(options, model) if options.vllm else None,
        sweep=sweep,
        slo=slo_of(options),
        warmup_requests=options.warmup,
        scrape_s=options.scrape,
        store=options.store,
        compare=options.compare,
        compare_rounds=options.rounds,
        hardware=options.hardware,
        tokenizer=options.tokenizer,
    )


def _server(options: Namespace, model: str) -> VllmServer:
    from profilers.serving import VllmServer

    flags = tuple(shlex.split(options.server_flags))
    if options.random_model is not None:
        flags = ("--load-format", "dummy", *flags)
    return VllmServer(python=options.vllm, model=model, port=options.port, flags=flags)


def _sweep(options: Namespace) -> Sweep | None:
    from profilers.serving import Sweep

    if options.rates:
        try:
            rates = tuple(float(part) for part in options.rates.split(","))
        except ValueError:
            raise ConfigError(f"--rates: {options.rates!r} is not a list of numbers") from None
        options.rate = rates[0]
        return Sweep(rates_per_s=rates, seconds_per_rate=options.seconds)
    if options.sweep is not None:
        options.rate = options.sweep
        return Sweep(start_per_s=options.sweep, seconds_per_rate=options.seconds)
    return None


def _validate(options: Namespace) -> None:
    from reports.files import replacing
    from reports.serving_chain import report
    from reports.serving_validation import (
        Asked,
        analyse_vllm,
        document,
        kept_text,
        measure_vllm,
        passed,
        read_kept,
        store_kept,
    )

    if options.kept:
        kept = read_kept(options.kept)
    elif options.vllm is None:
        raise ConfigError("--validate starts a server: say --vllm PYTHON")
    else:
        shape = options.random_model or "0.1b"
        asked = Asked(
            python=options.vllm,
            shape=shape,
            seconds=options.seconds,
            rounds=options.rounds,
            port=options.port,
        )
        kept = measure_vllm(asked, complain)
        if options.keep:
            with replacing(options.keep) as stream:
                stream.write(kept_text(kept))
    if options.store:
        store_kept(kept, options.store, options.hardware)
    found = analyse_vllm(kept, complain)
    if options.json:
        write_json(document(found))
    else:
        write(report(found))
    if not passed(found):
        raise PlumblineError("not every held-out figure is within 10 %, or a run was in doubt")
