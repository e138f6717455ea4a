# One entry point. Needs Python >= 3.11 and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check lint types bench docs clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)  ## record a real program, replay it, verify it against the kernel, bisect it
	$(BIN)/python docs/demo.py

test: $(STAMP)  ## the whole suite
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test  ## what a change must pass

bench: $(STAMP)  ## speed, each figure with its baseline in the same run
	$(BIN)/python -m benchmarks

docs: $(STAMP)  ## regenerate the reference pages
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist *.egg-info
