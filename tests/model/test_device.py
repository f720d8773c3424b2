"""What the device of a training can do: its name, its arithmetic, its random numbers."""

import pytest
import torch

from data.input_error import InputError
from model.device import (
    choose_device,
    device_name,
    peak_memory_mb,
    random_state,
    reproducible,
    seeded,
    set_random_state,
    uses_bfloat16,
)

CPU = torch.device("cpu")


def test_the_processor_is_always_there() -> None:
    assert choose_device("cpu") == CPU
    assert device_name(CPU) == "cpu"
    assert peak_memory_mb(CPU) > 10


def test_auto_takes_a_device_that_works() -> None:
    assert torch.ones(2, device=choose_device("auto")).sum() == 2


@pytest.mark.parametrize("name", ["", "gpu", "cuda:99", "cpu cuda"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"device '{name}' cannot be used here; allowed: auto, cpu"):
        choose_device(name)


def test_precision_is_as_asked() -> None:
    assert uses_bfloat16("bfloat16", CPU)
    assert not uses_bfloat16("float32", CPU)
    assert uses_bfloat16("auto", CPU) in (True, False)


def draw(seed: int, epoch: int) -> list[float]:
    with seeded(seed, epoch, CPU):
        return torch.rand(4).tolist()


def test_random_numbers_follow_from_seed_and_epoch() -> None:
    assert draw(3, 5) == draw(3, 5)
    different = {tuple(draw(*at)) for at in [(0, 0), (0, 1), (1, 0), (1, 1), (3, 5), (5, 3)]}
    assert len(different) == 6


def test_random_numbers_outside_are_left_as_they_were() -> None:
    torch.manual_seed(11)
    undisturbed = torch.rand(4)
    torch.manual_seed(11)
    draw(0, 0)
    assert torch.equal(torch.rand(4), undisturbed)


def test_random_numbers_go_on_from_a_state_that_was_kept() -> None:
    state = random_state(CPU)
    first = torch.rand(3)
    assert not torch.equal(torch.rand(3), first)
    set_random_state(state, CPU)
    assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize("wanted", [True, False])
def test_only_inside_are_results_reproducible_and_computed_by_one_thread(wanted: bool) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError), reproducible(wanted, CPU):
            assert torch.are_deterministic_algorithms_enabled() == wanted
            assert torch.get_num_threads() == (1 if wanted else 2)
            _ = 1 / 0
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
