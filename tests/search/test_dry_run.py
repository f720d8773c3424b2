"""What one training would take, measured on a little of the data."""

import torch

from search.dry_run import measure_training
from search.resources import Needs
from tests.model.test_train import QUICK
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
