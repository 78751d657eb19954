# make demo | test | check | portability | evidence | oracles | venv.  Torch from elsewhere: make demo TORCH_INDEX=https://…
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
TESTS := $(BIN)/python -m pytest

.PHONY: demo test check portability evidence oracles venv lint clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Another index for torch has torch alone: what torch needs comes with the rest, from the usual one.
$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
ifneq ($(TORCH_INDEX),)
	$(INSTALL) --index-url $(TORCH_INDEX) --no-deps torch
endif
	$(INSTALL) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(INSTALL) --editable '.[dev]'
	touch $@

venv: $(VENV)/.dev

demo: $(VENV)/.core
	$(BIN)/stablegrad demo

test: $(VENV)/.dev
	$(TESTS) -m "not evidence and not oracle"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# The numeric tests as other processors do their sums, with one thread and with two.
portability: $(VENV)/.dev
	$(BIN)/python tests/portability.py

evidence: $(VENV)/.dev
	$(TESTS) -m evidence --timeout=7200

# kron_torch pulls triton and rliable needs pandas<3: each oracle gets its own environment.
oracles:
	$(PYTHON) -m venv .venv-oracles
	.venv-oracles/bin/pip install --quiet torch==2.13.0 kron-torch==0.3.3 rliable==1.2.0 'pandas<3' 'arch<8' numpy \
		gymnasium ale-py minatar safetensors rich matplotlib pytest pytest-xdist pytest-timeout hypothesis
	.venv-oracles/bin/pip install --quiet --no-deps --editable .
	.venv-oracles/bin/python -m pytest -m oracle

clean:
	rm -rf $(VENV) .venv-oracles
