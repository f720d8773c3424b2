"""What is left to do when a search is over: to keep its best model, and to remove what nobody goes on from."""

from collections.abc import Mapping

from data.input_error import InputError
from data.inside import inside
from data.outlast import outlast
from data.replacing import copy_folder
from search import leaderboard
from search.events import Events
from search.mirror import Mirror
from search.model_card import write_model_card
from search.record import TrialRecord
from search.run_folder import RunFolder


def keep_best(
    run: RunFolder,
    records: list[TrialRecord],
    events: Events,
    elsewhere: Mapping[str, str],
    mirror: Mirror | None,
) -> TrialRecord | None:
    """Copies the best model that is whole and lies here into `best/`; its record in the leaderboard, or None.

    elsewhere: where trials of other drivers are kept, by our ids of them; of one that is better it says so. mirror:
    fetches the model, where it may lie at a URL. Raises GaveUpError when the disk or the URL fails for long.
    """
    by_id = {record.trial_id: record for record in records}
    ranked = [by_id[trial_id] for trial_id in leaderboard.to_frame(records, ())["trial_id"]]
    what = f"storage {run.place!r}"
    best = outlast(lambda: _copy_best(run, ranked, events, elsewhere, mirror), what, say=events.tell, home=run.path)
    better = next((one for one in ranked if one is best or (one.trial_id in elsewhere and one.checkpoint)), None)
    if better is not None and better is not best and better.val_dice is not None:
        place = f"{elsewhere[better.trial_id]}/{better.checkpoint}"
        events.tell(f"another driver has the best model, {better.trial_id} (val_dice {better.val_dice:.4f}): {place}")
    return best


def _copy_best(
    run: RunFolder, ranked: list[TrialRecord], events: Events, elsewhere: Mapping[str, str], mirror: Mirror | None
) -> TrialRecord | None:
    from model.checkpoint import load_model

    if mirror is not None:
        mirror.send_trials()
    for record in ranked:
        if not record.checkpoint or record.trial_id in elsewhere:
            continue
        if mirror is not None and not mirror.lost():
            mirror.bring(record.checkpoint)
        model = inside(run.path, record.checkpoint, what="checkpoint")
        if not model.is_dir():
            continue
        try:
            load_model(model)
        except InputError as error:
            events.tell(f"the model of trial {record.trial_id} is passed over: {error}")
            continue
        copy_folder(model, run.best)
        write_model_card(run.best, record, run.path.name)
        return record
    return None


def drop_spare_states(run: RunFolder) -> None:
    """Removes the states before the last ones, which are kept while trials run."""
    from model.kept_states import drop_states
    from model.train import LAST

    for last in run.trials.rglob(LAST):
        drop_states(last)
