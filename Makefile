# One entry point. Needs Python >= 3.11 and make; everything else goes into .venv.
# The first interpreter found that is new enough.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

NIGHTLY ?= 500

.PHONY: compiled demo test test-postgresql crash nightly fuzz check lint types bench growth docs clean

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (PYTHON=… names one)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)  ## record a real program, replay it, verify it against the kernel, bisect it
	$(BIN)/python docs/demo.py

test: $(STAMP)  ## the whole suite
	$(BIN)/python -m pytest -n 2

test-postgresql: $(STAMP)  ## every test that has a store, on a private PostgreSQL server
	VMASTORE_TEST_STORE=postgresql $(BIN)/python -m pytest -n 2 -rs

crash: $(STAMP)  ## 250 writers killed at random moments
	VMASTORE_CRASHES=50 $(BIN)/python -m pytest -n 2 tests/store/test_crash.py

nightly: fuzz  ## planted differences in their full number and sizes: about an hour
	$(BIN)/python tests/replay/planting.py --count $(NIGHTLY)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test  ## what a change must pass

fuzz: $(STAMP)  ## 200,000 mutated logs: an error or a counted skip, never a traceback
	$(BIN)/python tests/importers/mutation.py 200000

# the engine compiled by mypyc: needs a C compiler and Python's headers
COMPILED := build/compiled/.built
$(COMPILED): $(STAMP) setup.py $(shell find vmastore cli migrations -name '*.py' -not -path 'vmastore/cli/*')
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "setuptools>=77"
	VMASTORE_MYPYC=1 $(BIN)/python setup.py --quiet build --build-lib build/compiled
	touch $@

bench: $(STAMP)  ## speed, each figure with its baseline in the same run, pure and compiled; BENCH="--quick --json FILE"
	@$(MAKE) --no-print-directory $(COMPILED) || echo "the engine could not be compiled: the pure one is measured alone"
	$(BIN)/python -m benchmarks $(BENCH)

growth: $(STAMP)  ## how times grow with events and VMAs: docs/growth.md and its figure; GROWTH=--nightly to 1e7 events
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	mkdir -p build
	$(BIN)/python -m benchmarks.growth $(GROWTH) --json build/growth.json
	$(BIN)/python -m benchmarks.plot build/growth.json --write docs/growth.md

compiled: $(COMPILED)  ## the domain compiled by mypyc into build/compiled, and its tests run against that
	PYTHONPATH=build/compiled $(BIN)/pytest -n 2 tests/mm tests/syscalls tests/replay/test_world.py tests/replay/test_verify.py \
		tests/replay/test_snapshots.py tests/replay/test_check_derived.py tests/store/test_moments.py

docs: $(STAMP)  ## regenerate the reference pages
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist *.egg-info
