# One command per chore. `make demo` and `make test` need Python >= 3.11 and nothing else.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := producer processor sink pipeline millstream examples tests $(wildcard bench docs)
INSTALLED := .venv/.installed
INSTALLED_DEV := .venv/.installed-dev

.PHONY: help demo up test chaos lint format bench lock clean

help:
	@echo "make demo    everything on this machine: a CSV goes in, the computed CSV comes out"
	@echo "make up      the same services, until Ctrl-C (reader on http://127.0.0.1:8080)"
	@echo "make test    lint, types and tests; MILLSTREAM_REQUIRE=docker,promtool,browser,curl fails what would be skipped"
	@echo "make chaos   what goes wrong, drawn from seeds: RUNS=20 BROKER=up|cluster|both SEED=17 JOBS=1; see tests/chaos/RESULTS.md"
	@echo "make lint    ruff and mypy only;  make format: let ruff rewrite"
	@echo "make bench   measurements, ours beside the client's ceiling and peers; BENCH='processor --rows 1000000' chooses"
	@echo "make lock    write constraints.txt anew from pyproject.toml, and millstream/kafka.lock.toml"
	@echo "make clean   remove what was built, .venv included; .millstream/ (your data) stays"

demo: $(INSTALLED)
	@$(BIN)/millstream demo

up: $(INSTALLED)
	@$(BIN)/millstream up

test: lint
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal

chaos: $(INSTALLED_DEV)
	$(BIN)/python -m tests.chaos --record --broker $(or $(BROKER),up) --jobs $(or $(JOBS),1) \
		$(if $(SEED),--seed $(SEED),--runs $(or $(RUNS),20) --first $(or $(FIRST),1))

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(INSTALLED_DEV)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(INSTALLED_DEV)
	$(BIN)/python -m bench $(BENCH)

# The versions that pip chooses today for everything, in an environment of their own, written down for everybody.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --upgrade pip
	.venv-lock/bin/python -m pip install --quiet -e '.[dev]'
	{ echo "# Written by 'make lock': every version that the tests ran with."; \
	  .venv-lock/bin/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools; } > constraints.txt.new
	mv constraints.txt.new constraints.txt
	.venv-lock/bin/python -m millstream.kafka_jars
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-lock build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Millstream needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": name another with make PYTHON=...")'
	@echo "Installing into .venv (once, about a minute) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@echo "Installing what the tests need into .venv (once) ..."
	@$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
