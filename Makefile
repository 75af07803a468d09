# Every target sets up what it needs: on a machine with git and Python 3.11-3.13, `make demo` and `make test` are enough.
PY := venv/bin/python
DEMO ?= demo-lab
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo quick test nightly check format crash hostile planted bench-decisions bench-noise bench-yield bench-searches bench-gates docs clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 17

# Anew only when one of these changed; otherwise instant.
venv/.stamp: requirements-pip.txt pyproject.toml scripts/bootstrap_venv.sh
	@scripts/bootstrap_venv.sh

setup: venv/.stamp  ## venv/ with everything in it

demo: venv/.stamp  ## a lab in demo-lab/ (DEMO=folder): four batches of ideas and a claim, on real data
	venv/bin/autolab demo $(DEMO)

quick: venv/.stamp  ## the tests that start no process (a minute)
	$(PY) -m pytest -q -n auto --dist worksteal -m "not process and not nightly and not crash_real" $(ARGS)

test: venv/.stamp  ## all tests but those of `make nightly` (ARGS="-k name" for some)
	$(PY) -m pytest -q -n auto --dist worksteal $(ARGS)

nightly: venv/.stamp  ## what `make test` samples, whole: every crash point, `make crash`, `make hostile`, `make planted` (hours)
	$(PY) -m pytest -q -n auto --dist worksteal -m nightly --ignore=tests/hostile $(ARGS)
	$(MAKE) crash hostile planted
	@echo "nightly: every part passed"

check: venv/.stamp  ## lint, format, types, import layers, generated docs
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/test_layers.py
	$(PY) scripts/generate_docs.py --check

format: venv/.stamp  ## let ruff write the format and the simple fixes
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

crash: venv/.stamp  ## kill -9 at every crash point of a loop with real trainings (minutes)
	$(PY) -m pytest -q -s -m crash_real

hostile: venv/.stamp  ## the hostile programs, three times at level full, races fifty times (minutes)
	HOSTILE_ROUNDS=3 RACE_ROUNDS=50 $(PY) -m pytest -q -n auto -m "not crash_real" tests/hostile

planted: venv/.stamp  ## does a test catch each known bug? one a guard, planted in a copy (minutes; ARGS="--only NAME")
	$(PY) scripts/plant_bugs.py $(ARGS)

bench-decisions: venv/.stamp  ## what is kept, and its price, on ideas of known truth; then how often one claim is false (minutes)
	$(PY) benchmarks/decisions.py $(ARGS)
	$(PY) benchmarks/claims.py $(ARGS)

bench-noise: venv/.stamp  ## false keeps and power under noise of every kind, with the truth known (minutes)
	$(PY) benchmarks/noise.py $(ARGS)

bench-gates: venv/.stamp  ## is `autolab compare` right where the truth is known? beside the gates in use elsewhere (minutes)
	$(PY) benchmarks/gates.py $(ARGS)

bench-yield: venv/.stamp  ## how much of a known gain a search finds at equal trials: ours beside Optuna's TPE, greedy, halving, random (hours)
	$(PY) benchmarks/yield.py $(ARGS)

bench-searches: venv/.stamp  ## what a search finds in real trainings of digits and of a script: ours, TPE, greedy (an hour)
	nice -n 10 $(PY) benchmarks/searches.py $(ARGS)

docs: venv/.stamp  ## write the generated pages again: commands, files, the tree
	$(PY) scripts/generate_docs.py

clean:  ## remove venv/ and caches; a demo lab stays
	rm -rf venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
