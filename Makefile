# Everything that a clone needs besides python3 (3.11 or later) and make. `make help` lists the targets.

PYTHON ?= python3
# Versions that are known to work together; `make CONSTRAINTS= ...` takes the newest ones instead.
CONSTRAINTS ?= constraints.txt
# Folder of the demo, and arguments for pytest: make demo FOLDER=/data/demo, make test ARGS="-k cohort"
FOLDER ?= demo
ARGS ?=
# Major version of CUDA that compiles the kernels for a GPU: make gpu-compile CUDA=13
CUDA ?= 12

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS))
NEEDS := $(VENV)/.made pyproject.toml $(CONSTRAINTS)
# numba-cuda takes the place of `numba.cuda`, with which the tests simulate a GPU: hence an environment of its own.
GPU_VENV := .venv-gpu$(CUDA)
# CUDA 13 knows no compute capability below 7.5.
CAPABILITIES := $(if $(filter 12,$(CUDA)),7.0,7.5) 8.0 9.0

.PHONY: help demo test soak lint gpu-compile clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /make \1	/p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.package ## make a synthetic cohort, extract it and show how to go on
	@$(BIN)/hgpscale demo "$(FOLDER)"

# Four processes, also on two cores, as many tests wait for a cluster or for time to pass; each library has one thread.
test: $(VENV)/.tools ## run all tests
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(VENV)/.tools ## kill extracting processes a hundred times at random (20 minutes)
	@HGPSCALE_SOAK_KILLS=100 $(BIN)/python -m pytest tests/soak $(ARGS)

lint: $(VENV)/.tools ## check style and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

gpu-compile: $(GPU_VENV)/.packages ## compile the kernels for a GPU, without one
	@PYTHONPATH=. $(GPU_VENV)/bin/python benchmarks/gpu_compile.py --capabilities $(CAPABILITIES)

clean: ## remove the virtual environments, caches and the demo
	rm -rf $(VENV) .venv-gpu12 .venv-gpu13 build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis demo
	find hgpscale tests -name __pycache__ -type d -prune -exec rm -rf {} +

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: '$(PYTHON)' is missing or older than Python 3.11; say which to use: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; \
	  exit 1; }
	@echo "making $(@D)"
	@$(PYTHON) -m venv $(@D)
endef

$(VENV)/.made:
	$(make_venv)
	@touch $@

$(VENV)/.package: $(NEEDS)
	@echo "installing hgpscale"
	@$(INSTALL) --editable .
	@touch $@

# One installation for tests and lint: mypy reads the tests too, and each call of pip looks all packages up again.
# The reference (pyradiomics) is built from source: that takes a C compiler and Python's headers.
$(VENV)/.tools: $(NEEDS)
	@echo "installing hgpscale and what its tests and lint need"
	@include=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	if echo '#include <Python.h>' | $(CC) -I"$$include" -fsyntax-only -x c - 2>/dev/null; then \
	  $(INSTALL) --editable '.[test,lint,reference]'; \
	else \
	  echo "no C compiler or no Python headers: the tests that need pyradiomics will be skipped"; \
	  $(INSTALL) --editable '.[test,lint]'; \
	fi
	@touch $@

# The kernels import numba and NumPy alone: of the package, only the extra is installed. CUDA 13's has no ptxas.
$(GPU_VENV)/.packages: pyproject.toml $(CONSTRAINTS)
	$(make_venv)
	@$(GPU_VENV)/bin/python -c 'import tomllib; \
	  project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	  print(*project["optional-dependencies"]["gpu-cuda$(CUDA)"], sep="\n")' >$(GPU_VENV)/requirements.txt
	@$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	  $(addprefix --constraint ,$(CONSTRAINTS)) --requirement $(GPU_VENV)/requirements.txt \
	  $(if $(filter 13,$(CUDA)),'nvidia-cuda-nvcc>=13')
	@touch $@
