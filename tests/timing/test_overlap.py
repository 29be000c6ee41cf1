"""Micro-batches that hide each other's communication: laws, and the chunk-level simulation."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer import basis
from analyzer.answer import answer
from analyzer.explain import lines
from analyzer.models_catalog import load
from analyzer.network import topology
from analyzer.network.hierarchical import overlapped_layers
from analyzer.plan import Plan
from analyzer.predict import predict
from analyzer.systems_catalog import load_system
from analyzer.timing.collectives import Fabric, collective_time
from analyzer.timing.roofline import overlapped
from analyzer.workload import Workload

H100 = load_system("H100-SXM")
seconds = st.floats(1e-6, 1.0)


@given(compute=seconds, sent=seconds, pieces=st.integers(1, 8), turns=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_never_faster_than_the_longer_nor_slower_than_the_sum(
    compute: float, sent: float, pieces: int, turns: int
) -> None:
    whole, shown = overlapped(
        np.asarray(compute + sent), np.asarray(sent), float(pieces), np.asarray(float(turns))
    )
    longer, total = pieces * max(compute, sent), pieces * (compute + sent)
    assert longer * (1 - 1e-12) <= whole <= total * (1 + 1e-12)
    assert shown + 1e-12 >= 0.0
    if pieces == 1:
        assert whole == pytest.approx(compute + sent)
        assert shown == pytest.approx(sent)


@pytest.mark.parametrize("balance", [0.2, 0.7, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("layers", [8, 40])
def test_it_is_what_the_simulation_finds(balance: float, layers: int) -> None:
    Bps, payload_B = 100e9, 1e8
    net = topology.switch(4, Bps, 0.0)
    half_s = float(collective_time("all_reduce", payload_B / 2, 4.0, Fabric(link_Bps=Bps)))
    compute_s = balance * 2.0 * half_s
    simulated = overlapped_layers(net, layers, compute_s, payload_B, micro_batches=2).seconds
    piece_s = layers * (compute_s / 2.0 + half_s)
    whole, _ = overlapped(
        np.asarray(piece_s), np.asarray(layers * half_s), 2.0, np.asarray(float(layers))
    )
    assert float(whole) == pytest.approx(simulated, rel=0.01)


@pytest.mark.parametrize("name", ["llama-3-70b", "mixtral-8x7b"])
def test_a_prediction_lies_between_its_halves_and_their_sum(name: str) -> None:
    """Two micro-batches of half the batch: each as one prediction of half the batch."""
    model, rates = load(name), basis.uncalibrated().rates
    rates = rates.with_values(step_s=0.0, sequence_s=0.0, host_launch_s=0.0, prefill_s=0.0)
    asked = Workload(batch=32, input_tokens=512, output_tokens=16)
    half = msgspec.structs.replace(asked, batch=16)
    both = predict(model, H100, Plan(tp=8, overlap=2), asked, rates)
    alone = predict(model, H100, Plan(tp=8), half, rates)
    for together, apart in ((both.prefill, alone.prefill), (both.decode, alone.decode)):
        compute_s = float(apart.device_s - apart.network_s)
        longer = 2.0 * max(compute_s, float(apart.network_s))
        assert longer <= float(together.total_s) < 2.0 * float(apart.total_s)


def test_one_micro_batch_and_one_sequence_hide_nothing() -> None:
    model, rates = load("llama-3-8b"), basis.uncalibrated().rates
    for plan, batch in ((Plan(tp=4, overlap=1), 8), (Plan(tp=4, overlap=4), 1)):
        asked = Workload(batch=batch, input_tokens=128, output_tokens=8)
        assert predict(model, H100, plan, asked, rates).e2e_s == pytest.approx(
            float(predict(model, H100, Plan(tp=4), asked, rates).e2e_s), rel=1e-12
        )


def test_the_operators_and_what_is_hidden_add_up() -> None:
    asked = Workload(batch=32, input_tokens=512, output_tokens=16)
    found = answer(load("llama-3-70b"), H100, Plan(tp=8, overlap=2), asked, basis.uncalibrated())
    for phase, whole in (
        ("prefill", found.prediction.prefill),
        ("decode", found.prediction.decode),
    ):
        listed = [line for line in lines(found) if line.phase == phase]
        assert sum(line.time_s for line in listed) == pytest.approx(float(whole.total_s), rel=1e-9)
        (hidden,) = [line for line in listed if line.name == "overlapped"]
        assert hidden.time_s < 0.0
