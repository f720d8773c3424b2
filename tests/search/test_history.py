"""What samplers are shown of a study, held against values worked out by hand."""

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import CmaEsSampler, GPSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.history import as_if_completed, history_of, narrowed


def trial(state: TrialState, curve: list[float], *, bad: bool = False, at: float | None = 0.5) -> FrozenTrial:
    return create_trial(
        state=state,
        value=max(curve) if state == TrialState.COMPLETE else None,
        intermediate_values=dict(enumerate(curve, start=1)),
        params={} if at is None else {"x": at},
        distributions={} if at is None else {"x": FloatDistribution(0, 1)},
        constraints={"bad_ending": 1.0} if bad else None,
    )


def study_of(*trials: FrozenTrial) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def study_of_two() -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.warns(ExperimentalWarning):
        study.set_metric_names(["val_dice", "parameters"])
    return study


COMPLETE, PRUNED, RUNNING, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL
TRIALS = [
    trial(COMPLETE, [0.2, 0.6]),
    trial(PRUNED, [0.9], bad=True),  # good until it broke
    trial(PRUNED, [0.3, 0.5, 0.4]),
    trial(RUNNING, [0.1]),
    trial(PRUNED, [0.7]),
    trial(PRUNED, [], bad=True),
    trial(PRUNED, []),  # stopped before it had shown anything
    trial(COMPLETE, [0.2, 0.8]),
    trial(FAIL, []),
    trial(PRUNED, [0.8], at=None),  # of which a parameter is missing
]


def test_the_value_of_a_trial_is_its_standing_among_all():
    shown = as_if_completed(history_of(study_of(*TRIALS)), {"x"}).get_trials(deepcopy=False)
    # Bad ones, then the one stopped after one epoch, the one after three, then 0.6, then 0.8: five standings.
    assert {one.number: one.value for one in shown if one.state == COMPLETE} == {
        1: 0.0, 5: 0.0, 4: 0.25, 2: 0.5, 0: 0.75, 7: 1.0,
    }  # fmt: skip
    assert [one.number for one in shown if one.state != COMPLETE] == [3]
    assert [one.number for one in shown] == sorted(one.number for one in shown)
    assert all(one.constraints == {} for one in shown)


def test_each_cost_is_the_share_of_the_others_that_are_cheaper():
    study = study_of_two()
    for number, (state, parameters) in enumerate(
        [(COMPLETE, 50), (COMPLETE, 10), (PRUNED, 30), (PRUNED, None), (PRUNED, 20), (PRUNED, 10)]
    ):
        one = trial(PRUNED, [0.1 * (number + 1)], bad=number == 4)
        one.state, one.values = state, [0.9 - number, parameters] if state == COMPLETE else None
        if parameters is not None:
            one.set_user_attr("record", {"parameters": parameters})
        study.add_trial(one)
    shown = as_if_completed(history_of(study), {"x"}).get_trials(deepcopy=False)
    # Standings: the bad one, stopped ones 0.3, 0.4 and 0.6, then -0.1 and 0.9. Costs: 10 twice, 30, 50, and the worst.
    assert {one.number: one.values for one in shown} == {
        4: [0.0, 1.0], 2: [0.2, 1 / 3], 3: [0.4, 1.0], 5: [0.6, 0.0], 1: [0.8, 0.0], 0: [1.0, 2 / 3],
    }  # fmt: skip


def test_of_many_trials_with_several_objectives_the_first_fronts_are_shown():
    values = [(0.9, 90), (0.8, 95), (0.1, 10), (0.7, 99), (0.6, 99), (0.5, 99)]
    for state in (COMPLETE, PRUNED):
        study = study_of_two()
        for dice, parameters in values:
            one = trial(state if dice == 0.1 else COMPLETE, [dice])
            one.values = None if one.state == PRUNED else [dice, parameters]
            one.set_user_attr("record", {"parameters": parameters})
            study.add_trial(one)
        shown = narrowed(history_of(study), 4).get_trials()
        assert [one.number for one in shown] == [0, 2, 4, 5], "the best two are on the front"


def test_the_study_itself_stays_as_it_is():
    study = study_of(*TRIALS)
    before = study.get_trials()
    history = history_of(study)
    as_if_completed(history, {"x"})
    history._storage.set_trial_system_attr(0, "cma:generation", 7)
    history._storage.set_trial_system_attr(0, "tpe:relative_params:0", "{}")
    assert study.get_trials() == before
    assert history.notes.kept == {"cma:generation": 7}


def test_a_trial_that_waits_counts_as_stopped():
    study = study_of(*TRIALS)
    assert history_of(study).ended == 8
    study._storage.set_trial_state_values(study.trials[3]._trial_id, TrialState.WAITING)
    assert history_of(study).ended == 9
    shown = as_if_completed(history_of(study), {"x"}).get_trials(deepcopy=False)
    assert {one.number: one.value for one in shown}[3] == pytest.approx(1 / 5)


def test_of_many_trials_the_better_half_and_the_newer_half_are_shown():
    values = (0.9, 0.1, 0.8, 0.2, 0.3, 0.7, 0.4)
    history = history_of(study_of(trial(RUNNING, []), *(trial(COMPLETE, [value]) for value in values)))
    numbers = {most: [one.number for one in narrowed(history, most).get_trials()] for most in (4, 5, 7)}
    assert numbers == {4: [0, 1, 3, 6, 7], 5: [0, 1, 3, 5, 6, 7], 7: list(range(8))}
    assert [one.number for one in narrowed(history_of(study_of(*TRIALS)), 4).get_trials()] == [0, 3, 6, 7, 8, 9]


@pytest.mark.parametrize("sampler", [GPSampler, CmaEsSampler])
def test_why_trials_are_shown_as_completed(sampler):
    # Of a study as it is, these samplers see completed trials alone: a stopped or a bad one tells them nothing.
    told = study_of(*(trial(PRUNED, [0.5], bad=place > 0.5, at=place) for place in (0.1, 0.3, 0.6, 0.9)))
    one = sampler(seed=0, n_startup_trials=2)
    space = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    assert one.sample_relative(told, create_trial(state=RUNNING), space) == {}
