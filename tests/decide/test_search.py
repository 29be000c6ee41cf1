"""The search against brute force, the laws of its result, and the smallest deployments by hand."""

from __future__ import annotations

import math
from itertools import product

import msgspec
import numpy as np
import pytest

from analyzer import basis
from analyzer.errors import ConfigError
from analyzer.models_catalog import load
from analyzer.plan import Speculation
from analyzer.predict import predict
from analyzer.resolve import check_plan
from analyzer.search import Budget, Found, Offer, Question, Space, search
from analyzer.search.confirm import confirm
from analyzer.search.front import front
from analyzer.search.least import fewest_devices
from analyzer.systems_catalog import load_system
from analyzer.workload import SLO, Workload
from tests.decide.asked import question

CASES = {
    "dense": question(),
    "static": question(arrival="static"),
    "formats": question(
        space=Space(
            batch=(1, 8, 64), weights=("bf16", "fp8"), kv=("bf16", "fp8"), chunk_tokens=(0, 2048)
        )
    ),
    "mixture": question("mixtral-8x7b", budget=Budget(devices=4)),
    "latent": question(
        "deepseek-v3", "H200-SXM", budget=Budget(devices=16), space=Space(batch=(4, 32, 256))
    ),
    "drafts": question(
        space=Space(batch=(1, 8, 64), speculation=(None, Speculation(tokens=3, acceptance=0.7)))
    ),
    "offload": question(
        "llama-3-8b", "RTX3090", slo=SLO(), budget=Budget(devices=1), arrival="static",
        space=Space(batch=(1, 4), weights_host=(0.0, 0.4, 1.0)),
    ),
}  # fmt: skip


def brute(asked: Question, found: Found) -> tuple[float, set[tuple[object, ...]]]:
    """Best tokens per second and device, plan by plan through `predict`, and all that keep."""
    best, kept = 0.0, set()
    for structure in found.structures:
        system, rates = asked.offers[structure.offer][0], asked.offers[structure.offer][1].rates
        for ranks, batch in product(structure.ranks, asked.space.batch):
            plan = msgspec.structs.replace(
                structure.plan, tp=ranks.tp, ep=ranks.ep, attention_dp=ranks.attention_dp
            )
            load_ = Workload(
                batch=batch, input_tokens=asked.input_tokens, output_tokens=asked.output_tokens
            )
            one = predict(asked.model, system, plan, load_, rates, asked.arrival, strict=False)
            late = [
                promised is not None and not float(getattr(one, name)) <= promised
                for name, promised in msgspec.structs.asdict(asked.slo).items()
            ]
            if any(late) or math.isnan(float(one.e2e_s)):
                continue
            read_s = float(one.prefill.device_s) + float(np.asarray(one.prefill.fetch_s))
            if asked.arrival != "static" and batch / float(one.e2e_s) * read_s > plan.pp:
                continue
            rate = batch * asked.output_tokens / float(one.e2e_s) / (ranks.tp * plan.pp)
            kept.add((repr(structure.plan), ranks, batch))
            best = max(best, rate)
    return best, kept


@pytest.mark.parametrize("name", CASES)
def test_the_best_is_what_brute_force_finds(name: str) -> None:
    asked = CASES[name]
    found = search(asked)
    best, kept = brute(asked, found)
    row = found.best()
    assert row is not None
    assert math.isclose(float(found.columns.tok_s_per_device[row]), best, rel_tol=1e-9)
    mine = {
        (repr(structure.plan), structure.ranks[found.columns.layout[n]], found.columns.batch[n])
        for n in np.flatnonzero(found.keeps)
        for structure in [found.structures[found.columns.structure[n]]]
    }
    assert mine == kept


def test_every_layout_is_legal_and_none_is_missing() -> None:
    asked = CASES["latent"]
    found = search(asked)
    listed = {(s.plan.pp, *ranks[1:]) for s in found.structures for ranks in s.ranks}
    legal = set()
    for pp, tp, ep, groups in product((1, 2, 4, 8, 16), repeat=4):
        plan = msgspec.structs.replace(
            found.structures[0].plan, pp=pp, tp=tp, ep=ep, attention_dp=groups
        )
        if pp * tp > 16 or ep not in (1, tp):  # vLLM deals experts to all ranks or to none
            continue
        try:
            check_plan(plan, asked.model, asked.offers[0].system)
        except ConfigError:
            continue
        legal.add((pp, tp, ep, groups))
    assert listed == legal


def test_leaders_are_the_best_batch_of_each_layout() -> None:
    found = search(CASES["dense"])
    leaders = found.leaders(99)
    assert leaders[0] == found.best()
    places = [(found.columns.structure[row], found.columns.layout[row]) for row in leaders]
    assert len(set(places)) == len(places)
    for row, place in zip(leaders, places, strict=True):
        own = found.keeps & (found.columns.structure == place[0])
        own &= found.columns.layout == place[1]
        assert found.columns.tok_s_per_device[row] == found.columns.tok_s_per_device[own].max()


def test_replicas_run_as_one_does() -> None:
    """What is said of one replica holds of all: the same latencies, and their rates add up."""
    space = Space(tp=(4,), pp=(1,), batch=(8,))
    found = search(question(budget=Budget(devices=16), slo=SLO(), space=space))
    (row,) = found.ranked(9)
    whole = found.answer(row)
    assert found.plan(row).dp == 4
    assert whole.workload.batch == 32
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        one = float(getattr(found.columns, name)[row])
        assert math.isclose(float(getattr(whole.prediction, name)), one, rel_tol=1e-12)


def test_each_loser_has_a_reason_that_its_figures_show() -> None:
    found = search(CASES["dense"])
    columns, slo = found.columns, found.question.slo
    failed = {lost.reason: lost.plans for lost in found.lost()}
    assert failed["memory"] == int(np.isnan(columns.e2e_s).sum()) > 0
    assert failed["ttft"] == int((columns.ttft_s > (slo.ttft_s or 0)).sum())
    assert failed["tpot"] == int((columns.tpot_s > (slo.tpot_s or 0)).sum())
    assert found.plans == sum(map(len, (found.keeps.nonzero()[0], (~found.keeps).nonzero()[0])))
    for row in range(found.plans):
        said = found.why(row)
        if not found.keeps[row]:
            assert "promised" in said or "needs" in said
        else:
            assert "best" in said


def test_nobody_reads_more_prompts_than_there_is_time_for() -> None:
    """A fit may find that prompts hardly delay answers; they still take the devices' time."""
    rates = basis.uncalibrated().rates.with_values(interference=0.1)
    offers = (Offer(load_system("H100-SXM"), basis.uncalibrated()._replace(rates=rates)),)
    asked = question(offers=offers, slo=SLO(), space=Space(tp=(4,), pp=(1,), batch=(8, 512)))
    found = search(asked)
    busy = found.columns.busy
    assert busy[1] > 1.0 > busy[0]
    assert found.keeps.tolist() == [True, False]
    assert "of the time" in found.why(1)
    assert 1 not in found.front()


def test_budgets_bind_and_say_so() -> None:
    price = load_system("H100-SXM").device.price_usd_per_hour or 0.0
    found = search(question(budget=Budget(devices=8, usd_per_hour=4 * price + 0.01, power_W=1400)))
    kept = {int(found.columns.devices[row]) for row in np.flatnonzero(found.keeps)}
    assert kept
    assert max(kept) <= 2, "two cards of 700 W"
    assert {"cost", "power"} <= {lost.reason for lost in found.lost()}


def test_a_load_takes_as_many_replicas_as_it_needs() -> None:
    found = search(question(requests_per_s=3.0, budget=Budget(devices=32), objective="device"))
    for row in np.flatnonzero(found.keeps):
        each, replicas = found.columns.requests_per_s[row], found.judged.replicas[row]
        assert replicas * each >= 3.0 * (1 - 1e-6)
        assert (replicas - 1) * each < 3.0
        assert replicas * found.columns.devices[row] <= 32


def test_a_promise_held_surely_is_harder_to_keep() -> None:
    system = load_system("H100-SXM")
    offers = (Offer(system, basis.calibrated(system, "vllm-v1", "closed_loop")),)
    plainly = search(question(offers=offers))
    surely = search(question(offers=offers, surely=True))
    assert set(np.flatnonzero(surely.keeps)) < set(np.flatnonzero(plainly.keeps))


def test_ties_hold_the_best_and_only_what_its_interval_reaches() -> None:
    system = load_system("H100-SXM")
    found = search(
        question(offers=(Offer(system, basis.calibrated(system, "vllm-v1", "closed_loop")),))
    )
    best, ties = found.best(), found.ties()
    assert ties is not None
    assert best in ties
    score, columns = found.columns.tok_s_per_device, found.columns
    calibration = found.question.offers[0].basis
    held = basis.around(calibration, "total_tok_s", score, columns.ttft_s, columns.e2e_s)
    assert held is not None
    for row in np.flatnonzero(found.keeps):
        assert (row in ties) == (held.high[row] >= held.low[best])
    assert search(CASES["dense"]).ties() is None, "no interval is known without a calibration"


def test_the_front_is_what_no_plan_beats() -> None:
    rng = np.random.default_rng(7)
    first, second = rng.integers(0, 12, (2, 200)).astype(float)
    among = rng.random(200) < 0.8
    chosen = set(front(first, second, among).tolist())
    for row in np.flatnonzero(among):
        beaten = among & (first >= first[row]) & (second >= second[row])
        beaten &= (first > first[row]) | (second > second[row])
        twin = among & (first == first[row]) & (second == second[row])
        assert (row in chosen) == (not beaten.any() and row == np.flatnonzero(twin)[0])


def test_disaggregated_workers_meet_in_rate_and_stay_in_the_budget() -> None:
    found = search(
        question(space=Space(batch=(8, 32, 64), disaggregated=True), slo=SLO(tpot_s=0.05))
    )
    split = np.flatnonzero(found.columns.prefill >= 0)
    assert len(split)
    for row in split:
        one = found.row(int(row))
        assert one.prefill_plan is not None
        place = int(found.columns.prefill[row])
        reading = one.prefill_workers * found.prefill.requests_per_s[place]
        steps = found.question.output_tokens - 1
        writing = found.columns.batch[row] / (one.tpot_s * steps)
        assert math.isclose(one.requests_per_s, min(reading, writing), rel_tol=1e-9)
        in_readers = one.prefill_workers * one.prefill_plan.tp * one.prefill_plan.pp
        assert one.devices == in_readers + one.decode_workers * one.plan.tp * one.plan.pp <= 8


def test_offloaded_weights_cost_the_link_and_save_the_memory() -> None:
    found = search(CASES["offload"])
    system = load_system("RTX3090")
    assert system.host_link is not None
    link_Bps = system.host_link.h2d_Bps * 0.6
    by_share = {
        found.plan(n).offload.weights_host if found.plan(n).offload else 0.0: found.row(n)
        for n in map(int, np.flatnonzero(found.columns.batch == 1))
    }
    gone_B = by_share[0.0].memory_B - by_share[1.0].memory_B
    assert math.isclose(gone_B, 2 * 8.03e9 * (1 - 2 / 32), rel_tol=0.01), "all but two layers"
    read_B = 2 * (8.03e9 - 128_256 * 4096)  # of the embedding table a step reads one row
    assert math.isclose(by_share[1.0].tpot_s, read_B / link_Bps, rel_tol=0.01)
    assert by_share[0.0].tpot_s < by_share[0.4].tpot_s < by_share[1.0].tpot_s


def test_the_simulator_serves_the_best_plan() -> None:
    found = search(question(slo=SLO(ttft_s=20.0, tpot_s=0.2), space=Space(pp=(1,), batch=(4, 8))))
    (seen,) = confirm(found, found.ranked(1))
    assert seen.result is not None
    assert seen.keeps is True
    row = found.row(seen.row)
    assert seen.result.tpot is not None
    assert math.isclose(seen.result.tpot.mean, row.tpot_s, rel_tol=0.1)
    assert math.isclose(seen.result.output_tokens_per_s, row.tok_s, rel_tol=0.1)


def test_the_simulator_serves_pipelines() -> None:
    found = search(question(slo=SLO(), space=Space(pp=(2,), tp=(2,), batch=(8,))))
    (seen,) = confirm(found, found.ranked(1))
    assert seen.result is not None, seen.problem
    assert seen.result.tpot is not None
    row = found.row(seen.row)
    assert math.isclose(seen.result.tpot.mean, row.tpot_s, rel_tol=0.1)
    assert math.isclose(seen.result.output_tokens_per_s, row.tok_s, rel_tol=0.1)


def test_the_simulator_fetches_offloaded_weights() -> None:
    """Where the link sets the pace, every step takes what the link takes for the weights."""
    space = Space(batch=(2,), weights_host=(0.0, 1.0))
    found = search(
        question(
            "llama-3-8b", "RTX3090", slo=SLO(), budget=Budget(devices=1), space=space,
            input_tokens=64, output_tokens=64,
        )
    )  # fmt: skip
    here, away = sorted(range(found.plans), key=lambda row: found.columns.offloaded[row])
    for row in (here, away):
        (seen,) = confirm(found, [row])
        assert seen.result is not None, seen.problem
        assert seen.result.tpot is not None
        assert math.isclose(seen.result.tpot.mean, found.columns.tpot_s[row], rel_tol=0.1)
    assert found.columns.tpot_s[away] > 10 * found.columns.tpot_s[here]


def test_fewest_devices_are_those_of_a_hand_calculation() -> None:
    """Weights in bytes over the memory of a card; a stage takes whole layers."""
    seventy = load("llama-2-70b")
    for name, most_B, devices in (("A100-SXM-40GB", 42.9e9, 4), ("A100-SXM-80GB", 85.9e9, 2)):
        found = fewest_devices(seventy, load_system(name), "bf16")
        assert found.devices == devices
        # 68.98 billion parameters of two bytes: 137.95 GB; one card less, whole or in powers
        # of two, has not the room.
        assert 137.95e9 / (devices - 1) > most_B
        assert 137.95e9 / devices < most_B
    deepseek, h100 = load("deepseek-v3"), load_system("H100-SXM")
    # 61 layers: eight stages of up to 8 layers would put 8 * 11.5 GB = 92 GB of experts on a card
    # of 85.5 GB, and eight ranks of everything 671 / 8 = 83.9 GB beside 2 GB of 16-bit embeddings
    # and norms; nine stages of 7 layers take 80.5 GB.
    assert fewest_devices(deepseek, h100, "fp8", even=False).devices == 9
    # Engines deal out powers of two.
    assert fewest_devices(deepseek, h100, "fp8").devices == 16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"objective": "speed"}, "objective 'speed' is unknown"),
        ({"arrival": "poison"}, "arrival 'poison' is unknown"),
        ({"budget": Budget(devices=-1)}, "devices must be above 0"),
        ({"slo": SLO(ttft_s=0.0)}, "ttft_s must be above 0"),
        ({"space": Space(batch=(0,))}, "batch must be at least 1"),
        ({"space": Space(tp=(3,), pp=(1,))}, "does not divide the 64 heads"),
    ],
)
def test_mistakes_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        search(question(**change))


def test_an_objective_without_figures_is_refused() -> None:
    free = load_system("RTX3090")
    assert free.device.price_usd_per_hour is None
    offers = (Offer(free, basis.uncalibrated()),)
    with pytest.raises(ConfigError, match="price_usd_per_hour"):
        search(question("llama-3-8b", offers=offers, objective="dollar", budget=Budget()))
