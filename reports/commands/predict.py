"""Predict one scenario, or all of a table.

  plumbline predict --model llama-3-8b --system H100-SXM --batch 8 --input 1024 --output 256
  plumbline predict --csv scenarios.csv --out predictions.csv

Throughputs are tokens per second of the whole system; memory is that of the fullest device.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from analyzer.answer import Answer, answer
from analyzer.errors import ConfigError
from analyzer.workload import Workload
from reports.commands.options import (
    basis_of,
    declare_basis,
    declare_plan,
    declare_question,
    declare_sources,
    model_of,
    plan_of,
    system_of,
    with_sources,
)
from reports.console import show, write_json

ARRIVALS = ("static", "closed_loop")


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    declare_question(parser)
    work = parser.add_argument_group("work")
    work.add_argument("--batch", type=int, default=1, metavar="N", help="sequences, all together")
    work.add_argument("--input", type=int, default=1024, metavar="TOKENS", help="prompt tokens")
    work.add_argument("--output", type=int, default=128, metavar="TOKENS", help="answer tokens")
    work.add_argument("--beams", type=int, default=1, metavar="N", help="beams of every prompt")
    work.add_argument("--cached", type=int, default=0, metavar="TOKENS", help="prefix hit")
    work.add_argument("--arrival", choices=ARRIVALS, default="static",
                      help="all at once, or --batch requests in flight at all times")  # fmt: skip
    declare_plan(parser)
    declare_basis(parser)
    declare_sources(parser)
    shown = parser.add_argument_group("output")
    shown.add_argument("--detail", action="store_true", help="every operator")
    shown.add_argument("--json", action="store_true", help="one JSON document on one line")
    table = parser.add_argument_group("tables")
    table.add_argument("--csv", metavar="FILE", help="scenarios, one a row")
    table.add_argument("--out", metavar="FILE", help="where their predictions go")


def run(options: Namespace) -> None:
    """Predict and print."""
    if options.csv or options.out:
        _table(options)
        return
    found = _answer(options)
    if options.json:
        from reports.document import document

        write_json(document(found, options.detail))
    else:
        from reports.summary import summary

        show(*summary(found, options.detail))


def _answer(options: Namespace) -> Answer:
    model = model_of(options)
    system, assumed = system_of(options)
    plan = plan_of(options, model)
    load = Workload(
        batch=options.batch,
        input_tokens=options.input,
        output_tokens=options.output,
        beams=options.beams,
        cached_tokens=options.cached,
    )
    basis = with_sources(options, basis_of(options, system, options.arrival), system)
    found = answer(model, system, plan, load, basis, options.arrival)
    return found._replace(warnings=(*assumed, *found.warnings))


def _table(options: Namespace) -> None:
    if not (options.csv and options.out):
        raise ConfigError("--csv and --out go together: scenarios in, predictions out")
    from reports.commands.predict_table import run_table

    parser = ArgumentParser()
    declare(parser)
    run_table(options, parser.parse_args([]))
