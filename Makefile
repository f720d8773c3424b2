# make demo    set up, then find a U-net for the embedded synthetic retinas
# make test    set up, then run the tests        make check   ruff and mypy
# make drill   set up, then kill searches and see them go on
# make bench   every benchmark, one after the other
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCHMARKS := $(filter-out benchmarks/outcome.py,$(sort $(wildcard benchmarks/*.py)))

.PHONY: demo test drill check bench clean

demo: $(READY)
	$(BIN)/python -m search.run --max-epochs 15 --num-trials 10

test: $(READY)
	$(BIN)/python -m pytest -m 'not drill' --numprocesses auto --maxprocesses 8 --dist loadgroup

drill: $(READY)
	$(BIN)/python -m pytest -m drill

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[bench]'
	failed=; for benchmark in $(BENCHMARKS); do echo "== $$benchmark"; $(BIN)/python $$benchmark || failed=1; done; test -z "$$failed"

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
