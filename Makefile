# make demo    set up, then find a U-net for the embedded synthetic retinas
# make test    set up, then run the tests        make check   ruff and mypy
# make drill   set up, then kill searches, break files, start servers, and see that nothing is lost
# make drills  strike searches with every fault, three times each, and write what came of it into docs/reliability.md
# make cluster-test    a search on three hosts on this machine, from `ray up` to `ray down`
# make cluster-search SEARCH='--data ... --storage ...'    search on the cluster of cluster.yaml, which is up
# make bench   every benchmark, one after the other
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A second environment, with Ray's launcher of clusters and jobs: with that every search would begin seconds later.
CLUSTER_VENV ?= .venv-cluster
CLUSTER_BIN := $(CLUSTER_VENV)/bin
CLUSTER_READY := $(CLUSTER_VENV)/.ready
CLUSTER ?= cluster.yaml
BENCHMARKS := $(filter-out benchmarks/outcome.py,$(sort $(wildcard benchmarks/*.py)))

.PHONY: demo test drill drills check bench cluster cluster-test cluster-search clean

demo: $(READY)
	$(BIN)/python -m search.run --max-epochs 15 --num-trials 10

test: $(READY)
	$(BIN)/python -m pytest -m 'not drill' --numprocesses auto --maxprocesses 8 --dist loadgroup

drill: $(CLUSTER_READY)
	sh tests/install_servers.sh
	$(CLUSTER_BIN)/python -m pytest -m drill

drills: $(READY)
	$(BIN)/python -m tests.drills --moments 3 --write

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[bench]'
	failed=; for benchmark in $(BENCHMARKS); do echo "== $$benchmark"; $(BIN)/python $$benchmark || failed=1; done; test -z "$$failed"

cluster: $(CLUSTER_READY)

cluster-test: $(CLUSTER_READY)
	sh tests/install_servers.sh
	$(CLUSTER_BIN)/python -m tests.cluster.three_hosts

cluster-search: $(CLUSTER_READY)
	@setsid $(CLUSTER_BIN)/ray dashboard $(CLUSTER) >/dev/null 2>&1 & tunnel=$$!; trap "kill -- -$$tunnel" EXIT; \
	export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_API_SERVER_ADDRESS=http://localhost:8265; \
	for try in 1 2 3 4 5 6 7 8 9 10; do $(CLUSTER_BIN)/ray job list >/dev/null 2>&1 && break; sleep 2; done; \
	$(CLUSTER_BIN)/ray job submit --working-dir . -- python -m search.run $(SEARCH)

EXTRAS := dev
$(CLUSTER_READY): EXTRAS := dev,cluster,aws,gcp
$(READY) $(CLUSTER_READY): setup.cfg pyproject.toml constraints.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt uv
	$(@D)/bin/uv pip install --quiet --compile-bytecode --python $(@D)/bin/python --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) $(CLUSTER_VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
