# The two commands: `make nightly` and `make test`. Everything is installed into .venv from requirements.lock.
# PYTHON is the newest of 3.13, 3.12 and 3.11 that is there and works; say PYTHON=/path/to/python for another.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RAY := $(VENV)/.ray
REFERENCES := .bts-references

# Compiled code is kept, whatever the caller says: without it each process compiles what it imports anew.
export PYTHONDONTWRITEBYTECODE =

# Two workers: each may hold TensorFlow, Dagster and MLflow, 2 GB of memory.
WORKERS ?= 2
# Groups of tests that share what is made once: tests/helpers/sharing.py.
SPREAD = -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: help nightly up test test-quick torture audit lint bench bench-accuracy bench-pretrained bench-references pretrain lock \
	clean

help:
	@echo "make nightly   set up, take in landing files, forecast, publish, show the result"
	@echo "make up        serve the explorer, Dagster, MLflow and Postgres on loopback until Ctrl-C"
	@echo "make test      formatter, linter, type checker and tests"
	@echo "make test-quick   the linter, and the tests that train nothing and start no server but the embedded Postgres"
	@echo "make torture   faults injected until as many have landed as docs/reliability.md asks for; it goes on where it stopped"
	@echo "make audit     known vulnerabilities, licences and an SBOM of the locked packages (asks PyPI)"
	@echo "make bench     speed and memory beside the tutorial's way and the physical limit (docs/performance.md)"
	@echo "make bench-accuracy   accuracy and calibration beside named references (docs/modelling.md)"
	@echo "make pretrain  the pretrained network's weights again, from a seed (docs/pretrained-model.md)"
	@echo "make bench-pretrained   how it forecasts recordings that it never saw"
	@echo "make bench-references   the environment of the libraries that it refers to, torch among them"
	@echo "make lock      resolve requirements.lock anew (needs uv)"
	@echo "make clean     remove .venv and the state in .bts"

nightly: $(STAMP)
	@$(BIN)/bts nightly

up: $(STAMP)
	@$(BIN)/bts up

test: $(STAMP) $(RAY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest $(SPREAD)

# Trains nothing and starts no server but the embedded Postgres.
test-quick: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/pytest $(SPREAD) -m "not slow" --hypothesis-profile=quick

torture: $(STAMP)
	$(BIN)/python -m benchmarks.torture --broken
	$(BIN)/python -m benchmarks.torture --state .bts-torture/state.json

# In an environment of its own: what audits is not among what is audited. --strict: what PyPI does not know fails too.
# Waivers go into WAIVED, each with its date and reason in docs/reliability.md: WAIVED = --ignore-vuln ID
AUDIT := .bts-audit
WAIVED :=

audit: $(STAMP) $(AUDIT)/.installed
	$(BIN)/python -m benchmarks.licences
	$(AUDIT)/bin/cyclonedx-py environment --of JSON -o $(AUDIT)/sbom.json $(BIN)/python
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r requirements.lock $(WAIVED)

$(AUDIT)/.installed:
	@$(find-python); "$$python" -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit==2.10.1" "cyclonedx-bom==7.5.0"
	@touch $@

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Without `make bench-references` the rows of statsforecast and neuralforecast are left out.
bench-accuracy: $(STAMP)
	$(BIN)/python -m benchmarks.accuracy --effort thorough --pictures docs

bench-pretrained: $(STAMP)
	$(BIN)/python -m benchmarks.pretrained

# Resumable: interrupted, it goes on from its newest checkpoint in .bts-pretraining.
pretrain: $(STAMP)
	$(BIN)/python -m benchmarks.pretrain

bench-references: $(REFERENCES)/.installed

# One that starts (a version manager's shim may not), is of a version that the lock covers, and can make environments.
WORKS := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHONS := python3.13 python3.12 python3.11 python3
NO_PYTHON = none of $(or $(PYTHON),$(PYTHONS)) is a Python 3.11 to 3.13 that starts and has its venv module: \
	install one, or say make PYTHON=/path/to/python3.13
define find-python
for python in $(or $(PYTHON),$(PYTHONS)); do \
	"$$python" -c "$(WORKS)" >/dev/null 2>&1 && break; python=; \
done; \
test -n "$$python" || { echo "$(NO_PYTHON)" >&2; exit 1; }
endef

$(REFERENCES)/.installed:
	@$(find-python); "$$python" -m venv $(REFERENCES)
	$(REFERENCES)/bin/python -m pip install --quiet "neuralforecast==3.3.0" "statsforecast==2.1.1" "torch==2.13.0"
	@touch $@

# An environment that is there keeps its Python: `make clean` first, to change it.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || { $(find-python); "$$python" -m venv $(VENV); }
	@echo "$$($(BIN)/python --version): installing the locked packages into $(VENV), once; this takes a few minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

# Apart, so that a first night does not wait for it: the tests alone need it, and the machines of a cluster.
$(RAY): deploy/ray/requirements.lock $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

LOCKED := --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-annotate --no-header

lock:
	uv pip compile pyproject.toml --extra dev --extra statistical --extra tune $(LOCKED) --output-file requirements.lock
	uv pip compile deploy/ray/requirements.in --no-deps --constraint requirements.lock $(LOCKED) \
	    --output-file deploy/ray/requirements.lock

clean:
	-@test -x $(BIN)/bts && $(BIN)/bts stop
	rm -rf $(VENV) .bts
