"""A campaign and its check in one span of time, in turns.

On a shared host a campaign and a check that follow one another meet different spells of the
machine, and their difference is then the host's and not the prediction's. Taken in turns, both see
the same spells. Each turn is a campaign that resumes its store, or one round of the check.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from analyzer.errors import ConfigError
from profilers import campaign, check
from profilers.campaign import CampaignResult
from profilers.options import Options
from profilers.progress import Reporter

PARTS = 4
"""Turns that a campaign is taken in; a check has its rounds."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn, of the campaign or of the check."""

    of_check: bool
    result: CampaignResult


def run(
    profile: str, options: Options, checked: Options, *, reporter: Reporter | None = None
) -> Iterator[Turn]:
    """Whichever has spent less of its budget is next, until both are spent or done."""
    if options.budget_s is None or checked.budget_s is None:
        raise ConfigError("in turns, the campaign and the check need a --budget each")
    rounds = check.rounds(checked, reporter=reporter)
    parts = _parts(profile, options, options.budget_s, reporter)
    spent = {False: 0.0, True: 0.0}
    waiting = {False: parts, True: rounds}
    budget_s = {False: options.budget_s, True: checked.budget_s}
    while waiting:
        of_check = min(waiting, key=lambda which: spent[which] / budget_s[which])
        result = next(waiting[of_check], None)
        if result is None:
            del waiting[of_check]
            continue
        spent[of_check] += result.seconds
        yield Turn(of_check=of_check, result=result)
        if result.interrupted:
            return


def _parts(
    profile: str, options: Options, budget_s: float, reporter: Reporter | None
) -> Iterator[CampaignResult]:
    left_s = budget_s
    for turn in range(PARTS):
        mine = msgspec.structs.replace(
            options, budget_s=left_s / (PARTS - turn), seed=options.seed + turn
        )
        done = campaign.run(profile, mine, reporter=reporter)
        yield done
        left_s -= done.seconds
        if left_s <= 0.0 or not (done.left or done.over_budget):
            return
