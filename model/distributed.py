"""One training in several processes, on a GPU each: which of them this one is, and what they tell each other.

Every process runs the same `model.train.train` with the same plans and seeds. Each computes its share of every batch;
then the gradients are added up, so that all make the same step, that of the whole batch, and hold the same weights at
all times. Each judges its share of the validation images and hears what the others saw, so that all come to the same
decisions by themselves. The first one writes the files.

What looks at several samples together sees one process's share of a batch, as it sees one part of it with
`accumulation`: batch normalisation, and losses that pool the pixels of the batch before they divide ("dice", "dice_ce",
"tversky", and the mean of "weighted_ce" and "focal" where pixels that do not count, or the weights of "multiclass"
classes, are shared out unevenly). torch's SyncBatchNorm would make the device wait for the host in each layer.
The other processes draw other channels for dropout than the first: a training with dropout that is resumed inside an
epoch takes another way through the rest of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

Thing = TypeVar("Thing")
Meeting = Any  # a TCPStore of torch, which does not tell type checkers of it

# As long a process waits for the others, which may be writing files, or judge with less memory: a hang, beyond that.
SECONDS_TO_WAIT = 600.0


class RankLostError(RuntimeError):
    """Another process of the training is gone, or has not come for too long."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes of one training, as one of them sees it; a training in a single one exchanges nothing.

    index: which of them it is; 0 is the first, which writes the files. count: how many they are.
    """

    index: int = 0
    count: int = 1

    def share(self, total: int) -> slice:
        """Which of so many things in a row fall to this process: as many as to any other, or one more."""
        first, end = (total * index // self.count for index in (self.index, self.index + 1))
        return slice(first, end)

    def gather(self, things: list[Thing]) -> list[Thing]:
        """The things of all processes, those of the first one first. All must call it."""
        if self.count == 1:
            return things
        of_each: list[list[Thing]] = [[] for _ in range(self.count)]
        with _waiting_for_others():
            dist.all_gather_object(of_each, things)
        return [thing for of_one in of_each for thing in of_one]

    def any(self, here: bool) -> bool:
        """Whether it is so in any of the processes. All must call it."""
        return any(self.gather([here]))

    def from_first(self, thing: Thing) -> Thing:
        """What the first process has. All must call it."""
        if self.count == 1:
            return thing
        box = [thing]
        with _waiting_for_others():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def add_up(self, network: nn.Module, loss: Tensor, share: float) -> None:
        """Puts sums over all processes in place of the loss and of the network's gradients. All must call it.

        share: of the batch, which this process has seen, and by which it has weighed its loss. What batch normalisation
        remembers becomes the mean over the processes. The device does not wait for the host.
        """
        if self.count == 1:
            return
        layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
        remembered = [one for layer in layers for one in (layer.running_mean, layer.running_var) if one is not None]
        for statistic in remembered:
            statistic.mul_(share)
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        tensors = [loss, *gradients, *remembered]
        together = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _waiting_for_others():
            dist.all_reduce(together)
        sums = together.split_with_sizes([tensor.numel() for tensor in tensors])
        for tensor, summed in zip(tensors, sums, strict=True):
            tensor.copy_(summed.view(tensor.shape))


ALONE = Ranks()


def ranks_here() -> Ranks:
    """The processes that this one trains together with: those that it has met, or it alone."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(index=dist.get_rank(), count=dist.get_world_size())
    return ALONE


def open_meeting(host: str) -> Meeting:
    """A place at which the processes of a training meet, on this machine, which the others reach as `host`.

    Its `port` is what they need besides. It is there as long as the object.
    """
    return dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]


def come_to_meeting(host: str, port: int) -> Meeting:
    """The place that another process has opened."""
    with _waiting_for_others():
        timeout = timedelta(seconds=SECONDS_TO_WAIT)
        return dist.TCPStore(host, port, is_master=False, timeout=timeout)  # type: ignore[attr-defined]


def meet(place: Meeting, ranks: Ranks, device: torch.device, seconds: float = SECONDS_TO_WAIT) -> None:
    """Lets this process train together with the others that come to the place, until it ends.

    seconds: as long one waits for the others. A process whose training has ended badly should stay until all are ended
    by whoever started them: the others would take its end for the reason.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _waiting_for_others():
        dist.init_process_group(
            backend, store=place, rank=ranks.index, world_size=ranks.count, timeout=timedelta(seconds=seconds)
        )


@contextmanager
def _waiting_for_others() -> Iterator[None]:
    """Raises RankLostError for whatever goes wrong between the processes."""
    try:
        yield
    except RuntimeError as error:
        words = str(error).strip().partition("\n")[0]
        raise RankLostError(f"another process of this training is gone, or has not come ({words})") from error
