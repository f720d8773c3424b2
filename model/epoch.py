"""One epoch: step after step over its batches, until it is done or something is no longer a number."""

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data.sampling import Batch, Sampling, draw_batches, draw_order, samples_per_epoch
from data.windows import Pictures
from model.config import TrainConfig
from model.device import is_out_of_memory
from model.diagnose import TrainingFailure
from model.distributed import ALONE, Ranks
from model.losses import Loss
from model.optimisation import clip_gradients
from model.state import TrainingState
from model.trace import find_first_not_finite
from model.transfer import freeze

STEPS_BETWEEN_CHECKS = 50  # a loss is fetched from the device at most this often


class NotFinite(RuntimeError):
    """A loss, or a weight, was no longer a finite number by this step (1-based) of the epoch."""

    def __init__(self, step: int) -> None:
        super().__init__(f"not finite by step {step}")
        self.step = step


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What does not change from epoch to epoch.

    names: of the pictures. bfloat16: whether the network computes in it. ranks: who trains together.
    """

    config: TrainConfig
    pictures: Pictures
    names: tuple[str, ...]
    loss_of: Loss
    bfloat16: bool
    ranks: Ranks = ALONE

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self._samples / self.config.batch_size)

    @property
    def _samples(self) -> int:
        return samples_per_epoch(self.pictures, self.config.crop_size, self.config.epoch_pixels)

    def batches(self, epoch: int, skip: int) -> tuple[list[list[int]], Iterator[Batch]]:
        """Which pictures each batch of this epoch (1-based) shows, and the batches after the first `skip`.

        Of a batch, the samples that fall to this process.
        """
        config, share = self.config, self.ranks.share(self.config.batch_size)
        generator = np.random.default_rng([config.seed, epoch])
        order = draw_order(self.pictures, self._samples, config.batch_size, config.empty_images, generator)
        sampling = Sampling(crop_size=config.crop_size, augmentation=config.changes, rare_crops=config.rare_crops)
        return order, draw_batches(self.pictures, order, sampling, generator, skip=skip, share=share)

    def weight(self, batch: Batch) -> float:
        """The share of a whole batch that these samples of it are."""
        return len(batch.images) / self.config.batch_size


def train_epoch(state: TrainingState, lesson: Lesson, *, is_due: Callable[[], bool], keep: Callable[[], None]) -> float:
    """Trains on what is left of the epoch after `state.progress`; returns its samples a second.

    What happens is added to `state.sums`. Losses stay on the device, so that it never waits for the host but at every
    `STEPS_BETWEEN_CHECKS`th step. is_due: asked between two steps whether the state is to be written down; where
    several processes train together, only at those steps. keep: does so. Where memory does not suffice for a batch at
    once, it is computed in twice as many parts from then on.

    Raises NotFinite, and TrainingFailure "out_of_memory" where memory does not suffice for a single sample.
    """
    started = time.perf_counter()
    epoch, first = state.progress.epoch + 1, state.progress.step
    order, batches = lesson.batches(epoch, skip=first)
    set_to_learn(state, lesson.config)
    with closing(batches):  # type: ignore[type-var]
        for step, batch in enumerate(batches, start=first + 1):
            take_step(state, lesson, batch)
            looks = step % STEPS_BETWEEN_CHECKS == 0 or step == len(order)
            asks = step < len(order) and (looks or lesson.ranks.count == 1)
            due = asks and lesson.ranks.any(is_due())
            if due or looks:
                # A gradient that is not finite shows here before the loss does, and before its weights are kept.
                if not bool(state.sums.isfinite().all()):
                    raise NotFinite(step)
                state.moved(step=step)
                if due:
                    keep()
    if not _weights_are_finite(state):
        raise NotFinite(len(order))
    return (len(order) - first) * lesson.config.batch_size / (time.perf_counter() - started)


def set_to_learn(state: TrainingState, config: TrainConfig) -> None:
    """Makes the network ready for the steps of the coming epoch: all of it learns, or only what is new to it."""
    state.network.train()
    freeze(state.network, state.taken, state.progress.epoch < config.freeze_epochs)


def take_step(state: TrainingState, lesson: Lesson, batch: Batch) -> None:
    """One step of the optimizer."""
    state.last_rate = state.learning_rate
    loss = accumulate_gradients(state, lesson, batch)
    lesson.ranks.add_up(state.network, loss, lesson.weight(batch))
    norm = follow_gradients(state, lesson.config)
    state.sums[0] += loss
    state.sums[1] += norm
    state.sums[2] = torch.maximum(state.sums[2], norm)


def follow_gradients(state: TrainingState, config: TrainConfig) -> Tensor:
    """Moves the weights by their gradients; returns the norm of all gradients together, on the device."""
    norm = clip_gradients(list(state.network.parameters()), config.gradient_clip)
    state.optimizer.step()
    state.schedule.step()
    if state.average is not None:
        state.average.update(state.network)
    return norm


def accumulate_gradients(state: TrainingState, lesson: Lesson, batch: Batch) -> Tensor:
    """The batch's loss, and its gradients in the network's parameters, in as many parts as memory asks for.

    Where several processes train together, what this one's samples add to both.
    """
    size = len(batch.images)
    while True:
        parts = min(max(state.progress.batch_parts, lesson.config.accumulation), size)
        state.optimizer.zero_grad()
        try:
            return _gradients_in_parts(state, lesson, batch, parts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            asked = str(error).strip().partition("\n")[0]
        # Only out here is nothing of the step alive any more.
        if parts == size:
            raise TrainingFailure(
                "out_of_memory",
                f"memory did not suffice for one sample of {batch.images.shape[-1]} x {batch.images.shape[-2]} pixels "
                f"({asked}): try a smaller crop_size, width or depth",
            )
        state.optimizer.zero_grad()
        gc.collect()
        if state.device.type == "cuda":
            torch.cuda.empty_cache()
        note = f"batch_split: memory did not suffice for {-(-size // parts)} samples at once, so each batch of {size} "
        note += f"is computed in {min(2 * parts, size)} parts; a smaller batch_size or crop_size would be faster"
        others = tuple(one for one in state.progress.notes if not one.startswith("batch_split"))
        state.moved(batch_parts=min(2 * parts, size), notes=(*others, note))


def _gradients_in_parts(state: TrainingState, lesson: Lesson, batch: Batch, parts: int) -> Tensor:
    """The batch's loss, and its gradients added to the network's, computed in so many parts, each by its share."""
    total = torch.zeros((), device=state.device)
    pieces = zip(*(tensor.tensor_split(parts) for tensor in (batch.images, batch.masks, batch.valid)), strict=True)
    for images, masks, valid in pieces:
        loss = loss_on(state, lesson, images, masks, valid) * (len(images) / lesson.config.batch_size)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def loss_on(state: TrainingState, lesson: Lesson, images: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """The loss of the network on these samples, mean over its passes."""
    with torch.autocast(state.device.type, torch.bfloat16, enabled=lesson.bfloat16):
        passes = state.logits_of_passes(images.contiguous(memory_format=torch.channels_last))
    losses = [lesson.loss_of(logits.float(), masks, valid) for logits in passes]
    return torch.stack(losses).mean()


def trace_epoch(state: TrainingState, lesson: Lesson, last_step: int) -> str | None:
    """Goes on up to this step looking at every tensor; says which was first not finite, or None when all were.

    state: as it was before things went wrong. It is spoilt afterwards.
    """
    # A compiled network would not call the hooks by which tensors are looked at.
    state = replace(state, logits_of_passes=state.network.logits_of_passes)
    epoch, first = state.progress.epoch + 1, state.progress.step
    order, batches = lesson.batches(epoch, skip=first)
    set_to_learn(state, lesson.config)
    with closing(batches):  # type: ignore[type-var]
        for step, batch in enumerate(batches, start=first + 1):
            rate = state.learning_rate
            found = find_first_not_finite(state.network, lambda batch=batch: accumulate_gradients(state, lesson, batch))  # type: ignore[misc]
            found = next((words for words in lesson.ranks.gather([found]) if words is not None), None)
            if found is None:
                lesson.ranks.add_up(state.network, torch.zeros_like(state.sums[0]), lesson.weight(batch))
                norm = follow_gradients(state, lesson.config)
                if not bool(norm.isfinite()):
                    found = "the norm of all gradients together"
                elif not _weights_are_finite(state):
                    found = "a weight after the step"
            if found is not None:
                names = ", ".join(dict.fromkeys(lesson.names[index] for index in order[step - 1]))
                where = f"in step {step} of epoch {epoch} ({names}), at learning rate {rate:.2g}"
                return f"first not finite: {found}, {where}"
            if step == last_step:
                return None
    return None


def _weights_are_finite(state: TrainingState) -> bool:
    """Whether every weight and buffer is finite; waits for the device once."""
    return bool(torch.stack([tensor.isfinite().all() for tensor in state.network.state_dict().values()]).all())
