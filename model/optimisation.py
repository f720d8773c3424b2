"""From gradients to weights: the optimizers, the learning rate over the steps, clipping, and averaged weights."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from model.config import TrainConfig
from model.unet import UNet

Groups = list[dict[str, Any]]
UPDATES = "updates"  # under this name the tensors of a `MovingAverage` say how many steps it has seen


def make_optimizer(config: TrainConfig, groups: Groups) -> Optimizer:
    """The config's optimizer for these groups, each {"params": [...], "lr": its peak learning rate}."""
    return OPTIMIZERS[config.optimizer](config, groups)


def make_schedule(config: TrainConfig, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The config's learning rate over this many steps, of each group by its own peak.

    Call `schedule.step()` once after each `optimizer.step()`, also after the last. The learning rate of the step that
    comes next stands in the optimizer's groups.
    """
    assert steps >= 1, steps
    return SCHEDULES[config.schedule](optimizer, steps, config.warm_up)


def schedule_facts(schedule: LRScheduler) -> dict[str, int]:
    """What `restore_schedule` needs, as plain JSON. Every schedule follows from its number of steps alone."""
    return {"steps": schedule.last_epoch}


def restore_schedule(schedule: LRScheduler, facts: Mapping[str, int]) -> None:
    """Puts a fresh schedule, and its optimizer's learning rates, where the one of these facts was, to the last bit.

    Peaks are those of the optimizer at hand, so a training may go on at another learning rate.
    """
    # torch warns of a first step before any of the optimizer's, by `_step_count`; these steps it has made elsewhere.
    place = {"last_epoch": facts["steps"] - 1, "_step_count": facts["steps"] + 2}
    schedule.load_state_dict(schedule.state_dict() | place)
    schedule.step()


def clip_gradients(parameters: Iterable[nn.Parameter], longest: float) -> Tensor:
    """The norm of all gradients together, on their device, which are then shortened to `longest` where it is more.

    longest: 0 only measures.
    """
    owners = list(parameters)
    norm = nn.utils.get_total_norm([owner.grad for owner in owners if owner.grad is not None])
    if longest:
        nn.utils.clip_grads_with_norm_(owners, longest, norm)
    return norm


class MovingAverage:
    """An exponential moving average of a network's weights, to be judged and kept in its place.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that short trainings are not held back by their
    first weights. Buffers, such as the statistics of batch normalisation, are those of the network.

    `torch.optim.swa_utils.AveragedModel` is not used: it counts its updates in a tensor that it copies to the device,
    and so waits for the device at each step. The averaging itself is torch's.
    """

    def __init__(self, network: UNet, decay: float) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    def update(self, network: UNet) -> None:
        """Takes in the network's weights after a step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(list(self.network.parameters()), [weight.detach() for weight in network.parameters()], self.updates)
        for kept, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(buffer)
        self.updates += 1

    def tensors(self) -> dict[str, Tensor]:
        """All that it is, by name: the averaged network's entries and how many updates it has seen."""
        return {**self.network.state_dict(), UPDATES: torch.tensor(self.updates)}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts it where another was that gave these `tensors`."""
        self.updates = int(tensors[UPDATES])
        self.network.load_state_dict({name: tensor for name, tensor in tensors.items() if name != UPDATES})


def _adamw(config: TrainConfig, groups: Groups) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, ICLR)."""
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)


def _adam(config: TrainConfig, groups: Groups) -> Optimizer:
    """Adam (Kingma and Ba 2015, ICLR), the weight decay added to the gradient."""
    return torch.optim.Adam(groups, weight_decay=config.weight_decay, fused=True)


def _sgd(config: TrainConfig, groups: Groups) -> Optimizer:
    """Stochastic gradient descent with Nesterov's momentum (Sutskever et al. 2013, ICML), or without any."""
    momentum = config.momentum
    optimizer = torch.optim.SGD(
        groups, momentum=momentum, nesterov=momentum > 0, weight_decay=config.weight_decay, fused=True
    )
    # torch's fused SGD cannot begin a velocity beside others that move already, as of weights that were frozen.
    for weight in (weight for group in optimizer.param_groups for weight in group["params"] if momentum > 0):
        optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return optimizer


OPTIMIZERS: dict[str, Callable[[TrainConfig, Groups], Optimizer]] = {"adamw": _adamw, "adam": _adam, "sgd": _sgd}


def _constant(optimizer: Optimizer, steps: int, warm_up: float) -> LRScheduler:
    """A linear rise over the share `warm_up` of the steps, then the peak."""
    return _follow(optimizer, steps, lambda progress: min(1.0, progress / warm_up) if warm_up else 1.0)


def _cosine(optimizer: Optimizer, steps: int, warm_up: float) -> LRScheduler:
    """A linear rise, then half a cosine to zero (Loshchilov and Hutter 2017, ICLR, equation 5, without restarts)."""

    def share_of_peak(progress: float) -> float:
        if progress < warm_up:
            return progress / warm_up
        return (1 + cos(pi * (progress - warm_up) / (1 - warm_up))) / 2

    return _follow(optimizer, steps, share_of_peak)


def _follow(optimizer: Optimizer, steps: int, share_of_peak: Callable[[float], float]) -> LRScheduler:
    """Each step at the share of its peak for that share (0..1) of the training which is done in the step's middle."""
    return LambdaLR(optimizer, lambda step: share_of_peak(min((step + 0.5) / steps, 1.0)))


def _one_cycle(optimizer: Optimizer, steps: int, warm_up: float) -> LRScheduler:
    """Half a cosine from a 25th of the peak up to it, then half a cosine to next to nothing (Smith and Topin 2019).

    Momentum stays as it is. One step more than there are is planned, for the last planned one moves nothing.
    """
    planned = steps + 1
    if warm_up * planned == 1:  # torch would divide by zero: a rise that ends where it begins
        warm_up *= 1 + 1e-9
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=planned, pct_start=warm_up, cycle_momentum=False)


# Each takes the optimizer, whose groups hold their peaks, the number of steps, and the share over which the rate rises.
SCHEDULES: dict[str, Callable[[Optimizer, int, float], LRScheduler]] = {
    "cosine": _cosine,
    "constant": _constant,
    "one_cycle": _one_cycle,
}
