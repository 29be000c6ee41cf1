"""points.csv holds every measured figure with its predictions, and the page reads it back."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.scored import OURS_OUT
from reports.validate.pick import rows
from reports.validate.points import points
from reports.web.validated import errors, load


@pytest.fixture
def read(scored, tmp_path):
    (tmp_path / "points.csv").write_text(points(scored), encoding="utf-8")
    return load(tmp_path)


def test_every_measured_figure_is_there_once(scored, read) -> None:
    assert len(read) == sum(int(np.isfinite(one.measured).sum()) for one in scored)


@pytest.mark.parametrize("metric", ["ttft", "tpot", "e2e"])
def test_errors_of_the_file_are_those_of_the_report(scored, read, metric) -> None:
    told = rows(scored, OURS_OUT, f"{metric}_s").tally
    mine = errors(read.where(read.texts["metric"] == metric), "held_out_s")
    assert mine.rows == told.rows
    assert mine.geomean == pytest.approx(told.geomean, abs=5e-4)
    assert mine.p90 == pytest.approx(told.p90, abs=5e-4)
    assert mine.bias == pytest.approx(told.bias, abs=5e-4)
