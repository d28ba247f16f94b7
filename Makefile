PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint docs

demo: .venv/installed
	@if [ -e demo ]; then echo "demo/ exists; remove it to make it anew"; exit 1; fi
	$(BIN)/retina train examples/shapes.yaml -o demo/run
	$(BIN)/retina eval demo/run --split test
	$(BIN)/python examples/save_shapes.py demo/images 12
	$(BIN)/retina predict demo/images -w demo/run --vis -o demo/predictions
	@echo "demo/run holds the run and its curves, demo/predictions the annotated pictures"

# the tests run in several processes; one thread for each unless the environment says otherwise
test test-slow: export OMP_NUM_THREADS ?= 1

test: .venv/installed
	$(BIN)/pytest -m "not slow" -n auto --maxprocesses 8 --dist worksteal

test-slow: .venv/installed
	$(BIN)/pytest -m slow -n 2

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed
	$(BIN)/python docs/generate.py

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@
