"""What can be chosen in the finals: the models of every sound seed, and who becomes a member of an ensemble."""

from pathlib import Path

import pytest

from search.final_choice import candidates_of, members_of
from search.finalists import Finalist
from search.record import Status, TrialRecord


def fold(place: str, status: Status = "completed") -> TrialRecord:
    return TrialRecord(
        trial_id="t0004", config={}, status=status, metrics={"val_dice": 0.5}, checkpoint=f"{place}/best"
    )


def test_every_fold_of_a_seed_that_is_taken_is_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finalist = Finalist(
        trial=TrialRecord(trial_id="t0004", config={}),
        seeds={1: (fold("a"), fold("b")), 2: (fold("c"), fold("d", "diverged")), 3: (fold("e"), fold("f"))},
    )
    candidates = candidates_of([finalist], Path("run"))
    assert [candidate.name for candidate in candidates] == ["t0004/seed-1", "t0004/seed-3"]
    # Workers of a cluster work in other folders.
    first, other = ([tmp_path / "run" / place / "best" for place in places] for places in ("ab", "ef"))
    assert [list(candidate.folders) for candidate in candidates] == [first, other]
    assert members_of(candidates, (0, 3)) == {
        "t0004-seed-3-fold-1": (other[0], 1.5),
        "t0004-seed-3-fold-2": (other[1], 1.5),
    }
