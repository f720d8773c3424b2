"""The trials so far as a sampler shall see them while it draws the next one."""

import copy
from collections.abc import Collection, Container, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

Standing = tuple[int, int, float]

NOTHING_KNOWN: Standing = (-1, 0, 0.0)
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
CONSTRAINT = "constraints:"  # how Optuna's names of system attributes begin that hold constraints
# How its names begin of what only repeats the values of a trial that is being drawn.
REPEATED = ("tpe:relative_params", "gp:relative_params")


class Notes:
    """Takes in what samplers note beside a trial, which has no place in the study yet."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def set_trial_system_attr(self, _trial_id: int, key: str, value: Any) -> None:
        """What a storage of Optuna's is asked to keep."""
        if not key.startswith(REPEATED):
            self.kept[key] = value


class History(optuna.Study):
    """A study with these trials, to be looked at by one sampler for one trial; nothing reaches the study itself.

    study: the one that it is of. notes: what the sampler wants to find again beside the trial that it draws.
    """

    def __init__(self, study: optuna.Study, trials: Sequence[FrozenTrial], notes: Notes | None = None) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)
        self.study = study
        self.notes = notes or Notes()
        self._frozen = list(trials)
        self._storage = self.notes  # type: ignore[assignment]

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,  # noqa: ARG002 - Optuna's own name
    ) -> list[FrozenTrial]:
        found = [trial for trial in self._frozen if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    @property
    def ended(self) -> int:
        """How many trials there are to learn from."""
        return sum(trial.state in ENDED for trial in self._frozen)


def history_of(study: optuna.Study, waiting: Collection[int] = ()) -> History:
    """The trials of the study, of which those that wait (by their numbers) count as stopped where they stand.

    Such a trial has been set aside for better ones, and what it has shown may be all that it ever will.
    """
    trials = study.get_trials(deepcopy=False)
    for number in waiting:
        trials[number] = copy.copy(trials[number])
        trials[number].state = TrialState.PRUNED
    return History(study, trials)


def narrowed(history: History, most: int) -> History:
    """The history with so many ended trials at most: the better half and the newer half of them. All that run stay."""
    ended = history.get_trials(deepcopy=False, states=ENDED)
    if len(ended) <= most:
        return history
    standings = {trial.number: _standing(trial) or NOTHING_KNOWN for trial in ended}
    best = sorted(standings, key=lambda number: (standings[number], number))[-(most // 2) :]
    others = sorted(standings.keys() - set(best))
    kept = {*best, *others[-(most - most // 2) :]}
    trials = history.get_trials(deepcopy=False)
    shown = [trial for trial in trials if trial.number in kept or trial.state not in ENDED]
    return History(history.study, shown, history.notes)


def as_if_completed(history: History, names: Collection[str]) -> History:
    """The history for a sampler that learns from completed trials alone and knows no constraints.

    A trial's value is the share of the others' standings that its own is above, 0..1: a bad ending stands below all,
    then come those that were stopped, by how far they came and how good they were there, and then those that
    completed. So values of few epochs and of many are never held against each other, and one very bad value does not
    hide the differences between good ones. Trials that were stopped before they had any value, and those without all
    parameters of these names, are left out.
    """
    standings = {}
    for trial in history.get_trials(deepcopy=False, states=ENDED):
        standing = _standing(trial)
        if standing is not None and trial.params.keys() >= set(names):
            standings[trial.number] = standing
    order = {standing: place for place, standing in enumerate(sorted(set(standings.values())))}
    shown = []
    for trial in history.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING:
            shown.append(trial)
        elif trial.number in standings:
            told = copy.copy(trial)
            told.state = TrialState.COMPLETE
            told.values = [order[standings[trial.number]] / max(1, len(order) - 1)]
            told.system_attrs = {
                key: value for key, value in trial.system_attrs.items() if not key.startswith(CONSTRAINT)
            }
            shown.append(told)
    return History(history.study, shown, history.notes)


def _standing(trial: FrozenTrial) -> Standing | None:
    """Where an ended trial stands among the others, the higher the better; None where nothing is known of it."""
    if any(value > 0 for value in trial.constraints.values()):
        return (0, 0, 0.0)
    if trial.state == TrialState.COMPLETE:
        return (2, 0, trial.value or 0.0)
    if not trial.intermediate_values:
        return None
    return (1, max(trial.intermediate_values), max(trial.intermediate_values.values()))
