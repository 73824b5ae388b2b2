# make demo    a model of your own, from text to chat, in one command
# make test    lint, types, import floors and tests
# make bench   speed beside others (PEER=a checkout of nanoGPT, DATA=tiny Shakespeare,
#              LLAMA=llama.cpp's programs), into docs/benchmarks.md
#
# Variables: MINUTES=12  DATA=path  OUT=runs/demo  SEED=0  TORCH_INDEX=url  PYTHON=python3  SLOW=1
#            JOBS=2 (processes that tests run in; each wants about 2 GB of memory)

MINUTES ?= 12
DATA ?=
OUT ?= runs/demo
SEED ?= 0
TORCH_INDEX ?=
PYTHON ?=
JOBS ?= 2

SHELL := /bin/bash
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)")

.PHONY: demo test lint capabilities bench clean .venv

demo: .venv/.core
	@$(BIN)/ingot demo --minutes $(MINUTES) $(if $(DATA),--data "$(DATA)") --out "$(OUT)" --seed $(SEED)

test: lint
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

capabilities: .venv/.core
	@$(BIN)/python scripts/capabilities.py docs/capabilities.md

BENCHMARKS := train_throughput time_to_loss loop_overhead gpu_throughput
DATA_BENCHMARKS := minhash_speed filter_speed data_chain tokenizer_speed tokenizer_training packing \
	equal_compute
ANSWERING := speedup decode prompt prefix invariant speculation serving models
bench: .venv/.dev
	@set -e; for name in $(if $(DATA),$(BENCHMARKS),$(filter-out time_to_loss,$(BENCHMARKS))); do \
		echo "== $$name"; \
		$(BIN)/python "benchmarks/$$name.py" $(if $(PEER),--peer "$(PEER)") $(if $(DATA),--data "$(DATA)") \
			--save "benchmarks/results/$$name.json"; \
	done
	@set -e; for name in $(DATA_BENCHMARKS); do \
		echo "== $$name"; \
		$(BIN)/python "benchmarks/$$name.py" --save "benchmarks/results/$$name.json"; \
	done
	@set -e; for name in $(ANSWERING); do \
		echo "== $$name"; \
		$(BIN)/python "benchmarks/$$name.py" --save "benchmarks/results/$$name.json" $(if $(LLAMA),\
			$$(grep -q -- --llama-bin "benchmarks/$$name.py" && echo --llama-bin "$(LLAMA)")); \
	done
	@$(BIN)/python scripts/benchmarks_table.py

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The environment. Stamp files say what is installed, so that a second make does nothing.

.venv: .venv/.core
	@:

.venv/.core: pyproject.toml constraints.txt
	@python=""; \
	for each in $(if $(PYTHON),"$(PYTHON)",python3 python3.12 python3.11); do \
		if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$each"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: no Python 3.11 or newer found (looked for: $(or $(PYTHON),python3 python3.12 python3.11));" \
			"install one, or name it with PYTHON=/path/to/python3.12" >&2; exit 2; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "error: $$python has no venv module; install it (Debian and Ubuntu: apt install python3-venv)," \
			"then run make again" >&2; exit 2; \
	fi; \
	start=$$(date +%s); \
	echo "installing packages into .venv (once; a few minutes, depending on your network) ..."; \
	[ -x $(BIN)/python ] || "$$python" -m venv .venv || exit 2; \
	$(INSTALL) -e . || { echo "error: the packages could not be installed, see above; run make again" >&2; exit 2; }; \
	echo "packages installed in $$(( $$(date +%s) - start )) s (not counted in the demo's minutes)"
	@touch $@

.venv/.dev: .venv/.core
	@start=$$(date +%s); \
	$(INSTALL) -e '.[dev]' || { echo "error: the test packages could not be installed, see above" >&2; exit 2; }; \
	echo "test packages installed in $$(( $$(date +%s) - start )) s"
	@touch $@
