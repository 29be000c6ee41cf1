"""`plumbline network`, and links from a file in a prediction."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import Shell

TWO_LEVELS = """topology: [ Switch, Switch ]
npus_count: [ 4, 2 ]
bandwidth: [ 100.0, 10.0 ]  # GB/s
latency: [ 1000.0, 5000.0 ]  # ns
"""
ASKED = "predict --model llama-3-8b --system H100-SXM --tp 8 --batch 8 --ideal --json"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yml"
    path.write_text(TWO_LEVELS)
    return path


def test_the_simulation_stands_beside_the_closed_form(plumbline: Shell, network: Path) -> None:
    said = plumbline("network --system H100-SXM --devices 8 --sizes 1MiB,1GiB --json")
    assert said.code == 0, said.err
    lines = said.json["lines"]
    by = {(line["algorithm"], line["size_B"]): line for line in lines}
    for algorithm in ("ring", "halving_doubling", "direct"):
        for size_B in (2.0**20, 2.0**30):
            line = by[algorithm, size_B]
            assert line["simulated_s"] == pytest.approx(line["closed_s"], rel=0.01)
    assert all(0 < line["busiest"] <= 1 + 1e-9 for line in lines)
    across = plumbline(f"network --network {network} --algorithm hierarchical --json").json
    assert across["shape"] == [4, 2]
    for line in across["lines"]:
        assert line["simulated_s"] == pytest.approx(line["closed_s"], rel=0.02)
    shown = plumbline(f"network --network {network}")
    assert "hierarchical" in shown.out
    assert "closed form" in shown.out


def test_links_of_a_file_replace_the_systems(plumbline: Shell, network: Path) -> None:
    own = plumbline(ASKED).json
    other = plumbline(ASKED, "--network", str(network)).json
    assert other["tpot_s"] > own["tpot_s"]
    assert any("cluster.yml" in warning for warning in other["warnings"])
    network.write_text(TWO_LEVELS.replace("100.0, 10.0", "450.0, 450.0"))
    faster = plumbline(ASKED, "--network", str(network)).json
    assert own["tpot_s"] < faster["tpot_s"] < other["tpot_s"]


def test_what_predictions_cannot_know_is_said(plumbline: Shell, network: Path) -> None:
    network.write_text(TWO_LEVELS.replace("Switch, Switch", "Mesh, Switch"))
    refused = plumbline(ASKED, "--network", str(network))
    assert refused.code == 2
    assert "plumbline network" in refused.err
    alone = plumbline(f"network --network {network}")
    assert alone.code == 0
    assert "No closed form knows this network" in alone.out
    for words, said in (
        ("network", "either --network FILE or --system NAME"),
        ("network --system H100-SXM --devices 1", "at least 2 devices"),
        (f"network --network {network} --sizes big", "big"),
        (f"network --network {network}.none", "cannot be read"),
    ):
        refused = plumbline(words)
        assert refused.code == 2, words
        assert said in refused.err
