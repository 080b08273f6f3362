# Two commands on a fresh machine: `make detect` and `make test`. See README.md.
PYTHON ?= python3
CLIP := examples/media/synthetic.mp4
VIDEO ?= $(CLIP)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
HOUSE := setup.cfg pyproject.toml constraints.txt
# The bundled clip is synthetic: what happens in it is known, and stands beside what is found.
ifeq ($(VIDEO),$(CLIP))
TRUTH := --truth examples/media/synthetic.csv
endif

.PHONY: detect test lint bench default-checkpoint clean

detect: $(VENV)/installed
	@$(BIN)/fedn detect "$(VIDEO)" $(TRUTH)

# Two tests at a time, each with one thread: more threads than cores wait for each other.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/installed-dev
	$(BIN)/python examples/benchmarks/crops.py
	$(BIN)/python examples/benchmarks/network.py

# Hours on two cores, and a GB in build/default; goes on where it was stopped.
default-checkpoint: $(VENV)/installed-dev
	$(BIN)/python examples/make_default_checkpoint.py $(if $(FACE_MODEL),--face-model "$(FACE_MODEL)") --work build/default -o fedn_hf/weights/default

clean:
	rm -rf $(VENV) build dist *.egg-info

# The stamps are renewed when what is to be installed changes, so every later run starts at once.
$(VENV)/installed: $(HOUSE)
	@echo "Setting up $(VENV) (once; the largest part is PyTorch) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedn_hf needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another one with make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(INSTALL) --editable ".[synthetic,test,dev]"
	@touch $@
