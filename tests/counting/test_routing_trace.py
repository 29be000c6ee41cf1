"""Traces of routing: as even as even routing, as skewed as the law they were drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analyzer.counting.routing import busiest_over_mean, load, popularity
from analyzer.counting.routing_trace import Routing, read_routing
from analyzer.errors import ConfigError, DataError
from analyzer.models_catalog import load as load_model
from analyzer.phases import count_prefill, lay
from analyzer.plan import Plan
from analyzer.workload import Workload

EVEN = Routing(((1 / 64,) * 64,))


def dealt(chances: np.ndarray, groups: int) -> tuple[float, ...]:
    """Shares in an order in which blocks of neighbours are the ranks of the law's deal."""
    shares = np.concatenate([chances[rank::groups] for rank in range(groups)])
    return tuple((shares / shares.sum()).tolist())


def test_an_even_trace_is_even_routing() -> None:
    for groups in (1, 8, 64):
        assert load(64, 4, 100.0, groups, 0.0, EVEN) == pytest.approx(
            load(64, 4, 100.0, groups, 0.0)
        )
        assert busiest_over_mean(64, 4, groups, 0.0, EVEN) == pytest.approx(1.0)


@pytest.mark.parametrize("skew", [0.3, 0.8])
def test_a_trace_of_the_law_is_the_law(skew: float) -> None:
    traced = Routing((dealt(popularity(64, 4, skew), 8),))
    tokens = np.array([1.0, 16.0, 4096.0])
    by_law, by_trace = load(64, 4, tokens, 8, skew), load(64, 4, tokens, 8, 0.0, traced)
    np.testing.assert_allclose(by_trace.rows, by_law.rows, rtol=1e-9)
    np.testing.assert_allclose(by_trace.distinct, by_law.distinct, rtol=1e-9)
    assert busiest_over_mean(64, 4, 8, 0.0, traced) == pytest.approx(
        busiest_over_mean(64, 4, 8, skew)
    )


def test_imbalance_grows_with_the_skew_and_ends_at_the_ranks() -> None:
    ratios = [busiest_over_mean(64, 4, 8, skew) for skew in (0.0, 0.2, 0.5, 1.0, 3.0)]
    assert ratios[0] == 1.0
    assert ratios == sorted(ratios)
    assert ratios[-1] <= 8.0
    assert busiest_over_mean(64, 4, 1, 1.0) == pytest.approx(1.0, rel=0.05)


def test_it_reaches_the_all_to_all_and_the_experts() -> None:
    model = load_model("deepseek-v3")
    asked = Workload(batch=64, input_tokens=512, output_tokens=8)

    def columns(**more: object) -> dict[str, tuple[float, float]]:
        plan = Plan(tp=8, ep=8, **more)
        (step,) = count_prefill(lay(model, plan), asked)
        (table,) = step.tables
        return {
            name: (float(table.comm_B[row]), float(table.flops[row]))
            for row, name in enumerate(table.names)
        }

    even, skewed = columns(), columns(routing_skew=0.8)
    traced = columns(routing=Routing((dealt(popularity(256, 8, 0.8), 8),)))
    for name in ("moe.dispatch", "moe.combine"):
        assert skewed[name][0] > 1.2 * even[name][0]
        assert traced[name][0] == pytest.approx(skewed[name][0])
    assert skewed["moe.up"][1] > 1.2 * even["moe.up"][1]
    assert traced["moe.up"][1] == pytest.approx(skewed["moe.up"][1])


def test_layers_are_averaged_and_files_are_read_strictly(tmp_path: Path) -> None:
    model = load_model("mixtral-8x7b")
    path = tmp_path / "trace.csv"
    path.write_text("layer,expert,tokens\n0,0,30\n0,1,10\n1,7,8\n0,0,20\n")
    assert read_routing(path, model) == Routing(
        ((50 / 60, 10 / 60, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0, 1.0))
    )
    for text, said in (
        ("expert,tokens\n8,1\n", "line 2, column 'expert'"),
        ("expert,tokens\n1.5,1\n", "line 2, column 'expert'"),
        ("expert,tokens\n1,-1\n", "line 2, column 'tokens'"),
        ("expert,tokens\n1,0\n", "visited by no tokens"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            read_routing(path, model)
    with pytest.raises(ConfigError, match="no experts"):
        read_routing(path, load_model("llama-3-8b"))
    with pytest.raises(ConfigError, match="has 64 experts"):
        load(8, 2, 10.0, 1, 0.0, EVEN)
