PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')

.PHONY: help setup demo docs test lint format lock test-lower-bounds clean

help:
	@echo "make setup   .venv with everything in it"
	@echo "make demo    the whole job on built-in data: GAN, segmenter, evaluation, report"
	@echo "make docs    the documents as a site, build/site/index.html"
	@echo "make test    all tests"
	@echo "make lint    formatting, lint rules and types"

setup: $(STAMP)

$(STAMP): requirements.txt requirements.lock requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
		sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else "error: Python 3.11 to 3.13 is needed, \
	this is %d.%d; say which with make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-dev.txt -c requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $(STAMP)

demo: setup
	$(BIN)/python -m experiments.pipeline --config=configs/puppets.py --workdir=workdirs/demo
	@echo "Open workdirs/demo/report.html"

# Warnings are errors: a link without a target, a name that is gone.
docs: setup
	$(BIN)/python -m sphinx -c docs -b html -W --keep-going -q -d build/doctrees . build/site
	@echo "Open build/site/index.html"

# In the order of the folders: files with few tests, which would come last, take longest. One worker
# more than cores, since some wait for the disk or for processes of their own.
test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Exact versions of everything, as tested; the lower bounds are tested in an environment of their own.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet -r requirements-dev.txt
	build/lock/bin/python -m pip freeze --exclude-editable > requirements.lock

test-lower-bounds:
	$(PYTHON) -m venv build/lowest
	sed 's/>=/==/' requirements.txt > build/lowest/requirements.txt
	build/lowest/bin/python -m pip install --quiet -r build/lowest/requirements.txt pytest pytest-xdist
	build/lowest/bin/python -m pip install --quiet --no-deps -e .
	build/lowest/bin/python -m pytest

clean:
	rm -rf $(VENV) build workdirs
