# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv, installs what it needs, and does its work.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo-out
TESTS ?= tests
RUN_TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

.PHONY: demo test test-all check fix bench docs mutants nano real robustness clean

demo: $(VENV)/.demo
	$(BIN)/stillroom demo $(OUT)

test: $(VENV)/.dev
	$(RUN_TESTS) -m "not slow"

test-all: $(VENV)/.dev
	$(RUN_TESTS) -m slow

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/mutants/run.py --check

fix: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The rivals without their dependencies' pins: audiomentations would take soxr back to a version before 1.0.
bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --no-deps audiomentations librosa lazy-loader llvmlite numba numpy-rms platformdirs pooch python-stretch
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/render.py
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/stream.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/targets.py
	$(BIN)/python benchmarks/trainer.py
	$(BIN)/python benchmarks/resume.py

# The documentation as a site, in site/; a broken link or a missing page fails.
docs: $(VENV)/.dev
	$(BIN)/mkdocs build

# One-line wrong wirings, each of which a fast test must notice; about an hour. The last outcome: docs/results/mutants.md.
mutants: $(VENV)/.dev
	$(BIN)/python tests/mutants/run.py --report docs/results/mutants.md

# The road on real recorded speech: hours of speech, four students, the README's table. See recipes/realdata/README.md.
real: $(VENV)/.dev
	PATH="$(abspath $(BIN)):$$PATH" bash recipes/realdata/road.sh $(OUT)

# The finding, reproduced: stop it when you like and run it again. See benchmarks/robustness/README.md.
robustness: $(VENV)/.dev
	$(BIN)/python benchmarks/robustness/study.py $(OUT)

# Trains the embedded teacher anew on the prepared real data, three runs of some hours: see recipes/nano/README.md.
FINER := --num-units 500 --batch-size 12 --learning-rate 1e-3 --warm-up 0.08 --visible-after 0 --visible-weight 1.0 --steps 4000 --minutes 100000

nano: $(OUT)/.nano-second
	$(BIN)/python recipes/nano/train_nano.py $(OUT)/data training/nano --scratch $(OUT)/nano.scratch --teacher $(OUT)/nano-second --layer 7 $(FINER)

$(OUT)/.nano-second: $(OUT)/.nano-first
	$(BIN)/python recipes/nano/train_nano.py $(OUT)/data $(OUT)/nano-second --scratch $(OUT)/nano-second.scratch --teacher $(OUT)/nano-first $(FINER)
	touch $@

$(OUT)/.nano-first: | $(VENV)/.dev
	$(BIN)/python recipes/realdata/prepare.py $(OUT)/data --more-voices
	$(BIN)/python recipes/nano/train_nano.py $(OUT)/data $(OUT)/nano-first --scratch $(OUT)/nano-first.scratch
	touch $@

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet ".[demo]"
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
