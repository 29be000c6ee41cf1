"""The made-up corpus, fitted once for all tests of the report."""

from __future__ import annotations

import pytest
from made_up_corpus import made_up

from calibration.run import calibrate_all
from calibration.scored import score_all


@pytest.fixture(scope="session")
def found():
    return calibrate_all(made_up())


@pytest.fixture(scope="session")
def scored(found):
    return score_all(found)
