"""Optimizers, the learning rate over the steps, clipped gradients and averaged weights."""

import json
import warnings
from math import cos, pi, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data.segmentation_data import MULTILABEL
from model.config import OPTIMIZERS as OPTIMIZER_NAMES
from model.config import SCHEDULES as SCHEDULE_NAMES
from model.config import TrainConfig
from model.optimisation import (
    OPTIMIZERS,
    SCHEDULES,
    MovingAverage,
    clip_gradients,
    make_optimizer,
    make_schedule,
    restore_schedule,
    schedule_facts,
)
from model.unet import UNet, build_unet

PEAK, SLOWER = 0.4, 0.1  # of the two groups of every schedule


def two_groups() -> list[dict[str, Any]]:
    """Two weights that learn at different peaks."""
    return [
        {"params": [nn.Parameter(torch.tensor([1.0, -2.0]))], "lr": PEAK},
        {"params": [nn.Parameter(torch.tensor([3.0]))], "lr": SLOWER},
    ]


def weights_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def rates(config: TrainConfig, steps: int) -> list[list[float]]:
    """The learning rates of both groups at each step of a whole training."""
    optimizer = make_optimizer(config, two_groups())
    schedule = make_schedule(config, optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return seen


def shares(config: TrainConfig, steps: int) -> list[float]:
    """The first group's learning rates as shares of its peak; the second's are the same shares of its own."""
    both = rates(config, steps)
    first, second = ([rate[index] / peak for rate in both] for index, peak in enumerate((PEAK, SLOWER)))
    assert first == pytest.approx(second)
    return first


def small_network() -> UNet:
    return build_unet(TrainConfig(depth=2, width=2), channels=1, classes=1, label_mode=MULTILABEL)


def test_every_name_on_offer_has_its_mechanism() -> None:
    assert set(OPTIMIZERS) == set(OPTIMIZER_NAMES)
    assert set(SCHEDULES) == set(SCHEDULE_NAMES)


def test_the_first_steps_of_sgd_by_hand() -> None:
    config = TrainConfig(optimizer="sgd", momentum=0.5, weight_decay=0.1)
    optimizer = make_optimizer(config, [{"params": [weight := nn.Parameter(torch.tensor([2.0]))], "lr": 0.1}])
    # gradient 1 + 0.1 * 2 = 1.2; velocity 1.2; Nesterov 1.2 + 0.5 * 1.2 = 1.8; weight 2 - 0.18
    weight.grad = torch.ones(1)
    optimizer.step()
    assert weight.item() == pytest.approx(1.82)
    # gradient 1.182; velocity 0.5 * 1.2 + 1.182 = 1.782; step 1.182 + 0.5 * 1.782 = 2.073; weight 1.82 - 0.2073
    optimizer.step()
    assert weight.item() == pytest.approx(1.6127)


def test_sgd_without_momentum_follows_the_gradient() -> None:
    config = TrainConfig(optimizer="sgd", momentum=0.0, weight_decay=0.0)
    optimizer = make_optimizer(config, [{"params": [weight := nn.Parameter(torch.tensor([2.0]))], "lr": 0.1}])
    for expected in (1.7, 1.4):
        weight.grad = torch.full((1,), 3.0)
        optimizer.step()
        assert weight.item() == pytest.approx(expected)


def test_the_first_step_of_adam_and_adamw_by_hand() -> None:
    # Both step by the learning rate along the gradient's sign; only adamw pulls the weight itself: 2 * (1 - 0.1 * 0.5)
    # first. For adam the decay turns the gradient's sign: -0.5 + 0.5 * 2.
    for name, expected in (("adamw", 2 * 0.95 + 0.1), ("adam", 2 - 0.1)):
        config = TrainConfig(optimizer=name, weight_decay=0.5)
        optimizer = make_optimizer(config, [{"params": [weight := nn.Parameter(torch.tensor([2.0]))], "lr": 0.1}])
        weight.grad = torch.full((1,), -0.5)
        optimizer.step()
        assert weight.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_contract_an_optimizer_reaches_the_bottom_and_leaves_frozen_weights_alone(name: str) -> None:
    groups = two_groups()
    groups[1]["params"][0].requires_grad_(False)
    optimizer = make_optimizer(TrainConfig(optimizer=name, weight_decay=0.0), groups)
    moving, frozen = weights_of(optimizer)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.15 * (1 - step / 300)
        optimizer.zero_grad()
        ((moving - 5).square().sum() + frozen.sum()).backward()
        optimizer.step()
    assert moving.tolist() == pytest.approx([5.0, 5.0], abs=0.05)
    assert frozen.tolist() == [3.0]


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_contract_an_optimizer_is_fused_and_takes_an_empty_group(name: str) -> None:
    optimizer = make_optimizer(TrainConfig(optimizer=name), [*two_groups(), {"params": [], "lr": 0.1}])
    assert all(group["fused"] for group in optimizer.param_groups)
    weight = weights_of(optimizer)[0]
    weight.grad = torch.ones(2)
    optimizer.step()
    assert weight.tolist() != [1.0, -2.0]


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
def test_contract_an_optimizer_takes_up_a_weight_of_the_same_group_that_was_frozen(name: str) -> None:
    config = TrainConfig(optimizer=name, weight_decay=0.0)
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = make_optimizer(config, [{"params": [first, second], "lr": 0.1}])
    first.grad = torch.ones(2)
    optimizer.step()
    moved = [1 - first.tolist()[0]]
    second.grad = torch.ones(2)
    optimizer.step()
    moved.append(1 - second.tolist()[0])
    assert moved == pytest.approx([moved[0]] * 2)  # as far in its first step as the other in its own
    assert moved[0] > 0.05


def test_cosine_by_hand() -> None:
    # the middles of five steps: 0.1 0.3 0.5 0.7 0.9; the rise ends at 0.2; then 1/8 3/8 5/8 7/8 of half a cosine
    expected = [0.5, *[(1 + cos(pi * eighths / 8)) / 2 for eighths in (1, 3, 5, 7)]]
    assert shares(TrainConfig(schedule="cosine", warm_up=0.2), 5) == pytest.approx(expected)
    assert shares(TrainConfig(schedule="cosine", warm_up=0.0), 2) == pytest.approx(
        [(1 + sqrt(0.5)) / 2, (1 - sqrt(0.5)) / 2]
    )


def test_constant_by_hand() -> None:
    assert shares(TrainConfig(schedule="constant", warm_up=0.4), 5) == pytest.approx([0.25, 0.75, 1, 1, 1])
    assert shares(TrainConfig(schedule="constant", warm_up=0.0), 3) == [1, 1, 1]


def test_one_cycle_by_hand() -> None:
    # 10 steps planned for 9: from a 25th up half a cosine over the first 4 steps (to step 3, of 0.4 * 10), then down
    # to a 10,000th of that 25th over the other 6, the last of which lies behind the end
    low, end = 1 / 25, 1 / 250_000
    up = [1 + (low - 1) / 2 * (1 + cos(pi * step / 3)) for step in range(4)]
    down = [end + (1 - end) / 2 * (1 + cos(pi * step / 6)) for step in range(1, 6)]
    assert shares(TrainConfig(schedule="one_cycle", warm_up=0.4), 9) == pytest.approx(up + down)


every_schedule = pytest.mark.parametrize("name", SCHEDULE_NAMES)


@every_schedule
@pytest.mark.parametrize("warm_up", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_contract_a_schedule_is_sound_for_any_number_of_steps(name: str, warm_up: float) -> None:
    for steps in (1, 2, 3, 9, 10, 19, 20, 101):
        seen = shares(TrainConfig(schedule=name, warm_up=warm_up), steps)
        assert len(seen) == steps
        assert all(0 < share <= 1 for share in seen), (steps, seen)
        assert max(seen) > 0.3 or steps == 1, (steps, seen)
        top = seen.index(max(seen))
        assert seen[: top + 1] == sorted(seen[: top + 1])
        assert seen[top:] == sorted(seen[top:], reverse=True)
        assert steps < 100 or (max(seen) > 0.99 and abs(top / steps - warm_up) < 0.02)
        assert steps < 100 or name == "constant" or seen[-1] < 0.03


@every_schedule
@pytest.mark.parametrize("optimizer", OPTIMIZER_NAMES)
def test_contract_a_restored_schedule_goes_on_to_the_last_bit(name: str, optimizer: str) -> None:
    config, steps = TrainConfig(schedule=name, optimizer=optimizer, warm_up=0.3), 7
    uninterrupted = rates(config, steps)
    first = make_optimizer(config, two_groups())
    schedule = make_schedule(config, first, steps)
    for done in range(steps + 1):
        facts = json.loads(json.dumps(schedule_facts(schedule)))
        again = make_optimizer(config, two_groups())
        restored = make_schedule(config, again, steps)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            restore_schedule(restored, facts)
            for expected in uninterrupted[done:]:
                assert [group["lr"] for group in again.param_groups] == expected
                again.step()
                restored.step()
        assert schedule_facts(restored) == {"steps": steps}
        if done < steps:
            first.step()
            schedule.step()


@every_schedule
def test_contract_a_restored_schedule_keeps_to_the_peaks_at_hand(name: str) -> None:
    config = TrainConfig(schedule=name, warm_up=0.3)
    expected = [rate / 4 for rate in rates(config, 7)[4]]
    groups = [group | {"lr": group["lr"] / 4} for group in two_groups()]
    optimizer = make_optimizer(config, groups)
    restore_schedule(make_schedule(config, optimizer, 7), {"steps": 4})
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)


def with_gradients(*gradients: list[float] | None) -> list[nn.Parameter]:
    weights = []
    for gradient in gradients:
        weight = nn.Parameter(torch.zeros(len(gradient or [0.0])))
        weight.grad = None if gradient is None else torch.tensor(gradient)
        weights.append(weight)
    return weights


def gradients_of(weights: list[nn.Parameter]) -> list[float]:
    return [float(value) for weight in weights if weight.grad is not None for value in weight.grad]


def test_clipping_by_hand() -> None:
    # the length of (2, 3, 6) is 7
    for longest, expected in ((0.0, [2, 3, 6]), (8.0, [2, 3, 6]), (3.5, [1, 1.5, 3])):
        weights = with_gradients([2.0, 3.0], None, [6.0])
        norm = clip_gradients(iter(weights), longest)
        assert isinstance(norm, Tensor)
        assert float(norm) == pytest.approx(7)
        assert gradients_of(weights) == pytest.approx(expected, rel=1e-5)


def test_measuring_changes_no_bit_of_a_gradient() -> None:
    weights = with_gradients([0.1, 1e30], [1e-30])
    before = gradients_of(weights)
    clip_gradients(weights, 0.0)
    assert gradients_of(weights) == before


def test_the_norm_of_no_gradients_is_zero_and_that_of_a_broken_one_is_told() -> None:
    assert float(clip_gradients(with_gradients(None, None), 1.0)) == 0
    for broken in (float("nan"), float("inf")):
        assert not clip_gradients(with_gradients([broken], [1.0]), 1.0).isfinite()


def test_nothing_at_a_step_waits_for_the_device() -> None:
    # A tensor on "meta" has no value, so whoever asks for one fails.
    network = small_network().to("meta")
    average = MovingAverage(network, decay=0.9)
    network(torch.rand(2, 1, 16, 16, device="meta")).sum().backward()
    assert clip_gradients(network.parameters(), 1.0).is_meta
    average.update(network)


def filled(network: UNet, value: float) -> UNet:
    """The network with every weight, and every buffer that is a float, at this value."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(value)
    return network


def test_the_moving_average_by_hand() -> None:
    network = filled(small_network(), 1.0)
    average = MovingAverage(network, decay=0.15)
    # decays 1/10, then 2/11 and 3/12, of which both are more than 0.15
    for value, expected in ((2.0, 1.9), (4.0, 0.15 * 1.9 + 0.85 * 4), (0.0, 0.15 * (0.15 * 1.9 + 0.85 * 4))):
        average.update(filled(network, value))
        for weight in average.network.parameters():
            assert weight.detach() == pytest.approx(torch.full_like(weight, expected).numpy(), rel=1e-6)
        for name, buffer in average.network.named_buffers():
            assert (buffer == value).all(), name


def test_the_moving_average_is_a_network_to_judge_apart_from_the_one_that_learns() -> None:
    network = small_network().train()
    average = MovingAverage(network, decay=0.9)
    assert network.training
    assert not average.network.training
    assert all(weight.requires_grad for weight in network.parameters())
    assert not any(weight.requires_grad for weight in average.network.parameters())
    images = torch.rand(1, 1, 16, 16)
    before = average.network(images)
    learn(network, torch.optim.SGD(network.parameters(), lr=0.1), images)
    assert torch.equal(average.network(images), before)
    average.update(network)
    assert not torch.equal(average.network(images), before)
    for kept, weight in zip(average.network.parameters(), network.parameters(), strict=True):
        assert kept.stride() == weight.stride()  # the same layout in memory, so the same speed


def learn(network: UNet, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    """One step towards bright pictures."""
    optimizer.zero_grad()
    (network(images).mean() - 1).square().backward()
    optimizer.step()


def test_a_restored_moving_average_goes_on_to_the_last_bit() -> None:
    network, images = small_network(), torch.rand(2, 1, 16, 16)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    average = MovingAverage(network, decay=0.5)
    for _ in range(3):
        learn(network, optimizer, images)
        average.update(network)
    restored = MovingAverage(small_network(), decay=0.5)
    restored.load_tensors({name: tensor.clone() for name, tensor in average.tensors().items()})
    for _ in range(4):
        first, second = average.tensors(), restored.tensors()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
        learn(network, optimizer, images)
        for one in (average, restored):
            one.update(network)
    assert restored.updates == 7
