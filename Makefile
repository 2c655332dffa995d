# Everything a person types: `make run` and `make test`. Needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
UV_VERSION := 0.13.9
WORKERS ?= 2

# Test workers share the cores: a numerical library with threads of its own in each would make small sums slow.
test test-slow test-slow-again: export OPENBLAS_NUM_THREADS := 1

.PHONY: help setup run test test-slow test-slow-again lint bench ui lock clean

help: ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

setup: $(STAMP) ## Make .venv with the locked dependencies and .venv/bin/mlcc.

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "this Python cannot make virtual environments; install its venv package (Debian: apt install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## Prove the local tier on this machine, fill the best gaps, and show what was learned.
	@$(BIN)/mlcc init
	@$(BIN)/mlcc run --tier local
	@$(BIN)/mlcc coverage
	@$(BIN)/mlcc gaps
	@$(BIN)/mlcc path-prove
	@$(BIN)/mlcc coverage
	@$(BIN)/mlcc sql "SELECT model_family, deployment_config, quantization, instance_type, round(max(request_throughput_rps), 1) AS best_rps, \
	  round(min(ttft_p50_ms), 1) AS ttft_p50_ms, round(min(itl_p50_ms), 1) AS itl_p50_ms, round(max(e2e_latency_p99_ms), 1) AS p99_ms \
	  FROM mlcc_ci.benchmark_results WHERE status = 'completed' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
	@echo "open the Dagster UI with: make ui"

test: setup ## Run every check: lint, types, import floors, docs, and the tests that take little time.
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not browser"

test-slow: setup ## Run the slow tests: real kills, a real browser, the language model.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "slow or browser" --durations=15

test-slow-again: setup ## Run the slow tests that failed last time again, one after the other.
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m "slow or browser"

lint: setup ## Check style, types and import floors.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: setup ## Measure ratios against peers and floors (benchmarks/RESULTS.md keeps figures).
	$(BIN)/python -m benchmarks

ui: setup ## Open the Dagster UI on this home.
	@$(BIN)/mlcc ui

lock: setup ## Write requirements.lock anew from pyproject.toml.
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml --extra gate --group dev -o requirements.lock

clean: ## Remove the environment (results in .mlcc stay).
	rm -rf $(VENV)
