"""The search itself: every structure predicted as arrays, every plan judged."""

from __future__ import annotations

from analyzer.errors import ConfigError
from analyzer.search.evaluate import evaluate, joined
from analyzer.search.found import Found
from analyzer.search.judge import judge
from analyzer.search.prefill import disaggregate, empty
from analyzer.search.question import OBJECTIVES, Question
from analyzer.search.structures import structures


def search(question: Question) -> Found:
    """All plans of the question, judged; raises ConfigError where there is none to judge."""
    _check_known(question)
    made = structures(question)
    if not made.found:
        reason, plans = made.refused.most_common(1)[0]
        raise ConfigError(f"no layout is possible; {plans} fail because {reason}")
    columns = evaluate(question, made.found, made.refused)
    table = empty()
    if question.space.disaggregated:
        table, pairs = disaggregate(question, made.found)
        columns = joined([columns, *pairs])
    return Found(question, made.found, columns, judge(question, columns), table, made.refused)


def _check_known(question: Question) -> None:
    """An objective or a budget that no system's figures can answer is a mistake, not a result."""
    needs = {"dollar": "price_usd_per_hour", "joule": "tdp_W"}
    asked = [(f"objective {question.objective}", needs.get(question.objective))]
    if question.budget.usd_per_hour is not None:
        asked.append(("a budget of cost", "price_usd_per_hour"))
    if question.budget.power_W is not None:
        asked.append(("a budget of power", "tdp_W"))
    for what, figure in asked:
        if figure is None:
            continue
        lacking = [s.name for s, _ in question.offers if getattr(s.device, figure) is None]
        if len(lacking) == len(question.offers):
            raise ConfigError(
                f"{what} needs {figure}, which {lacking[0]} does not state; "
                f"give it in a .toml file ({OBJECTIVES['device'].meaning} needs none)"
            )
