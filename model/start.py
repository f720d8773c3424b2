"""How a training starts, from nothing, from another model or where it was left, and how it starts again, slower."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from data.replacing import write_text
from data.segmentation_data import SegmentationData, Split
from data.windows import place
from model.checkpoint import ModelCard
from model.class_weights import class_weights
from model.compiling import compile_passes
from model.config import TrainConfig
from model.device import seeded, uses_bfloat16
from model.diagnose import TrainingFailure
from model.distributed import ALONE, Ranks
from model.epoch import Lesson, trace_epoch
from model.losses import make_loss
from model.optimisation import MovingAverage, make_optimizer, make_schedule
from model.progress import Progress
from model.state import SUMS, Snapshot, TrainingState, restore, retries_of, take_snapshot
from model.transfer import describe, parameter_groups, seen_before, take_over
from model.unet import UNet

SLOWER = 1 / 3  # the learning rate of a training that goes back to its last good state
TRANSFER = "transfer.txt"  # what became of every tensor of the model that a training began from


def prepare(
    config: TrainConfig, data: SegmentationData, split: Split, device: torch.device, ranks: Ranks = ALONE
) -> Lesson:
    """What a training goes by: its pictures, in their place for the device, its loss, and how it computes."""
    weights = class_weights(config.class_weight, data, split, config.empty_images)
    return Lesson(
        config=config,
        pictures=place(data, split.train, device),
        names=tuple(data.names[index] for index in split.train),
        loss_of=make_loss(config, data.label_mode, weights.to(device)),
        bfloat16=uses_bfloat16(config.precision, device),
        ranks=ranks,
    )


def begin(
    lesson: Lesson,
    data: SegmentationData,
    split: Split,
    card: ModelCard,
    folder: Path | None,
    kept: Snapshot | None,
) -> TrainingState:
    """The training before its first step, or where `kept` left it.

    Writes to the folder what became of the model that it begins from, where there is one. Raises InputError where that
    cannot be used, or this machine cannot compile.
    """
    config, device = lesson.config, lesson.pictures.device
    with seeded(config.seed, 0, device):
        network = card.build()
    if kept is None:
        transfer = take_over(network, config, card)
        taken, notes = transfer.taken, seen_before(config, data, split) if transfer.taken else ()
        if transfer.report and folder is not None:
            write_text(folder / TRANSFER, "\n".join(describe(transfer)) + "\n")
    else:
        taken, notes = tuple(kept.facts["taken"]), ()
    set_pixel_statistics(network, data, split)
    network.to(device)
    optimizer, schedule = make_optimization(network, lesson, taken, 0 if kept is None else retries_of(kept))
    state = TrainingState(
        network=network,
        logits_of_passes=compile_passes(network, device) if config.compiled else network.logits_of_passes,
        optimizer=optimizer,
        schedule=schedule,
        average=MovingAverage(network, config.ema) if config.ema else None,
        taken=taken,
        sums=torch.zeros(SUMS, device=device),
        progress=Progress(notes=notes),
    )
    if kept is not None:
        with seeded(config.seed, 0, device):
            restore(state, kept)
    return state


def make_optimization(
    network: UNet, lesson: Lesson, taken: tuple[str, ...], retries: int
) -> tuple[Optimizer, LRScheduler]:
    """Optimizer and learning rates of a training that has diverged so many times, before its first step."""
    config = replace(lesson.config, learning_rate=lesson.config.learning_rate * SLOWER**retries)
    optimizer = make_optimizer(config, parameter_groups(network, config, taken))
    return optimizer, make_schedule(config, optimizer, lesson.steps * config.max_epochs)


def go_back(state: TrainingState, good: Snapshot, lesson: Lesson, step: int, started: float) -> Snapshot:
    """Puts a training that diverged by this step back to its last good state, at a third of the learning rate.

    started: when it left that state, by `time.perf_counter`; the time since then counts. Gives the state.
    Raises TrainingFailure, which says what was not finite first, when it has been put back as often as it may.
    """
    progress, rate = state.progress, state.last_rate
    restore(state, good)
    found = trace_epoch(state, lesson, step) or (
        f"the loss was no longer finite by step {step} of epoch {progress.epoch + 1}, at learning rate {rate:.2g}"
    )
    if progress.retries >= lesson.config.retries:
        after = f", after {progress.retries} retries at less each time" if progress.retries else ""
        raise TrainingFailure("diverged", f"{found}{after}: try a smaller learning_rate, or gradient_clip=1")
    retries = progress.retries + 1
    state.optimizer, state.schedule = make_optimization(state.network, lesson, state.taken, retries)
    restore(state, good)
    note = f"diverged: {found}; went on from epoch {progress.epoch + 1} at a third of the learning rate"
    state.moved(
        seconds=state.progress.seconds + time.perf_counter() - started,
        retries=retries,
        batch_parts=progress.batch_parts,
        notes=(*progress.notes, note),
    )
    return take_snapshot(state)


def set_pixel_statistics(network: UNet, data: SegmentationData, split: Split) -> None:
    """Gives the network the mean and deviation of the training pixels that count, channel by channel."""
    histograms = data.statistics.histograms[list(split.train)].sum(axis=0)  # (C, 256)
    for channel, histogram in enumerate(histograms):
        share = histogram / max(1, histogram.sum())
        mean = share @ np.arange(256)
        network.pixel_mean[channel] = mean
        network.pixel_deviation[channel] = max(1.0, np.sqrt(share @ (np.arange(256) - mean) ** 2))
