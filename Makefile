# Two commands on a fresh machine: `make detect` and `make test`. See README.md.
PYTHON ?= python3
CLIP := examples/media/synthetic.mp4
VIDEO ?= $(CLIP)
VENV := .venv
BIN := $(VENV)/bin
TOOLS := build/tools
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
HOUSE := setup.cfg pyproject.toml constraints.txt
# The bundled clip is synthetic: what happens in it is known, and stands beside what is found.
ifeq ($(VIDEO),$(CLIP))
TRUTH := --truth examples/media/synthetic.csv
endif

.PHONY: detect test lint audit sbom licences hashes fuzz chaos bench default-checkpoint clean

detect: $(VENV)/installed
	@$(BIN)/fedn detect "$(VIDEO)" $(TRUTH)

# Two tests at a time, each with one thread: more threads than cores wait for each other.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/python examples/supply_chain.py audit $(TOOLS)/bin/pip-audit

# Asked for once, `make audit` is part of every later `make lint`; its tools live apart from what they look at.
audit: $(VENV)/installed-dev $(TOOLS)/installed
	$(BIN)/python examples/supply_chain.py audit $(TOOLS)/bin/pip-audit

licences: $(VENV)/installed-dev
	$(BIN)/python examples/supply_chain.py licences

# What is installed, as CycloneDX.
sbom: $(VENV)/installed $(TOOLS)/installed
	$(TOOLS)/bin/cyclonedx-py environment $(BIN)/python --output-file build/sbom.json

# Hashes hold for machines like this one and for the index that pip uses here, so they are made and not kept:
# make hashes, carry build/hashes.txt along, and on the other machine
# pip install --require-hashes --no-deps -r build/hashes.txt && pip install --no-deps --no-build-isolation -e .
hashes: $(VENV)/installed
	$(BIN)/python examples/supply_chain.py hashes build/hashes.txt

# Mutated files for every reader, and writers that are killed: what SECURITY.md tells of. LONG=1 takes 10,000 files for
# each reader, however long that takes.
fuzz: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(if $(LONG),,--seconds 25)

chaos: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 -m "slow or not slow" tests/test_trust_crashes.py tests/test_trust_sandbox.py tests/test_trust_privacy.py

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
	@echo "Setting up $(VENV) (once: some minutes and 2 GB, the largest part of it PyTorch) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedn_hf needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another one with make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(INSTALL) --editable ".[app,synthetic,test,dev]"
	@touch $@

$(TOOLS)/installed:
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit>=2.9,<3" "cyclonedx-bom>=7,<8"
	@touch $@
