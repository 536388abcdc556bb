# Revet. `make demo` and `make test` do all their set-up from a clean clone.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$name >/dev/null 2>&1 && $$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && { command -v $$name; break; }; done)
ARGS ?=
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: help demo test fast up check lock clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    run the whole loop once on this machine (about 5 minutes); ARGS="--data nsl-kdd --keep" and others are passed on'
	@echo 'make test    all tests (about 12 minutes); `make fast` leaves out those that train, attack or start servers'
	@echo 'make up      keep Prefect server, worker and MLflow server up, with schedules on'
	@echo 'make check   lint, types, import contracts'
	@echo 'make lock    write the versions that are installed to constraints.txt'
	@echo 'The first of them installs into $(VENV).'

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'Revet needs Python 3.11, 3.12 or 3.13 with the venv module; none is on the PATH.'; \
		echo 'Install one (Debian and Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12'; exit 1; }
	@echo 'Installing into $(VENV) with $(PYTHON): about 200 packages, 2.6 GB, 5 to 10 minutes, this once.'
	@echo '(Linux with a GPU build of torch: about 6 GB. For the CPU build there, install torch into $(VENV) first.)'
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/revet demo $(ARGS)

up: $(STAMP)
	$(BIN)/revet up $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

fast: $(STAMP)
	$(BIN)/python -m pytest -m 'not slow' $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The whole closure, without local versions such as +cpu, so that every platform can use it.
lock: $(STAMP)
	@$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/frozen.txt
	@if grep -nE '@|://|^-' $(VENV)/frozen.txt; then echo 'these packages come from no registry: install them by version first'; exit 1; fi
	@{ echo '# The versions that were installed and run together. Written by `make lock`.'; \
		sed 's/+[^ ;]*//' $(VENV)/frozen.txt; } > constraints.txt
	@touch $(STAMP)
	@echo "constraints.txt: $$(grep -vc '^#' constraints.txt) packages"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
