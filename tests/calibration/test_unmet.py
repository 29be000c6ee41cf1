"""What a calibration never met is filled from relatives, and says so; what it met stays."""

from __future__ import annotations

import pytest

from analyzer.calibrated import Calibration, FittedRate
from analyzer.kinship import kin
from analyzer.priors import GENERIC
from analyzer.relatives import Belief, relative
from analyzer.systems_catalog import load_system
from calibration.relevant import WIDE
from calibration.unmet import completed

DEVICE = load_system("A100-SXM-40GB").device


def one_device(engine: str) -> Calibration:
    """Fitted on one device: its collectives were never seen."""
    fitted = FittedRate(value=0.81, low=0.8, high=0.82, data_share=0.99, identified=True)
    return Calibration(
        system="A100-SXM-40GB", engine=engine, rows=40, models=4, rates={"mem_eff": fitted}
    )


def test_what_was_fitted_stays_and_the_rest_is_no_measurement() -> None:
    found = one_device("vllm-v0")
    whole = completed(found, DEVICE, None)
    assert whole.rates["mem_eff"] == found.rates["mem_eff"]
    assert set(whole.rates) == set(GENERIC) - WIDE - {"cold_s", "host_launch_s", "linear_s"}
    added = {name: rate for name, rate in whole.rates.items() if name != "mem_eff"}
    assert not any(rate.identified or rate.data_share for rate in added.values())
    for name, rate in added.items():
        assert rate.value == pytest.approx(GENERIC[name].value, rel=1e-4)
        assert rate.low <= rate.value <= rate.high
    assert whole.to_rates().collective_s > 0.0


@pytest.mark.parametrize(("engine", "issues"), [("vllm-v0", False), ("transformers", True)])
def test_a_host_that_replays_graphs_issues_nothing(engine: str, issues: bool) -> None:
    whole = completed(one_device(engine), DEVICE, None)
    assert ("host_launch_s" in whole.rates) == issues


def test_relatives_say_more_than_the_generic_prior() -> None:
    latency = GENERIC["collective_s"]
    slow = Belief(latency.centre + 2.0 * latency.width, 0.05, 0.99)
    known = kin([relative(("A100-SXM-80GB", "vllm-v0"), {"collective_s": slow})])
    whole = completed(one_device("vllm-v0"), DEVICE, known)
    assert whole.rates["collective_s"].value > 2.0 * latency.value
    assert not whole.rates["collective_s"].identified
