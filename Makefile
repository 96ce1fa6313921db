PYTHON ?= python3
VENV = .venv
BIN = $(abspath $(VENV))/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint docs bench bench-high clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s '|'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

install: $(VENV)/.installed  ## Make the virtual environment

demo: $(VENV)/.installed  ## Simulate a small data set, run everything, score it, write the report
	$(BIN)/eucentric demo demo

test: $(VENV)/.installed  ## Run the fast tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 8 --dist loadfile -m 'not slow and not gpu'

test-all: $(VENV)/.installed  ## Run all tests but those that need a GPU
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not gpu'

lint: $(VENV)/.installed  ## Check style, types and layers
	$(BIN)/ruff check --no-cache
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed  ## Build the documentation; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed  ## Run the benchmarks, each once
	$(BIN)/asv machine --yes --config benchmarks/asv.conf.json
	PATH=$(BIN):$$PATH $(BIN)/asv run --python=same --quick --show-stderr --config benchmarks/asv.conf.json

bench-high: $(VENV)/.installed  ## Average 900 simulated particles at 1.6 A: ten minutes of one core, 3 GiB
	$(BIN)/python benchmarks/averaging_high.py $(or $(EUCENTRIC_SHARED_DATA),../shared/data)

clean:  ## Remove what was built; the virtual environment and the demo stay
	rm -rf site dist build .asv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
