# The doors of this project. `make` alone lists them; `make run` and `make test` set up what they need.
#
# Set-up is held by two stamps inside .venv, so a second call installs nothing. A set-up that was
# interrupted leaves no stamp, and the next call starts it from an empty environment.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test test-faults test-full test-compat lint format types docs bench bench-probe viz ui serve clean

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready
STORAGE := $(or $(RELEARN_DATA),data)
STORE := $(STORAGE)/mlflow.db

# Newest Python first, among those that fit and can make an environment.
FIND_PYTHON = for name in python3.13 python3.12 python3.11 python3 python; do \
	"$$name" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && { command -v "$$name"; break; }; done
PYTHON ?= $(shell $(FIND_PYTHON))

# What follows the command, such as make run ARGS="--env omniglot".
ARGS ?=
PEER ?=
UI_PORT ?= 5000
VIZ_PORT ?= 4141
MODEL ?= relearn-zap
ALIAS ?= champion
PORT ?= 5001

export DO_NOT_TRACK := 1
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYTHONUTF8 := 1

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(READY) $(STORE) ## create .venv, install the locked packages, open the tracking store

$(LOCKED): requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with venv and ensurepip was found: install one (on Debian and Ubuntu also the package python3-venv), or name it: make run PYTHON=/path/to/python3.12"; exit 1; }
	@if [ -e $@ ]; then rm -f $@; else echo "Creating $(VENV) with $(PYTHON)"; "$(PYTHON)" -m venv --clear $(VENV); fi
	@echo "Installing the locked packages (several minutes and about 6 GB of disk, once)"
	@$(PY) -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Made during set-up because it takes MLflow some seconds; once there, it is left alone.
$(STORE): | $(READY)
	@$(PY) -m relearn.tracking init

run: setup ## run the pilot: embedded images, minutes on two cores (ARGS="--env ... --params ...")
	@$(BIN)/kedro run $(ARGS)

test: setup ## unit, contract and house tests, and one run of the test profile
	@OMP_NUM_THREADS=1 $(BIN)/pytest $(ARGS)

test-faults: setup ## kills at many moments, full disks, dead servers
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m faults --timeout 1800 $(ARGS)

test-full: setup ## what takes long or needs more: all architectures, notebooks, PostgreSQL, Ray, PEFT, browser
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m full --timeout 3600 $(ARGS)

test-compat: setup ## which architectures grow: measures all (ARGS=--rewrite-pages writes the page)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -m full --timeout 3600 tests/methods/grow/test_grow_compatibility.py $(ARGS)

lint: setup ## style, floors, generated documentation, notebooks without output
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(PY) docs/build.py --check
	@$(BIN)/nbstripout --verify notebooks/*.ipynb

format: setup ## put code and notebooks into the house's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/nbstripout notebooks/*.ipynb

types: setup ## mypy, strict below the pipelines
	@$(BIN)/mypy

docs: setup ## write the generated parts of the documentation anew and check its links
	@$(PY) docs/build.py

bench: setup ## speed and memory beside the peers, kept in benchmarks/results (ARGS="--quick", PEER=<checkout>, PEER_ADVERSARIAL=<checkout>, PEER_LORA=<checkout>, PEER_GROW=<folder>)
	@mkdir -p benchmarks/results
	@for script in benchmarks/bench_*.py; do \
		what=$$(basename "$$script" .py); what=$${what#bench_}; part=benchmarks/results/.$$what.part; \
		case $$what in adversarial) peer="$(PEER_ADVERSARIAL)";; lora) peer="$(PEER_LORA)";; grow) peer="$(PEER_GROW)";; *) peer="$(PEER)";; esac; \
		echo "== $$script"; \
		$(PY) "$$script" $${peer:+--peer "$$peer"} $(ARGS) >"$$part" || exit 1; \
		cat "$$part"; \
		tail -n 1 "$$part" | $(PY) -m json.tool >"$$part.json" || exit 1; \
		mv "$$part.json" "benchmarks/results/$$what.json"; rm -f "$$part"; \
	done

bench-probe: setup ## dual kernels, ridge path, streamed features (PEER_KERNEL=<folder for neural-tangents>, IMAGES=<CIFAR-10>, ARGS="--quick")
	@mkdir -p benchmarks/results
	@for what in kernel ridge features; do \
		case $$what in kernel) more="$(if $(PEER_KERNEL),--build $(PEER_KERNEL))";; features) more="$(if $(IMAGES),--images $(IMAGES))";; *) more="";; esac; \
		part=benchmarks/results/.$$what.part; echo "== benchmarks/bench_$$what.py"; \
		$(PY) benchmarks/bench_$$what.py $$more $(ARGS) >"$$part" || exit 1; \
		cat "$$part"; \
		tail -n 1 "$$part" | $(PY) -m json.tool >"$$part.json" || exit 1; \
		mv "$$part.json" "benchmarks/results/$$what.json"; rm -f "$$part"; \
	done

viz: setup ## the road as a picture, on this machine only
	@echo "Kedro-Viz: http://127.0.0.1:$(VIZ_PORT)  (Ctrl-C ends it)"
	@$(BIN)/kedro viz run --host 127.0.0.1 --port $(VIZ_PORT) --no-browser $(ARGS)

ui: setup ## runs, curves, figures, reports and checkpoints in MLflow, on this machine only
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PY) -m relearn.tracking ui --port $(UI_PORT) $(ARGS)

serve: setup ## answer with a registered model, on this machine only (MODEL=relearn-zap ALIAS=champion PORT=5001)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PY) -m relearn.pipelines.promote.serve "$(MODEL)" --alias "$(ALIAS)" --port "$(PORT)"

clean: ## remove what tools have cached; .venv and data stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
