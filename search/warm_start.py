"""What earlier runs know of where good values lie, for a search that begins."""

from collections.abc import Sequence
from pathlib import Path

from data.input_error import InputError
from search.objectives import VAL_DICE, point_of
from search.pareto import scores
from search.prior import PastTrial
from search.record import TrialRecord, records_from_study
from search.run_folder import RunFolder
from search.study import read_study

BEST_OF = 5  # of a run's trials, the best one in so many tell something
MOST_OF_A_RUN = 10  # trials that do, at most
SAME_DATA = 1.0
OTHER_DATA = 1 / 3


def past_trials(
    runs: Sequence[Path], fingerprint: str, objectives: Sequence[str] = (VAL_DICE,)
) -> tuple[PastTrial, ...]:
    """The best trials of these runs, those of most weight first; the best one of each run is to be tried itself.

    fingerprint: of the data that will be searched on. A run on other data, or with other classes of the same pictures,
    has a third of the weight; within a run the weight falls with the rank. objectives: what makes trials good, as far
    as the run knows it of all its trials. Values that the new search does not have are left out later, one by one.
    Raises InputError for a folder that is no run, for one named twice, and for a run without any trial that came to a
    score.
    """
    found: list[PastTrial] = []
    for place, run in enumerate(runs):
        if run.resolve() in [other.resolve() for other in runs[:place]]:
            raise InputError(f"warm_start {str(run)!r} is named twice: name each run once.")
        best = _best_trials(run, objectives)
        weight = SAME_DATA if best[0].dataset.endswith(f"@{fingerprint[:8]}") else OTHER_DATA
        found.extend(
            PastTrial(values=dict(record.config), weight=weight * (1 - rank / len(best)), first=rank == 0)
            for rank, record in enumerate(best)
        )
    return tuple(sorted(found, key=lambda trial: trial.weight, reverse=True))


def _best_trials(run: Path, objectives: Sequence[str]) -> list[TrialRecord]:
    """The trials of a run that did best, best first. A bad ending does not count, however good it was before."""
    journal = RunFolder(path=run).journal
    if not journal.is_file():
        raise InputError(f"warm_start {str(run)!r} is no run: name a folder with a study.log, such as runs/stare-001.")
    records = records_from_study(read_study(journal))
    good = [record for record in records if record.status in ("completed", "stopped") and record.val_dice is not None]
    if not good:
        raise InputError(f"warm_start {str(run)!r} has no trial that came to a val_dice: leave it out.")
    known = [name for name in objectives if all(point_of(record, [name]) for record in good)]
    best: list[TrialRecord] = []
    for folds in sorted({record.folds for record in good}, reverse=True):  # means over as many compare
        alike = [record for record in good if record.folds == folds]
        found = zip(alike, scores([point_of(record, known) or () for record in alike]), strict=True)
        best += [record for record, _ in sorted(found, key=lambda one: one[1], reverse=True)]
    return best[: max(1, min(MOST_OF_A_RUN, len(best) // BEST_OF))]
