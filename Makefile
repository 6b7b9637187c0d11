# Everything here needs only python3 and make; the first target makes .venv from the pinned list.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= auto
# the tests run one thread a worker
ONE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test test-all claims docs-tables check format clean

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: .venv/installed
	rm -rf demo
	$(BIN)/fewer tune digits --nfe 5 --out demo
	@echo "open demo/report.html"

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(ONE) $(BIN)/pytest -n $(JOBS) -m "not slow"

test-all: check
	$(ONE) $(BIN)/pytest -n $(JOBS)

claims: .venv/installed
	$(ONE) $(BIN)/fewer claims --json src/fewer/claims/results.json

docs-tables: .venv/installed
	$(BIN)/python scripts/methods_table.py

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
