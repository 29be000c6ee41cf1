"""What lies beside the device costs its bytes over the link, never less, and frees memory."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import basis
from analyzer.answer import answer
from analyzer.errors import CapacityError, ConfigError
from analyzer.explain import bound, lines
from analyzer.models_catalog import load
from analyzer.plan import Offload, Plan
from analyzer.predict import predict
from analyzer.system import System
from analyzer.systems_catalog import load_system
from analyzer.timing.rates import Rates
from analyzer.workload import Workload

MODEL, SYSTEM = load("llama-3-8b"), load_system("RTX4090")
ASKED = Workload(batch=2, input_tokens=256, output_tokens=64)
SHARES = st.floats(0.0, 1.0)


def _predict(offload: Offload | None, rates: Rates | None = None, system: System = SYSTEM):  # type: ignore[no-untyped-def]
    return predict(MODEL, system, Plan(offload=offload), ASKED, rates or Rates.ideal())


def test_no_share_is_no_offload() -> None:
    assert float(_predict(Offload()).e2e_s) == float(_predict(None).e2e_s)


def test_a_decode_step_takes_the_bytes_over_the_link() -> None:
    """All weights of an 8B model: what a step reads, at the data sheet's rate, is the step."""
    link = SYSTEM.host_link
    assert link is not None
    read_B = 2.0 * (8_030_261_248 - 128_256 * 4096)  # bf16; the embedding's rows are only gathered
    found = _predict(Offload(weights_host=1.0))
    assert float(found.tpot_s) == pytest.approx(read_B / link.h2d_Bps, rel=1e-3)


@given(host=SHARES, more=SHARES)
def test_more_beside_the_device_is_never_faster_and_never_larger(host: float, more: float) -> None:
    less, most = sorted((host, more))
    few, many = (_predict(Offload(weights_host=share)) for share in (less, most))
    assert float(many.tpot_s) >= float(few.tpot_s) * (1 - 1e-12)
    assert float(many.ttft_s) >= float(few.ttft_s) * (1 - 1e-12)
    assert float(many.memory.total_B) <= float(few.memory.total_B) * (1 + 1e-12)
    assert float(many.max_batch) >= float(few.max_batch)


@given(share=SHARES)
def test_never_faster_than_on_the_device(share: float) -> None:
    beside = _predict(Offload(kv_host=share), Rates.default())
    assert float(beside.e2e_s) >= float(_predict(None, Rates.default()).e2e_s)


def test_a_disk_is_shared_by_the_devices_of_its_node() -> None:
    four = load_system("H100-SXM")
    times = [
        float(
            predict(
                MODEL, four, Plan(tp=tp, offload=Offload(weights_disk=1.0)), ASKED, Rates.ideal()
            ).tpot_s
        )
        for tp in (1, 4)
    ]
    assert times[1] == pytest.approx(times[0], rel=0.02), "a quarter each, at a quarter of the rate"


def test_a_model_that_does_not_fit_runs_from_the_host() -> None:
    large = load("llama-3-70b")
    asked = Workload(batch=1, input_tokens=64, output_tokens=8)
    with pytest.raises(CapacityError, match="does not fit"):
        predict(large, SYSTEM, Plan(), asked)
    plan = Plan(offload=Offload(weights_host=0.9))
    found = answer(large, SYSTEM, plan, asked, basis.uncalibrated())
    assert bound(found, lines(found)).overall == "host link"
    assert found.interval("e2e_s") is None
    assert any("offloaded" in warning for warning in found.warnings)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="add up to"):
        Offload(weights_host=0.6, weights_disk=0.6)
    with pytest.raises(ConfigError, match="share from 0 to 1"):
        Offload(kv_host=-0.1)
    bare = msgspec.structs.replace(SYSTEM, host_link=None, host=None)
    with pytest.raises(ConfigError, match=r"\[host_link\]"):
        _predict(Offload(weights_host=0.5), system=bare)
    with pytest.raises(CapacityError, match="fit the host"):
        predict(load("llama-3.1-405b"), SYSTEM, Plan(offload=Offload(weights_host=1.0)), ASKED)
