"""What one training would take, measured on a little of the data."""

from typing import Any

import torch

from model.config import TrainConfig
from search.budget import Limits, read_budget, read_target
from search.dry_run import Estimate, describe_estimates, measure_training
from search.resources import Needs
from tests.model.trainings import QUICK
from tests.toys import colored_squares, data_of, split_in_two


def test_it_is_measured_on_a_picture_that_has_something_to_learn() -> None:
    data = colored_squares("binary")
    masks = data.masks.copy()
    masks[:3] = 0
    estimate = measure_training(
        QUICK, (data_of(data.images, masks), split_in_two(data)), Needs(cpus=torch.get_num_threads(), gpus=0)
    )
    assert estimate.problem == ""
    assert estimate.seconds_an_epoch > 0
    assert estimate.parameters > 0


def test_what_stops_it_is_said() -> None:
    data = colored_squares("binary")
    empty = data_of(data.images, 0 * data.masks)
    estimate = measure_training(QUICK, (empty, split_in_two(data)), Needs(cpus=torch.get_num_threads(), gpus=0))
    assert "holds a pixel of any class" in estimate.problem


def told(problem: str = "", **asked: Any) -> list[str]:
    """What is said of limits where an epoch takes 1 to 6 seconds, two trials train at a time, each on half a GPU."""
    estimates = [Estimate(config=TrainConfig(), seconds_an_epoch=seconds, problem=problem) for seconds in (1.0, 6.0)]
    return describe_estimates(estimates, Limits(**{"max_epochs": 10} | asked), slots=2, devices=0.5)[2:]


def test_each_limit_has_a_line_on_what_the_search_would_take() -> None:
    assert told(trials=12) == ["12 trials of 10 epochs, 2 at a time: 60 s to 6 min if none is stopped early"]
    assert told(trials=3, folds=3) == [
        "3 trials of 10 epochs in each of 3 folds, 2 at a time: 50 s to 5 min if none is stopped early"
    ]
    assert told(budget=read_budget("20x")) == ["budget 20x, 2 at a time: 200 epochs, 2 min to 10 min"]
    assert told(budget=read_budget("20x"), folds=3) == ["budget 20x, 2 at a time: 600 epochs, 5 min to 30 min"]
    # Half a GPU each: two hours of training are in one of a GPU.
    assert told(budget=read_budget("1h")) == ["budget 1h, 2 at a time: 60 min, 120 to 720 whole trainings"]
    assert told(max_time="2m") == ["max_time 2m, 2 at a time: 4.0 to 24 whole trainings"]
    assert told(max_time="2m", folds=3) == ["max_time 2m, 2 at a time: 1.3 to 8.0 whole trainings"]
    assert told(target=read_target("val_dice=0.8"), patience=5) == [
        "stop_at val_dice=0.8: may end it at any time",
        "patience 5: ends it after 5 trials at the earliest",
    ]
    assert len(told(trials=12, max_time="2m", budget=read_budget("9epochs"))) == 3


def test_what_could_not_be_measured_tells_nothing_of_the_search() -> None:
    assert told("its process died", trials=12, max_time="2m") == []
