# Two commands do all the set-up on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Tests that start processes of their own: one at a time. The others run two by two.
ALONE  := broker or browser or faults or postgres
GPU_PYTHON ?= $(BIN)/python
PIP    := $(BIN)/python -m pip --disable-pip-version-check
LOCK   := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links

.PHONY: demo test check gpu-check bench train encoder faces voices kafka lock clean help

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.run ## play a scenario through the engine and open the live page (needs Python alone)
	@$(BIN)/affect demo $(ARGS)

test: $(VENV)/.dev ## every test that needs no GPU; installs what it needs
	@bash deploy/system-parts.sh
	@$(MAKE) --no-print-directory check
	@if [ -n "$(ARGS)" ]; then exec $(BIN)/python -m pytest $(ARGS); fi; \
	again() { echo "== what failed, once more in a fresh process; what passes now is flaky: mend it"; \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m "$$1"; }; \
	failed=0; \
	$(BIN)/python -m pytest --durations=15 -n 2 --dist worksteal -m "not ($(ALONE))" || again "not ($(ALONE))" || failed=1; \
	$(BIN)/python -m pytest --durations=25 -m "$(ALONE)" || again "$(ALONE)" || failed=1; \
	exit $$failed

check: $(VENV)/.dev ## format, lint, types
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy
	@$(BIN)/python deploy/tensorrt/check.py

bench: $(VENV)/.dev ## run the benchmarks; each prints machine and versions
	@for b in benchmarks/bench_*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

gpu-check: $(VENV)/.dev ## what the encoder does on this machine's card, in one table (GPU_PYTHON: one with torch for CUDA)
	@$(GPU_PYTHON) benchmarks/gpu_check.py $(ARGS)

kafka: $(VENV)/.dev ## start a real Kafka on loopback for a person (needs Java 17 and Maven)
	@$(BIN)/python deploy/kafka/broker.py $(ARGS)

train: .venv-train/.done ## rebuild the hashed bag (own environment with torch)
	@.venv-train/bin/python -m engines.training $(ARGS)

encoder: .venv-train/.done ## rebuild text-affect: hours on a CPU; the same command goes on after an interruption
	@bash deploy/base-encoder.sh build/bge-small
	@.venv-train/bin/python -m engines.training.text_affect $(ARGS)

faces: .venv-train/.done ## rebuild face-affect (research): an hour on a core; goes on after an interruption
	@.venv-train/bin/python -m engines.training.face $(ARGS)

voices: .venv-train/.done ## rebuild voice-affect (research): half an hour on a core
	@.venv-train/bin/python -m engines.training.speech $(ARGS)

.venv-train/.done: pyproject.toml
	@test -d .venv-train || $(PYTHON) -m venv .venv-train
	@.venv-train/bin/python -m pip install -q -e '.[train]'
	@touch $@

lock: $(VENV)/bin/python ## resolve pyproject.toml anew into locks/ (versions and hashes)
	@$(PIP) install -q uv
	@$(LOCK) --output-file locks/run.txt pyproject.toml locks/build.in
	@$(LOCK) --extra av --extra dev --extra endpoint --extra export --extra faust --extra grafana --extra import --extra kafka --extra market --extra notebook --extra onnx --extra postgres --extra remote --constraint locks/run.txt --output-file locks/dev.txt pyproject.toml locks/build.in
	@$(LOCK) --extra export --extra faust --extra grafana --extra import --extra kafka --extra onnx --extra postgres --extra remote --constraint locks/dev.txt --output-file locks/image.txt pyproject.toml locks/build.in
	@$(LOCK) --constraint locks/dev.txt --output-file locks/gpu.txt locks/gpu.in

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("affectstream needs Python 3.11 or newer, got %d.%d; set PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: locks/run.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install -q --require-hashes -r locks/run.txt
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: locks/dev.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) (with what the tests need) ..."
	@$(PIP) install -q --require-hashes -r locks/dev.txt
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $(VENV)/.run $@

clean: ## remove environments and caches
	@rm -rf $(VENV) .venv-train .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build
