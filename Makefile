# Knowledge transfer in the kernel regime. Every target does its own set-up in .venv; only the browser of the tests goes elsewhere.
PYTHON ?= python3
BIN := .venv/bin
# A worker that dies ends the run at once, with the name of its test: replaced, it would wait for ever (pytest-xdist 3.8).
# Files in their own order: sorted by their number of tests, the few long ones of the browser would come last.
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0
# Most of a test's time is compilation of programs that run once: without the optimiser's last steps it takes a quarter.
# The sweep of the claims, and the chapters, run what a reader's machine compiles.
QUICK := XLA_FLAGS="--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
READY := .venv/.ready
# What JAX has compiled is kept: the same program of the same shapes is compiled once, and not again by the next build or run.
export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/_build/programs
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0

.DEFAULT_GOAL := help
.PHONY: help book test lab notebooks serve zip pdf verify bench lint lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

book: $(READY)  ## execute the chapters and render the book to _build/html/index.html
	@$(BIN)/python -m tools.build

test: $(READY) book browser  ## run all tests
	@$(QUICK) $(PYTEST)

verify: $(READY) browser  ## the long sweeps over random problems and pages; writes book/claims.json
	@$(PYTEST) --sweep tests/claims  # first, for the book shows its outcome
	@$(MAKE) --no-print-directory book
	@$(QUICK) $(PYTEST) --sweep --ignore tests/claims -m "not timed"
	@$(PYTEST) -n 0 --sweep -m timed

bench: $(READY)  ## time kdlib beside its alternatives; compares with the accepted record in benchmarks/
	@$(BIN)/python -m benchmarks

lab: $(READY)  ## open the chapters as notebooks in JupyterLab
	@mkdir -p .venv/share/jupyter/lab/settings && cp tools/lab.json .venv/share/jupyter/lab/settings/overrides.json
	@$(BIN)/jupyter lab book

notebooks: $(READY)  ## write an .ipynb of every chapter to _build/notebooks
	@$(BIN)/python -m tools.notebooks

serve: book  ## serve the book on this machine until Ctrl-C
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

zip: book  ## pack the rendered book into one file, with its checksum
	@$(BIN)/python -m tools.archive

pdf: $(READY)  ## typeset the book as a PDF (needs XeLaTeX; says what is missing)
	@$(BIN)/python -m tools.pdf

lint: $(READY)  ## check style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

lock: pyproject.toml  ## pin the environment anew from pyproject.toml (needs uv)
	uv pip compile --quiet --upgrade --universal --fork-strategy fewest --python-version 3.11 --extra book --extra test \
	  --no-annotate --no-header pyproject.toml -o requirements.txt

clean:  ## remove everything that was built, and the environment
	rm -rf _build .venv .pytest_cache .ruff_cache

.PHONY: browser
browser: $(READY)
	@$(BIN)/python -m tools.browser

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up .venv (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@
