"""The trials that Ray is given, what they hold, and what Ray keeps of them when they have ended."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import CheckpointConfig
from ray.tune.experiment import Trial
from ray.tune.registry import register_trainable
from ray.tune.search import Searcher

from search.patient_scheduler import PatientScheduler
from search.placement import Placement, resources_of
from search.resources import Needs
from search.watch import forget
from tests.search.paper_search import PaperTrial

HALF = Needs(cpus=0.5, gpus=0.0)
WHOLE = Needs(cpus=1.0, gpus=0.0)


class ListSearcher(Searcher):
    """Suggests what is on a list."""

    def __init__(self, suggestions: list[Any]) -> None:
        super().__init__()
        self.suggestions = suggestions

    def suggest(self, trial_id: str) -> Any:
        return self.suggestions.pop(0)


@pytest.fixture
def placement() -> Placement:
    register_trainable("nothing", lambda config: None)
    first = {"trial_id": "t0000", "depth": 3, "learning_rate": 0.1 + 0.2, "loss": "dice"}
    made = Placement(ListSearcher([first, None, {"trial_id": "t0001", "depth": 4}, Searcher.FINISHED]), HALF)
    spec = {"run": "nothing", "storage": None, "checkpoint_config": CheckpointConfig(), "max_failures": 2}
    made._experiment, made._total_samples = SimpleNamespace(spec=spec), 99
    return made


def test_a_trial_has_our_id_its_hyperparameters_and_what_it_takes_from_then_on(placement: Placement) -> None:
    first = placement.next_trial()
    placement.needs = WHOLE
    assert placement.next_trial() is None
    assert not placement.is_finished()
    second = placement.next_trial()
    assert first is not None
    assert second is not None
    params = {"depth": 3, "learning_rate": 0.1 + 0.2, "loss": "dice"}
    assert first.config == {"trial_id": "t0000", "params": json.dumps(params), "needs": HALF}
    assert json.loads(first.config["params"]) == params, "to the last bit"
    assert second.config["needs"] == WHOLE
    assert first.trial_id != second.trial_id
    assert (first.trainable_name, first.max_failures) == ("nothing", 2)
    assert placement.next_trial() is None
    assert placement.is_finished()


def test_what_equal_trials_take_is_one_thing_to_ray() -> None:
    first, second = (resources_of({"needs": Needs(cpus=0.5, gpus=0.0)}) for _ in range(2))
    assert first is second
    assert first.bundles == [{"CPU": 0.5}]
    assert resources_of({"needs": WHOLE}) != first


def test_of_a_trial_that_has_ended_ray_keeps_next_to_nothing(placement: Placement) -> None:
    trial = placement.next_trial()
    assert trial is not None
    for epoch in range(1, 9):
        trial.update_last_result({"training_iteration": epoch, **{f"val_{number}": 0.5 for number in range(30)}})
    forget(trial)
    assert trial.last_result == {"done": True, "trial_id": trial.trial_id}
    assert trial.metric_analysis == trial.metric_n_steps == trial.config == {}
    assert not [value for value in vars(trial).values() if isinstance(value, dict) and value]
    assert trial.get_json_state(), "which Ray writes down in the end"


def test_a_free_worker_goes_to_the_newest_trial() -> None:
    statuses = {"t0002": Trial.RUNNING, "t9998": Trial.PENDING, "t10000": Trial.PENDING, "t9999": Trial.PENDING}
    trials = {PaperTrial(f"ray-{our_id}", {"trial_id": our_id}, status) for our_id, status in statuses.items()}
    chosen = PatientScheduler().choose_trial_to_run(SimpleNamespace(get_live_trials=lambda: trials))
    assert chosen.config["trial_id"] == "t10000"
    for trial in trials:
        trial.status = Trial.RUNNING
    assert PatientScheduler().choose_trial_to_run(SimpleNamespace(get_live_trials=lambda: trials)) is None
