"""A short selection of the drills, one random moment each; `python -m tests.drills` runs all of them."""

import time
from pathlib import Path

import pytest

from tests.drills.drill import run_drill, run_undisturbed
from tests.drills.faults import FAULTS
from tests.drills.nodes import lacking
from tests.drills.outcomes import Result

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(600),
    pytest.mark.skipif(lacking() != "", reason=f"no cluster of several nodes can be made here: {lacking()}"),
]
SEED = int(time.time()) % 100_000  # each run of the tests strikes at other moments


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run_undisturbed(tmp_path_factory.mktemp("drills") / "undisturbed")


@pytest.mark.parametrize("name", ["node_killed", "driver_killed_between_snapshots", "checkpoint_flipped"])
def test_a_search_comes_out_as_if_nothing_had_happened(name: str, tmp_path: Path, undisturbed: Result) -> None:
    report = run_drill(name, FAULTS[name], SEED, tmp_path / "drill", undisturbed)
    assert not report.broken, f"seed {SEED}, {report.moment}: {report.broken}"
