"""Our CMA-ES: it finds what is good, goes on to the last bit from the study alone, and unpickles nothing."""

import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from search.cma_es import GENERATION, TOLD, CmaEs
from search.draft import distributions_of
from search.history import history_of
from search.space import parse_space
from search.unit_interval import place_of

DISTRIBUTIONS = distributions_of(parse_space(["only,learning_rate=1e-4:1:log,width=4:64,zoom=0:2"]))
BEST = {"learning_rate": 0.3, "width": 0.8, "zoom": 0.2}  # as places


def new_study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


def run_trials(study: optuna.Study, optimizer: CmaEs, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Asks for trials one after the other, each the better the nearer it is to BEST; gives their places."""
    asked = []
    for number in range(len(study.trials), len(study.trials) + count):
        history = history_of(study)
        params = optimizer.suggest(history, seed + number)
        places = {name: place_of(DISTRIBUTIONS[name], value) for name, value in params.items()}
        asked.append(places)
        distance = sum((place - BEST[name]) ** 2 for name, place in places.items())
        ending = {"state": TrialState.PRUNED, "intermediate_values": {1: -distance}}
        if number % 3:
            ending = {"value": -distance}
        study.add_trial(
            create_trial(params=params, distributions=DISTRIBUTIONS, system_attrs=history.notes.kept, **ending)
        )
    return asked


def test_it_comes_near_the_best() -> None:
    late = run_trials(new_study(), CmaEs(DISTRIBUTIONS), 150)[100:]
    for name, best in BEST.items():
        assert sum(abs(places[name] - best) for places in late) / len(late) < 0.1, "at random it would be 0.3"


def test_it_goes_on_to_the_last_bit_from_the_study_alone() -> None:
    once, often = new_study(), new_study()
    undisturbed = run_trials(once, CmaEs(DISTRIBUTIONS), 45)
    resumed = [places for count in (5, 9, 31) for places in run_trials(often, CmaEs(DISTRIBUTIONS), count)]
    assert resumed == undisturbed
    assert [trial.system_attrs for trial in often.trials] == [trial.system_attrs for trial in once.trials]
    assert max(trial.system_attrs[GENERATION] for trial in once.trials) > 3


def test_what_it_was_told_stays_told_though_a_trial_went_on_and_got_better() -> None:
    study = new_study()
    kept = CmaEs(DISTRIBUTIONS)
    run_trials(study, kept, 20)
    first = study._storage.get_trial(study.trials[0]._trial_id)
    changed = [trial for trial in study.trials if trial.number != 0]
    other = new_study()
    first.intermediate_values = {1: 5.0}
    other.add_trials([first, *changed])
    assert run_trials(other, CmaEs(DISTRIBUTIONS), 1) == run_trials(study, kept, 1)


@pytest.mark.parametrize("told", [[0], "text", None, [0] * 7, [99] * 7, [[1]] * 7, {"a": 1}])
@pytest.mark.parametrize("generation", [1, "1", None, [1]])
def test_notes_that_make_no_sense_are_of_no_account(told: Any, generation: Any) -> None:
    study = new_study()
    run_trials(study, CmaEs(DISTRIBUTIONS), 3)
    study.add_trial(create_trial(value=0.1, system_attrs={GENERATION: generation, TOLD: told}))
    assert run_trials(study, CmaEs(DISTRIBUTIONS), 1)[0].keys() == BEST.keys()


class Weapon:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_in_the_place_of_optunas_is_never_opened(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    attributes = {"cma:optimizer:0": pickle.dumps(Weapon(harm)).hex(), "cma:generation": 0}
    study = new_study()
    run_trials(study, CmaEs(DISTRIBUTIONS), 8)
    last = study.trials[-1]
    study.add_trial(create_trial(value=9.0, params=last.params, distributions=DISTRIBUTIONS, system_attrs=attributes))
    run_trials(study, CmaEs(DISTRIBUTIONS), 3)
    assert not harm.exists()
    sampler = optuna.samplers.CmaEsSampler(seed=0, warn_independent_sampling=False)
    with pytest.raises(UpdateFinishedTrialError):  # after Optuna's own has opened it: the weapon works
        sampler.sample_relative(study, study.trials[-1], DISTRIBUTIONS)
    assert harm.exists()


def test_a_search_that_has_converged_begins_anew_and_stays_among_numbers() -> None:
    optimizer = CmaEs(DISTRIBUTIONS)
    trials = [
        create_trial(value=0.0, params={"learning_rate": 0.01, "width": 9, "zoom": 1.0}, distributions=DISTRIBUTIONS)
    ]
    for _ in range(400):
        optimizer._tell(trials * optimizer._optimizer.population_size)
    assert all(place == place for place in optimizer._optimizer.ask().tolist())
