"""What all tests share: no test may fail because the machine was busy, nor by a new random draw in
CI; away from CI, hypothesis keeps looking for new examples."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("plumbline", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("plumbline")
