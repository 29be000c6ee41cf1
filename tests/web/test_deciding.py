"""Plans, serving, requirements, sensitivity: what is drawn is what the analyzer found."""

from __future__ import annotations

import threading

import msgspec
import pytest

from analyzer.errors import ConfigError
from analyzer.requirements import require
from analyzer.search import search
from analyzer.sensitivity import sensitivity
from analyzer.serving import AffineTimer, EngineOptions, SimOptions, simulate
from analyzer.systems_catalog import load_system
from analyzer.workload import SLO
from analyzer.workload_load import Fixed, Load, Poisson
from reports.web import limits, planned, required, simulated
from reports.web.asking import Asked, settle_ranks
from reports.web.limits import Deadline, turn
from reports.web.state import Values

PLAN: Values = {
    "model": "llama-3.1-70b", "systems": ("H100-SXM",), "input": 2048, "output": 256,
    "ttft_ms": 1000.0, "tpot_ms": 40.0, "e2e_ms": None, "devices": 8, "objective": "device",
    "formats": (), "usd": None, "surely": False, "split": False, "engine": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def plans():
    return search(planned.question(PLAN))


def test_the_figure_holds_the_front_and_the_best(plans) -> None:
    drawn = planned.front(plans)
    kinds = [row[0] for row in drawn.rows]
    assert kinds.count("the front") == len(plans.front())
    assert kinds[-1] == "the best"
    best = plans.row(plans.best())
    user, device = drawn.place("user"), drawn.place("device")
    assert drawn.rows[-1][user] == pytest.approx(best.tok_s_per_user)
    assert drawn.rows[-1][device] == pytest.approx(best.tok_s_per_device)
    kept = [row for row in drawn.rows if row[0] == "keeps the promise"]
    assert max(row[device] for row in kept) <= best.tok_s_per_device * (1 + 1e-9)


def test_the_table_begins_with_the_best(plans) -> None:
    made = planned.best(plans)
    assert made[0][-1] == "best"
    assert all(len(row) == len(planned.HEADS) for row in made)


def test_a_promise_that_cannot_be_kept_is_refused_with_reasons() -> None:
    found = search(planned.question({**PLAN, "tpot_ms": 0.01}))
    assert found.best() is None
    said = planned.refusal(found)
    assert f"none of {found.plans:,} plans keeps promise and budget" in said
    assert "more slowly than promised" in said


def test_a_search_needs_a_system() -> None:
    with pytest.raises(ConfigError, match="at least one system"):
        planned.question({**PLAN, "systems": ()})


def test_a_search_that_would_keep_others_waiting_is_refused() -> None:
    asked = planned.question(
        {**PLAN, "model": "deepseek-v3", "devices": 512, "formats": ("fp8", "")}
    )
    assert planned.bounded(planned.question(PLAN))
    with pytest.raises(ConfigError, match="fewer systems, devices or formats"):
        planned.bounded(msgspec.structs.replace(asked, offers=asked.offers * 4))


TIMER = AffineTimer(step_s=0.01, token_s=1e-5, sequence_s=1e-4)


def served(requests: int = 200) -> SimOptions:
    """A small engine under a steady load."""
    load = Load(
        arrivals=Poisson(rate_per_s=5.0),
        input_tokens=Fixed(tokens=100),
        output_tokens=Fixed(tokens=20),
        requests=requests,
    )
    return SimOptions(load=load, engine=EngineOptions(kv_blocks=500), slo=SLO(ttft_s=1.0))


def test_watching_changes_nothing(monkeypatch) -> None:
    monkeypatch.setattr(simulated, "EVERY_S", 0.0)
    seen: list[simulated.Snapshot] = []
    options = served()
    found = simulated.serve(options, TIMER, seen.append, Deadline())
    assert found == simulate(options, TIMER)
    assert len(seen) == 200
    assert [at.ended for at in seen] == sorted(at.ended for at in seen)
    assert all(len(at.requests) == at.ended for at in seen)


def test_the_curves_are_those_of_the_simulation() -> None:
    found = simulate(served(), TIMER)
    drawn = simulated.waits(found.request_times, 1.0)
    times = {each.arrival_s: each.ttft_s for each in found.request_times}
    assert {row[0]: row[1] for row in drawn.rows} == pytest.approx(times)
    running = [row[1] for row in simulated.occupancy(found.timeline).rows if row[2] == "running"]
    assert running == pytest.approx(found.timeline["running"])
    shares = [row for row in simulated.shares(found.request_times).rows if row[2] == "first token"]
    assert shares[-1][0] == pytest.approx(max(times.values()))


def test_a_simulation_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ConfigError, match="ended after 0 s; ask for less"):
        simulated.serve(served(), TIMER, lambda at: None, Deadline(0.0))


def test_few_heavy_requests_run_at_once() -> None:
    inside, most = [], []

    def work() -> None:
        with turn():
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(most) == 8
    assert max(most) <= limits.AT_ONCE


def test_who_waits_too_long_is_told() -> None:
    with turn(), turn(), pytest.raises(ConfigError, match="busy"), turn(patience_s=0.01):
        pass


ASKED: Values = {
    "model": "llama-3.1-8b", "system": "H100-SXM", "batch": 1, "input": 1024, "output": 256,
    "tp": "1", "basis": "uncalibrated",
}  # fmt: skip


@pytest.fixture(scope="module")
def asked():
    return Asked(ASKED)


def test_a_system_of_exactly_what_is_needed_covers_it_once(asked) -> None:
    load = Asked(ASKED).load
    slow = SLO(ttft_s=0.1, tpot_s=0.02)
    load = msgspec.structs.replace(load, slo=slow)
    found = require(asked.model, asked.plan, load, asked.basis, asked.system)
    drawn = required.coverage(found, [found.system, load_system("H100-SXM")])
    shares = {row[0]: row[1] for row in drawn.rows if row[2] == found.system.name}
    assert shares == pytest.approx(dict.fromkeys(shares, 1.0), rel=1e-6)
    text = required.needs(found)
    assert [row[0].partition(":")[0] for row in text] == list(required.NAMES.values())


def test_the_tornado_is_widest_at_its_top(asked) -> None:
    base = settle_ranks(asked)
    found = sensitivity(asked.model, asked.system, base.plan, asked.load, asked.basis)
    drawn = required.tornado(found, "tpot_s")
    change = drawn.place("change")
    pairs = list(zip(drawn.rows[::2], drawn.rows[1::2], strict=True))
    widths = [max(abs(low[change]), abs(high[change])) for low, high in pairs]
    assert widths == sorted(widths, reverse=True)
    top = next(row for row in drawn.rows if row[0] == "memory bandwidth")
    assert top[drawn.place("moved")] == "−10%"
    assert top[change] > 0
