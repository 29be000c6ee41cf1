"""A campaign and its check in turns: who is next, when it ends, what it needs."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from test_profiler_planning import OPTIONS

from analyzer.errors import ConfigError
from profilers import together
from profilers.campaign import CampaignResult

DONE = CampaignResult(
    store="x", machine="m", measured=1, failed=0, resumed=0, left=1, over_budget=0, seconds=10.0,
    interrupted=False, quality={}, torn_B=0,
)  # fmt: skip


def _turns(
    monkeypatch: pytest.MonkeyPatch, campaign: CampaignResult, rounds: list[CampaignResult]
) -> tuple[list[bool], list[float]]:
    budgets: list[float] = []

    def part(profile: str, options: object, reporter: object) -> CampaignResult:
        budgets.append(options.budget_s)  # type: ignore[attr-defined]
        return campaign

    def checks(options: object, reporter: object) -> Iterator[CampaignResult]:
        yield from rounds

    monkeypatch.setattr(together.campaign, "run", part)
    monkeypatch.setattr(together.check, "rounds", checks)
    mine = msgspec.structs.replace(OPTIONS, budget_s=40.0)
    return [turn.of_check for turn in together.run("all", mine, mine)], budgets


def test_whoever_spent_less_of_its_budget_is_next(monkeypatch):
    order, budgets = _turns(monkeypatch, DONE, [DONE] * 4)
    assert order == [False, True] * 4
    assert budgets == [10.0] * 4
    long = msgspec.structs.replace(DONE, seconds=20.0)
    order, _ = _turns(monkeypatch, DONE, [long] * 2)
    assert order == [False, True, False, False, True, False]


def test_a_campaign_that_is_done_leaves_the_rest_to_the_check(monkeypatch):
    whole = msgspec.structs.replace(DONE, left=0)
    order, _ = _turns(monkeypatch, whole, [DONE] * 3)
    assert order == [False, True, True, True]


def test_an_interruption_ends_both(monkeypatch):
    stopped = msgspec.structs.replace(DONE, interrupted=True)
    assert _turns(monkeypatch, stopped, [DONE] * 3)[0] == [False]


def test_both_need_a_budget():
    with pytest.raises(ConfigError, match="--budget"):
        list(together.run("all", OPTIONS, OPTIONS))
