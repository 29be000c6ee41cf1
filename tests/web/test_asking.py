"""A page asks as the command line does, and takes the fewest ranks that hold the batch."""

from __future__ import annotations

import shlex

import pytest

from analyzer.errors import CapacityError, ConfigError
from plumbline import main
from reports.web.asking import ask, command

ASKED = {"model": "llama-3-70b", "system": "H100-SXM", "batch": 4, "input": 512, "output": 64}


@pytest.mark.parametrize(("weights", "ranks"), [("", 2), ("fp8", 1)])
def test_the_fewest_ranks_that_fit_are_taken(weights, ranks) -> None:
    found = ask({**ASKED, "weights": weights})
    assert found.plan.tp == ranks
    if ranks > 1:
        with pytest.raises(CapacityError):
            ask({**ASKED, "weights": weights, "tp": str(ranks // 2)})


def test_ranks_that_do_not_divide_the_heads_are_passed_over() -> None:
    found = ask({**ASKED, "model": "qwen2.5-14b", "system": "RTX3090", "batch": 1})
    assert 40 % found.plan.tp == 0


def test_what_fits_nowhere_is_one_sentence() -> None:
    with pytest.raises((CapacityError, ConfigError), match="does not fit"):
        ask({**ASKED, "model": "llama-3.1-405b", "system": "AppleM2Max"})


def test_the_command_line_says_the_same(capsys) -> None:
    values = {**ASKED, "kv": "fp8", "arrival": "closed_loop", "engine": "vllm"}
    found = ask(values)
    words = shlex.split(command(values, found))
    assert main([*words[1:], "--json"]) == 0
    assert f'"ttft_s": {float(found.prediction.ttft_s)!r}' in capsys.readouterr().out
