"""The trials so far as a sampler shall see them while it draws the next one."""

import copy
from collections.abc import Collection, Container, Mapping, Sequence
from math import inf
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.objectives import numbers_of
from search.pareto import scores
from search.study import objectives_of

Standing = tuple[int, int, float]

NOTHING_KNOWN: Standing = (-1, 0, 0.0)
BROKEN: Standing = (0, 0, 0.0)
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
    def direction(self) -> StudyDirection:
        """That of the curves, by which Optuna's samplers order stopped trials: of val_dice, whatever counts beside."""
        return self.directions[0]

    @property
    def ended(self) -> int:
        """How many trials there are to learn from."""
        return sum(trial.state in ENDED for trial in self._frozen)


def history_of(study: optuna.Study, trials: Sequence[FrozenTrial] | None = None) -> History:
    """The trials of the study, or these of them; those that wait count as stopped where they stand.

    Such a trial has been set aside for better ones, and what it has shown may be all that it ever will.
    """
    trials = study.get_trials(deepcopy=False) if trials is None else sorted(trials, key=lambda trial: trial.number)
    return History(study, [_as_stopped(trial) if trial.state == TrialState.WAITING else trial for trial in trials])


def narrowed(history: History, most: int) -> History:
    """The history with so many ended trials at most: the better half and the newer half of them. All that run stay.

    With several objectives those are better that are on earlier fronts, by standing and costs (see `as_if_completed`).
    """
    ended = history.get_trials(deepcopy=False, states=ENDED)
    if len(ended) <= most:
        return history
    shares = _shares({trial.number: _standing(trial) or NOTHING_KNOWN for trial in ended})
    costs = objectives_of(history.study)[1:]
    points = [(shares[trial.number], *(_cost(trial, cost) for cost in costs)) for trial in ended]
    ranked = sorted(zip(scores(points), shares, strict=True))
    best = {number for _, number in ranked[-(most // 2) :]}
    others = sorted(shares.keys() - best)
    kept = best | {*others[-(most - most // 2) :]}
    trials = history.get_trials(deepcopy=False)
    shown = [trial for trial in trials if trial.number in kept or trial.state not in ENDED]
    return History(history.study, shown, history.notes)


def as_if_completed(history: History, names: Collection[str]) -> History:
    """The history for a sampler that learns from completed trials alone, or takes costs from no others.

    A trial's value is the share of the others' standings that its own is above, 0..1: a bad ending stands below all,
    then come those that were stopped, by how far they came and how good they were there, and then those that
    completed. So values of few epochs and of many are never held against each other, and one very bad value does not
    hide the differences between good ones. A cost is the share of the others' that its own is above, and that of a bad
    ending the highest. Trials that were stopped before they had any value, and those without all parameters of these
    names, are left out.
    """
    ended = [
        trial
        for trial in history.get_trials(deepcopy=False, states=ENDED)
        if trial.params.keys() >= set(names) and _standing(trial) is not None
    ]
    shares = [_shares({trial.number: _standing(trial) for trial in ended})]
    for cost in objectives_of(history.study)[1:]:
        shares.append(_shares({trial.number: _cost(trial, cost) for trial in ended}))
    shown = []
    for trial in history.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING:
            shown.append(trial)
        elif trial.number in shares[0]:
            told = copy.copy(trial)
            told.state = TrialState.COMPLETE
            told.values = [of_trials[trial.number] for of_trials in shares]
            told.system_attrs = {
                key: value for key, value in trial.system_attrs.items() if not key.startswith(CONSTRAINT)
            }
            shown.append(told)
    return History(history.study, shown, history.notes)


def _shares(values: Mapping[int, Any]) -> dict[int, float]:
    """For each trial, by its number, the share of the others' values that its own is above, 0..1."""
    order = {value: place for place, value in enumerate(sorted(set(values.values())))}
    return {number: order[value] / max(1, len(order) - 1) for number, value in values.items()}


def _as_stopped(trial: FrozenTrial) -> FrozenTrial:
    stopped = copy.copy(trial)
    stopped.state = TrialState.PRUNED
    return stopped


def _standing(trial: FrozenTrial) -> Standing | None:
    """Where an ended trial stands by its val_dice, the higher the better; None where nothing is known of it."""
    if any(value > 0 for value in trial.constraints.values()):
        return BROKEN
    if trial.state == TrialState.COMPLETE:
        return (2, 0, trial.values[0])
    if not trial.intermediate_values:
        return None
    return (1, max(trial.intermediate_values), max(trial.intermediate_values.values()))


def _cost(trial: FrozenTrial, name: str) -> float:
    """What an ended trial costs; infinitely much where it ended badly, or nothing is known of it."""
    known = numbers_of(trial.user_attrs.get("record", {}), [name])
    return inf if known is None or _standing(trial) == BROKEN else known[0]
