# Everything here needs only python3 and make; the first target makes .venv from the pinned list.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= auto
# each worker has tests that follow each other, so that what those of a file share is made once; who is through takes of the others'
PARALLEL := -n $(JOBS) --dist worksteal
# the tests run one thread a worker, and keep bytecode: every worker and command would compile all of fewer again
ONE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.PHONY: demo test test-all test-versions wheel claims docs docs-tables docs-plots check lint types quick-tests all-tests format clean

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q src
	touch $@

demo: .venv/installed
	rm -rf demo
	$(BIN)/fewer tune digits --nfe 5 --evaluations 40000 --out demo
	@echo "open demo/report.html"

check: lint types

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/installed
	$(BIN)/mypy

# types beside the tests: they keep one core busy, and the tests leave some of theirs
test: lint
	$(MAKE) --no-print-directory --jobs=2 types quick-tests

test-all: lint
	$(MAKE) --no-print-directory --jobs=2 types all-tests

quick-tests: .venv/installed
	$(ONE) $(BIN)/pytest $(PARALLEL) -m "not slow"

all-tests: .venv/installed
	$(ONE) $(BIN)/pytest $(PARALLEL)

# the quick tests under every supported Python that is on this machine; says which are not
test-versions: .venv/installed
	$(BIN)/python -m scripts.versions

# what a user gets: the wheel, installed in an empty environment, runs the README's example
wheel: .venv/installed
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	$(ONE) $(BIN)/python -m scripts.wheel dist/*.whl
	rm -rf build

claims: .venv/installed
	$(ONE) $(BIN)/fewer claims --json src/fewer/claims/results.json

# the pages that are made from docstrings and recorded claims
docs-tables: .venv/installed
	$(ONE) $(BIN)/python -m scripts.pages

.venv/installed-docs: .venv/installed requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

docs-plots: .venv/installed-docs
	$(ONE) $(BIN)/python -m scripts.order_plots

docs: .venv/installed-docs docs-tables
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open site/index.html"

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-3.* build dist demo site .mypy_cache .ruff_cache .pytest_cache .hypothesis
