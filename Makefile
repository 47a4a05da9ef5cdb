# Two commands for a newcomer: `make demo` and `make test`. Everything they need is installed first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m

# A machine without an NVIDIA driver gets the small pinned torch; torchvision is pinned with it, or it would
# replace torch by the CUDA build.
# PyPI has torch with CUDA only: TORCH_INDEX=https://download.pytorch.org/whl/cpu takes it without, where pip does
# not know a package index that has it.
TORCH_INDEX ?=
CONSTRAINTS := $(shell test -e /proc/driver/nvidia || command -v nvidia-smi >/dev/null || echo -c deploy/constraints-cpu.txt)

.PHONY: check demo test lint types contracts unit coverage browser endurance proof clinic chaos chaos-postgresql faults soak serve bench bench-inference bench-gpu bench-guided bench-qa bench-rivals install peers docs release clean
.DEFAULT_GOAL := check

check: install  ## what every commit passes; the types are checked while the tests run
	$(MAKE) --jobs=2 lint contracts types unit

test: install peers check  ## install, then everything

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml deploy/constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check $(CONSTRAINTS) $(addprefix --extra-index-url ,$(TORCH_INDEX)) --editable '.[train,fast,test]'
	touch $@

peers:  ## DCMTK, dicom3tools and plastimatch, the programs the tests hold our objects against
	deploy/install-peers.sh

lint: install
	$(RUN) ruff check
	$(RUN) ruff format --check

types: install
	$(RUN) mypy

contracts: install
	$(BIN)/lint-imports --no-cache

# Most tests wait for processes and peers, so there are more workers than cores, each with one thread of its own.
WORKERS ?= $(shell expr 3 \* $$(env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2))
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist worksteal --max-worker-restart 0 --cache-clear

# Hundreds of processes are started: none of them shall compile the same modules again.
export PYTHONDONTWRITEBYTECODE :=

# A test that fails beside others on a busy machine is run once more, alone; a fault fails both times.
AGAIN = || { test $$? -eq 1 && OMP_NUM_THREADS=1 $(RUN) pytest -n 0 --last-failed --last-failed-no-failures none; }

unit: install
	$(PYTEST) -m 'not slow and not endurance and not browser' $(AGAIN)

# Counted in the tests that are meant to cover core and dicom; counting costs half their time again.
coverage: install  ## fails if the tests of core and dicom reach less than 95 % of their lines and branches
	$(PYTEST) -m 'not slow and not endurance' tests/unit tests/property tests/contract \
		--cov=orgseg_node.core --cov=orgseg_node.dicom --cov-report= $(AGAIN)
	$(RUN) coverage report --fail-under=95

browser: install  ## the pages in headless Chromium; screenshots of every page are left in build/browser
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }
	OMP_NUM_THREADS=1 $(RUN) pytest -m browser --cache-clear tests/browser $(AGAIN)

endurance: install peers  ## long proofs: demonstration, training, kills, faults, real and damaged series; run every night by .ci/nightly
	$(RUN) pytest -m 'endurance and not slow' --cache-clear $(AGAIN)

proof: install peers  ## slow proofs: whole-image against chunked path, starter bundle on the locked patients
	$(RUN) pytest -m slow

clinic: install  ## retraining in a short form, from an archive to a live model and back; options in CLINIC
	$(RUN) benchmarks.clinic $(CLINIC)

chaos: install peers  ## everything is killed 200 times and nothing may be lost; options in CHAOS
	$(RUN) tests.chaos $(CHAOS)
	$(RUN) tests.chaos.versions

chaos-postgresql: install peers  ## the same with the node on PostgreSQL, a worker of which never comes back
	$(RUN) tests.chaos --database postgresql $(CHAOS)
	$(RUN) tests.chaos.versions --database postgresql

faults: install peers  ## make the table of docs/faults.md again
	$(RUN) tests.faults

soak: install peers  ## 500 series through one node, whose memory and handles must stay flat; options in SOAK
	$(RUN) tests.soak $(SOAK)

demo: install  ## a CT travels through a node on this machine and comes back with contours
	$(BIN)/orgseg demo --out demo-output

serve: install
	$(BIN)/orgseg node run --config config/node.toml

bench: install
	$(BIN)/python benchmarks/body.py
	$(BIN)/python benchmarks/contours.py
	$(BIN)/python benchmarks/receive.py
	$(BIN)/python benchmarks/metrics.py

bench-inference: install  ## the streaming engine beside nnU-Net's predictor; options in BENCH
	$(RUN) benchmarks.inference $(BENCH)

bench-gpu: install  ## the same on a GPU, with networks of the usual size; options in GPU
	$(RUN) benchmarks.gpu $(GPU)

bench-rivals: install  ## TotalSegmentator and our engine on the same CT and weights; options in RIVALS, see docs/model-life.md
	$(RUN) benchmarks.rivals $(RIVALS)

bench-guided: install  ## single-organ networks led by a guide, beside runs on the whole CT; options in GUIDED
	$(RUN) benchmarks.guided $(GUIDED)

bench-qa: install  ## what the clinical checks find, and what they flag in vain, of every fourth patient; QA=--all takes all
	OMP_NUM_THREADS=1 $(RUN) benchmarks.qa $(QA)

docs: install $(VENV)/documents  ## references generated from the code, and the site in build/site, checked for dead links
	$(RUN) tools.docs.reference > docs/cli.md
	$(RUN) tools.docs.conformance > docs/conformance.md
	$(RUN) tools.docs.training_reference > docs/orgseg-train.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

release: install $(VENV)/documents  ## wheel, source archive, bill of materials and checksums in dist/; uploads nothing
	$(RUN) tools.release dist

$(VENV)/documents: $(VENV)/installed
	$(RUN) pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable '.[docs,release]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage demo-output
