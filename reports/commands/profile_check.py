"""Check a calibration: measure generations that no profile takes, and compare with predictions.

  plumbline profile check --budget 10m

The models, lengths and batches are the same on every machine and differ from those of `plumbline
profile generation`. Each is visited in rounds, by processes of their own (eight on a processor, two
on a GPU, fewer where the budget holds fewer); how far the earlier lie from the later ones is the
machine's own noise. `plumbline validate --records plumbline-check` compares again, without
measuring.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from reports.commands.profile import campaign_options, conclude, declare_campaign, teller
from reports.commands.stores import CHECK_STORE


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    declare_campaign(parser, CHECK_STORE)
    parser.add_argument("--doubtful", action="store_true", help="compare disturbed records too")
    parser.add_argument("--system", default="auto", help="predicted as this system")


def run(options: Namespace) -> None:
    """Measure what is missing, then compare."""
    from profilers.check import run as measure
    from reports.commands.validate import compare_store

    for done in measure(campaign_options(options), reporter=teller()):
        if not options.json:
            conclude(done)
    compare_store(options.store, options.system, options.json, options.doubtful)
