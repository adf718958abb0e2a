# Each target sets itself up: it needs make and a Python >= 3.11 that has venv, nothing else.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
ARGS ?=
CONSTRAINTS ?=

PY = "$(VENV)/bin/python"
ready = @sh tools/venv.sh "$(PYTHON)" "$(VENV)" $(1) "$(CONSTRAINTS)"

# The caller's environment must not leak into ours.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH VIRTUAL_ENV PIP_CONSTRAINT PIP_PREFIX PIP_TARGET
export PYTHONNOUSERSITE := 1
export PIP_USER := 0

comma := ,

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help test test-long test-oldest bench figures docs lint types wheel hooks clean distclean

help: ## Show this list
	@echo 'Usage: make TARGET [ARGS="..."] [PYTHON=python3.12]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1@\2/p' Makefile | awk -F@ '{printf "  %-13s %s\n", $$1, $$2}'

test: ## Run the tests, e.g. make test ARGS="-k minimizer"
	$(call ready,test)
	$(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-long: ## Try the properties in tests/properties on many more inputs
	@$(MAKE) --no-print-directory test ARGS='--hypothesis-profile=long tests/properties $(ARGS)'

test-oldest: ## Run the tests marked `oldest` on the oldest supported JAX, in .venv-oldest
	@$(MAKE) --no-print-directory test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt \
		ARGS='-m "oldest and not slow" $(ARGS)'

bench: ## Run the benchmarks, e.g. make bench ARGS="--quick"
	$(call ready,bench$(comma)image)
	$(PY) -m benchmarks $(ARGS)

figures: ## Draw the paper's figures and tables and report on its statements, e.g. make figures ARGS="--quick"
	$(call ready,figures)
	$(PY) -m paper_figures $(ARGS)

docs: ## Build the documentation site into docs/_build/html; a warning is an error
	$(call ready,docs)
	$(PY) -m sphinx --fail-on-warning --keep-going --fresh-env --quiet --builder html $(ARGS) docs docs/_build/html
	@echo 'Open docs/_build/html/index.html'

lint: ## Check style, formatting, and what imports what
	$(call ready,dev)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	"$(VENV)/bin/lint-imports" --no-cache --no-logo

types: ## Check types
	$(call ready,dev)
	$(PY) -m mypy

wheel: ## Build the wheel into dist/
	$(call ready,dev)
	rm -rf build dist
	$(PY) -m build --wheel

hooks: ## Check style and types at every git commit
	$(call ready,dev)
	$(PY) -m pre_commit install

clean: ## Remove builds and caches
	rm -rf docs/_build docs/api docs/learn
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the virtual environments too
	rm -rf .venv .venv-oldest
