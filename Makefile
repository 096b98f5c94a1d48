# `make quickstart` and `make test` are all that a newcomer needs: Python 3.11, git and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SWEEP ?= jobs/sweeps/quickstart.yaml
# torch, torchvision and triton come as one set; `make lock` keeps it together.
LOCK_SET := torch==2.14.1 torchvision==0.29.1

.PHONY: help install quickstart test test-all lint format lock notice schema pictures bench bench-peers clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

install: $(VENV)/.installed  ## make .venv from requirements.lock, without resolving anything

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, but $(PYTHON) is %d.%d; set PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m duchenne_kernels.build || echo "the plain PyTorch kernels stay in use: same results, 3 to 4 times slower"
	touch $@

quickstart: install  ## run the main sweep, print the leaderboard and where the figures are
	$(BIN)/duchenne run $(SWEEP)

test: install  ## quick and hermetic: no services, no network
	$(BIN)/python -m pytest -m "not service" tests

test-all: install  ## every test; those whose service is absent say so and skip
	$(BIN)/python -m pytest tests

lint: install  ## ruff, mypy and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: install  ## regenerate the JSON Schema and the reference of the sweep file
	$(BIN)/python -m duchenne.spec.schema > platform/duchenne/spec/sweep.schema.json
	$(BIN)/python -m duchenne.spec.reference > docs/spec.md

pictures: install  ## redraw the README's and the tour's pictures and write the board down, from a sweep: make pictures ID=quickstart-...
	$(BIN)/duchenne figures $(ID) --out build/figures
	cp $(addprefix build/figures/,leaderboard.png learning_curves.png soft_order.png) docs/pictures/
	{ echo "quickstart, $$(uname -m), $$(nproc) cores"; \
	  $(BIN)/duchenne show $(ID) | grep -E '^(sweep|created|ended|dataset|code) '; \
	  COLUMNS=140 $(BIN)/duchenne leaderboard yeast; } | sed 's/ *$$//' > benchmarks/results/quickstart.txt

bench: install  ## overhead of the fold pool, beside nested trainers
	$(BIN)/python benchmarks/fold_pool.py

bench-peers: install  ## the environments of the loaders beside which benchmarks/streaming.py runs
	for peer in base hf; do \
	  $(BIN)/uv venv --quiet --clear build/peers/$$peer && \
	  $(BIN)/uv pip install --quiet --python build/peers/$$peer/bin/python -r benchmarks/peers/$$peer.txt || exit 1; \
	done

lock: install  ## resolve pyproject.toml into requirements.lock, keeping its pins (LOCK_OPTIONS=--upgrade renews them)
	printf '%s\n' $(LOCK_SET) > $(VENV)/lock-set.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra server --quiet $(LOCK_OPTIONS) --no-annotate \
	  --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
	  --constraint $(VENV)/lock-set.txt --custom-compile-command "make lock" --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra server --quiet --no-annotate --python-version 3.11 \
	  --python-platform x86_64-unknown-linux-gnu --constraint requirements.lock \
	  --custom-compile-command "make lock" --output-file requirements-runtime.lock

notice: install  ## name every package of the image with its licence, and refuse what can't go with ours
	$(BIN)/python docker/notice.py > $(VENV)/NOTICE
	mv $(VENV)/NOTICE NOTICE

clean:  ## remove .venv and every cache
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
