# make demo | test | check | evidence | oracles | venv.  Another index for torch: make demo TORCH_INDEX=https://…
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX),)

.PHONY: demo test check evidence oracles venv lint clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) $(TORCH) torch==2.13.0
	$(INSTALL) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(INSTALL) --editable '.[dev]'
	touch $@

venv: $(VENV)/.dev

demo: $(VENV)/.core
	$(BIN)/stablegrad demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not evidence and not oracle"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

evidence: $(VENV)/.dev
	$(BIN)/python -m pytest -m evidence --timeout=7200

# kron_torch pulls triton and rliable needs pandas<3: each oracle gets its own environment.
oracles:
	$(PYTHON) -m venv .venv-oracles
	.venv-oracles/bin/pip install --quiet torch==2.13.0 kron-torch==0.3.3 rliable==1.2.0 'pandas<3' 'arch<8' numpy \
		gymnasium ale-py minatar safetensors rich matplotlib pytest pytest-xdist pytest-timeout hypothesis
	.venv-oracles/bin/pip install --quiet --no-deps --editable .
	.venv-oracles/bin/python -m pytest -m oracle

clean:
	rm -rf $(VENV) .venv-oracles
