"""Prompts and answers on workers of their own, in a closed loop."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from analyzer.basis import uncalibrated
from analyzer.engines import engine_on
from analyzer.models_catalog import load as load_model
from analyzer.plan import Plan
from analyzer.predict import predict
from analyzer.quirks import repaired
from analyzer.records import Pool, Scenario
from analyzer.records_arrival import Arrival
from analyzer.scenarios.columns import Load
from analyzer.scenarios.forms import STEPS_TO_JOIN, disaggregated, form_of
from analyzer.scenarios.groups import Group, resolve
from analyzer.scenarios.rows import UNCOUNTED, answer_rows
from analyzer.steady import crowd_of
from analyzer.systems_catalog import load_system
from analyzer.timing.phase import issuing
from analyzer.timing.rates import Rates
from analyzer.workload import Workload

PARALLEL = Pool(workers=1, batch=8.0, attention_dp=8, moe_ep=8)


def _group(prefill: Pool, decode: Pool) -> Group:
    row = Scenario(
        hardware="B200",
        model="deepseek-v3",
        engine="SGLang",
        weight_precision="fp8",
        kv_precision="fp8",
        arrival=Arrival(kind="closed_loop"),
        prefill_pool=prefill,
        decode_pool=decode,
    )
    return resolve(row, "", "", lambda *_: uncalibrated())


def _load(requests: float) -> Workload:
    return Workload(
        batch=np.array([requests]), input_tokens=np.array([2048.0]), output_tokens=np.array([512.0])
    )


def test_a_pools_batch_is_that_of_each_rank_that_holds_sequences() -> None:
    group = _group(PARALLEL, PARALLEL)
    assert group.pools is not None
    assert (group.pools.prefill_batch, group.pools.decode_batch) == (64.0, 64.0)
    sharded = _group(Pool(workers=2, batch=8.0, tp=8), Pool(workers=1, tp=8)).pools
    assert sharded is not None
    assert (sharded.prefill_batch, sharded.decode_batch) == (8.0, None)


def _first_s(group: Group, batch: float) -> float:
    assert group.pools is not None
    load = Workload(batch=batch, input_tokens=2048, output_tokens=1)
    rates = issuing(group.basis.rates)
    return float(predict(group.model, group.system, group.pools.prefill, load, rates).ttft_s)


def test_a_lone_request_waits_for_its_prompt_and_the_step_it_joins() -> None:
    group = _group(Pool(workers=1, tp=8), Pool(workers=1, tp=8))
    assert group.pools is not None
    found = disaggregated(group, _load(1.0), group.pools)
    expected = _first_s(group, 1.0) + STEPS_TO_JOIN * found.tpot_s
    np.testing.assert_allclose(found.ttft_s, expected)


@pytest.mark.parametrize("prefill", [Pool(workers=3, tp=8), Pool(workers=3, attention_dp=8)])
def test_where_prompts_wait_a_worker_takes_all_that_fit_a_step(prefill: Pool) -> None:
    group = _group(prefill, Pool(workers=9, batch=256.0, attention_dp=8, moe_ep=8))
    assert group.pools is not None
    device = group.system.device
    fit = float(crowd_of(2048.0, engine_on("sglang", device))) * prefill.attention_dp
    found = disaggregated(group, _load(9 * 2048.0), group.pools)
    able = 3 * fit / _first_s(group, fit)
    np.testing.assert_allclose(found.decode_tok_s / 512, able, rtol=1e-3)
    # Whoever is not decoding waits before the first token.
    waiting = able * float(found.ttft_s[0])
    np.testing.assert_allclose(waiting + able * 511 * found.tpot_s, 9 * 2048.0, rtol=1e-3)


def test_a_pool_that_cannot_hold_a_sequence_gives_no_figures() -> None:
    group = _group(Pool(workers=1, tp=8), Pool(workers=1, tp=1))
    form = form_of(group)
    assert form is not None
    found = form(group, _load(64.0))
    assert np.isnan(found.tpot_s).all()
    assert np.isnan(found.ttft_s).all()


def test_a_hosts_sequences_are_those_of_its_rank() -> None:
    model, system = load_model("deepseek-v3"), load_system("B200-SXM-180GB")
    load = Workload(batch=np.array([4.0, 64.0, 512.0]), input_tokens=1024, output_tokens=128)
    for plan, hosts in ((Plan(tp=8, ep=8), 1), (Plan(tp=8, ep=8, attention_dp=8), 8)):
        plan = msgspec.structs.replace(plan, weights="fp8", kv="fp8", engine="sglang")
        cheap, dear = (
            predict(model, system, plan, load, Rates.ideal().with_values(sequence_s=cost)).tpot_s
            for cost in (0.0, 1e-3)
        )
        np.testing.assert_allclose(dear - cheap, 1e-3 * np.maximum(load.batch / hosts, 1.0))


def test_wide_pools_hold_whole_sequences_on_each_rank() -> None:
    row = Scenario(prefill_pool=Pool(tp=16), decode_pool=Pool(tp=32, moe_tp=4, moe_ep=8))
    ran = repaired(row, "silicon_sample")
    assert ran.prefill_pool == row.prefill_pool
    assert ran.decode_pool == Pool(tp=1, attention_dp=32, moe_tp=1, moe_ep=32)
    stated = msgspec.structs.replace(row, decode_pool=Pool(tp=32, attention_dp=2, moe_ep=8))
    assert repaired(stated, "silicon_sample").decode_pool == stated.decode_pool
    assert repaired(row, "another") == row


@pytest.mark.parametrize(("workers", "said"), [(1, False), (None, True)])
def test_workers_that_nobody_counted_are_said_to_be_assumed(
    workers: int | None, said: bool
) -> None:
    group = _group(Pool(workers=1, tp=8), Pool(workers=workers, tp=8))
    found = answer_rows(group, [Load(4.0, 1024.0, 128.0, "")])
    assert (UNCOUNTED in found.notes[0]) == said
    assert np.isfinite(found.columns["ttft_s"]).all()
