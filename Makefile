# Every command of the project: `make demo` and `make test` set up what they need the first time and reuse it afterwards.
#
#   make install   create .venv, install torch, flowkit, zoo and the tools, build the C++/CUDA back ends
#   make demo      train and show the conditional flow on real digits, results in out/demo/
#                  other systems: make demo ARGS=iin/digits, ARGS=invariances/digits, ARGS="net2net/animalfaces data=FOLDER"
#   make demo-emoji   text to image on emoji: net2net/emoji, with the packages that hold pictures and sentence encoder
#   make test      run the tests            (make test ARGS="tests/ops -k affine")
#   make lint      ruff and mypy
#   make bench     time every operator      (make bench ARGS="--suite full --json out/bench.json")
#   make figures   time flowkit beside other libraries   (make figures ARGS="tabular glow --json out/figures.json")
#   make clean     remove the environment and everything that was built
#
# PYTHON chooses the interpreter that creates .venv, TORCH what pip installs for torch: the pair below is the one the
# project is developed with, any torch >= 2.10 with its torchvision works:  make install TORCH="torch torchvision"

PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
STAMPS := $(VENV)/stamps
NATIVE_SOURCES := setup.py $(shell find csrc -type f 2>/dev/null)

.PHONY: install demo demo-emoji test lint bench figures clean

install: $(STAMPS)/native

demo: install
	$(PY) -m zoo demo $(ARGS)

demo-emoji: $(STAMPS)/emoji
	$(PY) -m zoo demo net2net/emoji $(ARGS)

test: $(STAMPS)/peers
	$(PY) -m pytest $(ARGS)

lint: install
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: install
	$(PY) -m flowkit bench $(ARGS)

figures: $(STAMPS)/peers
	$(PY) -m benchmarks.figures $(ARGS)

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .benchmarks
	rm -f flowkit/*.so

# Stamps: the interpreter with torch, the packages (follow pyproject.toml), the native build (follows csrc and setup.py), and
# the libraries that `make figures` measures beside flowkit, what the run on emoji needs.
$(STAMPS)/torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "flowkit needs Python 3.10 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing)." >&2; \
	  echo "Name another interpreter: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV): torch, the packages, the native build. This takes some minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(TORCH)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/packages: pyproject.toml $(STAMPS)/torch
	$(PY) -m pip install --quiet "setuptools>=77" wheel "pybind11>=2.13" ninja
	FLOWKIT_NATIVE=0 $(PY) -m pip install --quiet --no-build-isolation --editable ".[zoo,dev]"
	@touch $@

$(STAMPS)/peers: $(STAMPS)/native
	FLOWKIT_NATIVE=0 $(PY) -m pip install --quiet --no-build-isolation --editable ".[peers]"
	@touch $@

$(STAMPS)/emoji: $(STAMPS)/native
	FLOWKIT_NATIVE=0 $(PY) -m pip install --quiet --no-build-isolation --editable ".[emoji]"
	@touch $@

$(STAMPS)/native: $(NATIVE_SOURCES) $(STAMPS)/packages
	$(PY) setup.py --quiet build_ext --inplace
	@$(PY) -m flowkit info
	@touch $@
