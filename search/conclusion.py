"""What is left to do when a search is over: to keep its best model, and to remove what nobody goes on from."""

from data.input_error import InputError
from data.replacing import copy_folder
from search import leaderboard
from search.events import Events
from search.record import TrialRecord
from search.run_folder import RunFolder


def export_best(run: RunFolder, records: list[TrialRecord], events: Events) -> TrialRecord | None:
    """Copies the model of the highest row of the leaderboard that has a whole one into `best/`; its record, or None."""
    from model.checkpoint import load_model

    by_id = {record.trial_id: record for record in records}
    for trial_id in leaderboard.to_frame(records, ())["trial_id"]:
        best = by_id[trial_id]
        if best.checkpoint and (run.path / best.checkpoint).is_dir():
            try:
                load_model(run.path / best.checkpoint)
            except InputError as error:
                events.tell(f"the model of trial {trial_id} is passed over: {error}")
                continue
            copy_folder(run.path / best.checkpoint, run.best)
            return best
    return None


def drop_spare_states(run: RunFolder) -> None:
    """Removes the states before the last ones, which are kept while trials run."""
    from model.kept_states import drop_states
    from model.train import LAST

    for last in run.trials.rglob(LAST):
        drop_states(last)
