"""The best plan under a promise and a budget: every legal plan predicted, and each loser's reason.

`search(Question(...))` returns `Found`: `best()`, `ranked()`, `ties()`, `front()`, `lost()`,
`why(row)`, `row(row)`, `plan(row)`, `answer(row)`. `confirm` lets the simulator serve the best
ones; `fewest_devices` finds the smallest deployment that holds a model.
"""

from analyzer.search.evaluate import BATCHES, Columns
from analyzer.search.found import Found, Lost, Row
from analyzer.search.judge import REASONS, Reason
from analyzer.search.question import OBJECTIVES, Budget, Objective, Offer, Question, Space
from analyzer.search.run import search

__all__ = [
    "BATCHES",
    "OBJECTIVES",
    "REASONS",
    "Budget",
    "Columns",
    "Found",
    "Lost",
    "Objective",
    "Offer",
    "Question",
    "Reason",
    "Row",
    "Space",
    "search",
]
