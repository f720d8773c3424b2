"""One training, as a generator of epoch reports: `for report in train(config, data, split): ...`."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from math import cos, pi
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from data.command_line import python, run_command
from data.input_error import InputError
from data.read_ahead import read_ahead
from data.sampling import Sampling, draw_batches, draw_order, samples_per_epoch
from data.segmentation_data import LabelMode, Preparation, SegmentationData, Split, Splitting
from data.windows import Pictures, Window, place, unpack
from model.checkpoint import CONFIG, WEIGHTS, ModelCard, load_tensors, read_card, require_model, save_model
from model.class_weights import class_weights
from model.config import TrainConfig
from model.device import choose_device, device_name, peak_memory_mb, seeded, uses_bfloat16
from model.diagnose import TrainingFailure, check_finite
from model.losses import LOSSES
from model.metrics import PixelCounts, count_pixels, predicted_planes, scores
from model.progress import EpochReport, Progress, load_progress, save_progress
from model.tiles import predict_probabilities
from model.unet import UNet

THRESHOLD = 0.5  # probability above which a multilabel pixel counts as found
STEPS_BETWEEN_CHECKS = 50  # a loss is fetched from the device at most this often
WARM_UP = 0.05  # share of the training over which the learning rate rises
EVALUATED_PIXELS = 2**20  # pixels of pictures that are judged together
BEST = "best"  # model folder inside a training's folder
LAST = "last.safetensors"


def train(
    config: TrainConfig,
    data: SegmentationData,
    split: Split,
    *,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    resume: bool = False,
) -> Iterator[EpochReport]:
    """Trains on `split.train` and yields one report an epoch, judged on `split.validation`.

    folder: where the best model (`best/`) and the last state (`last.safetensors`) are kept, both written before the
    epoch's report is yielded; None keeps nothing. resume: go on after the last epoch in `folder` when there is
    one; its report is yielded again first. The randomness of an epoch follows from the seed and its number, so a
    resumed training goes the way of an uninterrupted one.

    Raises InputError when no training image holds any class, TrainingFailure when the loss is not finite or the masks
    stay empty or full.
    """
    if not data.statistics.class_pixels[list(split.train)].any():
        raise InputError(
            f"none of the {len(split.train)} training images of {data.source!r} holds a pixel of any class: "
            "there is nothing to learn; mend the masks or split otherwise (--train-ids, --split-seed)."
        )
    device = torch.device(device)
    bfloat16 = uses_bfloat16(config.precision, device)
    pictures = place(data, split.train, device)
    judged = place(data, split.validation, device)
    card = ModelCard.of(config, data, threshold=THRESHOLD, split=split)
    with seeded(config.seed, 0, device):
        network = card.build()
    set_pixel_statistics(network, data, split)
    network.to(device)
    weights = class_weights(config.class_weight, data, split, config.empty_images).to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    progress = Progress()
    if resume and folder is not None and (folder / LAST).exists():
        progress = load_progress(folder / LAST, network, optimizer, card)
        assert progress.report is not None
        yield progress.report

    while progress.epoch < config.max_epochs:
        started = time.perf_counter()
        epoch = progress.epoch + 1
        with seeded(config.seed, epoch, device):
            train_loss, samples = train_epoch(
                network, optimizer, pictures, config, epoch, data.label_mode, weights, bfloat16=bfloat16
            )
        trained = time.perf_counter() - started
        counts = evaluate(network, judged, data.label_mode, threshold=THRESHOLD, bfloat16=bfloat16)
        watch = progress.watch.after(counts)
        watch.check(config.collapse_epochs)
        report = EpochReport(
            epoch=epoch,
            train_loss=train_loss,
            val=scores(counts),
            class_names=data.class_names,
            threshold=THRESHOLD,
            seconds=progress.seconds + time.perf_counter() - started,
            images_per_second=samples / trained,
            learning_rate=optimizer.param_groups[0]["lr"],
            peak_memory_mb=peak_memory_mb(device),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            device=device_name(device),
        )
        improved = report.val.dice > progress.best_dice
        progress = Progress(report=report, watch=watch, best_dice=max(report.val.dice, progress.best_dice))
        if folder is not None:
            if improved:
                save_model(folder / BEST, network, card, {"epoch": epoch, "val_dice": report.val.dice})
            save_progress(folder / LAST, progress, network, optimizer, card)
        yield report


def train_epoch(
    network: UNet,
    optimizer: torch.optim.Optimizer,
    pictures: Pictures,
    config: TrainConfig,
    epoch: int,
    label_mode: LabelMode,
    weights: Tensor,
    *,
    bfloat16: bool,
) -> tuple[float, int]:
    """Trains for one epoch; returns the mean loss and how many samples were seen.

    Losses stay on the device, so that it never waits for the host but at every `STEPS_BETWEEN_CHECKS`th step.
    """
    network.train()
    loss_of = LOSSES[config.loss]
    device = pictures.device
    generator = np.random.default_rng([config.seed, epoch])
    samples = samples_per_epoch(pictures, config.crop_size, config.epoch_pixels)
    sampling = Sampling(crop_size=config.crop_size, augmentation=config.changes, rare_crops=config.rare_crops)
    order = draw_order(pictures, samples, config.batch_size, config.empty_images, generator)
    loss_sum = torch.zeros((), device=device)
    with closing(draw_batches(pictures, order, sampling, generator)) as batches:
        for step, batch in enumerate(batches, start=1):
            learning_rate = learning_rate_at(config, (epoch - 1 + (step - 0.5) / len(order)) / config.max_epochs)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits = network(batch.images.contiguous(memory_format=torch.channels_last))
            loss = loss_of(logits.float(), batch.masks, batch.valid, label_mode, weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss_sum += loss.detach()
            if step % STEPS_BETWEEN_CHECKS == 0 or step == len(order):
                check_finite(float(loss_sum), epoch=epoch, step=step, learning_rate=learning_rate)
    return float(loss_sum) / len(order), len(order) * config.batch_size


def evaluate(
    network: UNet, pictures: Pictures, label_mode: LabelMode, *, threshold: float, bfloat16: bool
) -> PixelCounts:
    """Pixel counts of the network's masks over whole pictures."""
    network.eval()
    height, width = pictures.height, pictures.width
    together = max(1, EVALUATED_PIXELS // (height * width))
    total: PixelCounts | None = None
    whole = [Window(index, 0, 0) for index in range(len(pictures))]
    cuts = (pictures.cut(whole[first : first + together], height, width) for first in range(0, len(pictures), together))
    with closing(read_ahead(cuts) if pictures.reads_ahead else cuts) as pieces:
        for images, labels in pieces:
            masks, valid = unpack(labels, pictures.classes)
            probabilities = predict_probabilities(network, images, label_mode, bfloat16=bfloat16)
            counts = count_pixels(predicted_planes(probabilities, label_mode, threshold), masks, valid)
            total = counts if total is None else total + counts
    assert total is not None, "a split without validation images"
    return total


def learning_rate_at(config: TrainConfig, progress: float) -> float:
    """The learning rate when this share (0..1) of the training is done.

    It rises over the first `WARM_UP` of the training; then it stays ("constant") or falls along half a cosine to
    zero ("cosine", Loshchilov and Hutter 2017, ICLR, equation 5, without restarts).
    """
    if progress < WARM_UP:
        return config.learning_rate * progress / WARM_UP
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * (1 + cos(pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def set_pixel_statistics(network: UNet, data: SegmentationData, split: Split) -> None:
    """Gives the network the mean and deviation of the training pixels that count, channel by channel."""
    histograms = data.statistics.histograms[list(split.train)].sum(axis=0)  # (C, 256)
    for channel, histogram in enumerate(histograms):
        share = histogram / max(1, histogram.sum())
        mean = share @ np.arange(256)
        network.pixel_mean[channel] = mean
        network.pixel_deviation[channel] = max(1.0, np.sqrt(share @ (np.arange(256) - mean) ** 2))


def read_like(given: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    """Defaults for the command from the model folder that `--like` names: its config, preparation and data."""
    sources = {}
    for folder in given.get("like", ()):
        require_model(Path(folder))
        card = read_card(Path(folder) / CONFIG)
        values = asdict(card.config) | asdict(card.preparation) | {"data": card.source}
        sources[folder] = {name: None if value is None else str(value) for name, value in values.items()}
    return sources


def split_like(model: Path, data: SegmentationData) -> Split | None:
    """The split by which the model in this folder was trained; None where these are not its pictures."""
    card = read_card(model / CONFIG)
    if card.source != data.source:
        return None
    places = {name: index for index, name in enumerate(data.names)}
    parts = card.train_images, card.validation_images
    if not all(parts) or not all(name in places for part in parts for name in part):
        return None
    train_part, validation_part = (tuple(places[name] for name in part) for part in parts)
    return Split(train=train_part, validation=validation_part)


def main(
    *,
    data: Annotated[str, "name of a data set, or a folder with images/ and masks/"] = "synthetic",
    data_root: Annotated[Path | None, "folder in which the named data sets lie"] = None,
    folder: Annotated[Path, "where the model and the state to go on from are kept"] = Path("runs/training"),
    resume: Annotated[bool, "go on from the last epoch in the folder"] = False,
    like: Annotated[Path | None, "model folder whose settings and split are the defaults"] = None,
    device: Annotated[str, "auto, cpu, cuda, cuda:N or mps"] = "auto",
    preparation: Preparation,
    splitting: Splitting,
    config: TrainConfig,
) -> int:
    """Train one U-net without a search; with --like, train one row of a leaderboard again."""
    from data.readers import load
    from data.split import check_splitting, split_data

    check_splitting(splitting)
    if splitting.folds > 1:
        raise InputError(f"folds {splitting.folds} belong to a search: leave --folds out, or start search.run with it.")
    prepared = load(data, root=data_root, preparation=preparation)
    split = split_like(like, prepared) if like is not None and splitting == Splitting() else None
    split = split or split_data(prepared, splitting)[0]
    chosen = choose_device(device)
    if (folder / LAST).exists() and not resume:
        raise InputError(f"folder {str(folder)!r} holds a training: add --resume to go on, or choose another --folder.")
    print(f"{data}: {len(split.train)} images to train on, {len(split.validation)} to validate, on {chosen}")
    best = (-1.0, 0)
    if resume and (folder / LAST).exists():
        kept = load_tensors(folder / BEST / WEIGHTS)[1]["scores"]
        best = (kept["val_dice"], kept["epoch"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for report in train(config, prepared, split, device=chosen, folder=folder, resume=resume):
            if report.val.dice > best[0]:
                best = (report.val.dice, report.epoch)
            print(
                f"epoch {report.epoch}/{config.max_epochs}  loss {report.train_loss:.3f}  "
                f"val_dice {report.val.dice:.4f} (best {best[0]:.4f}, epoch {best[1]})  "
                f"{report.images_per_second:.0f} images/s  {report.seconds:.0f} s",
                flush=True,
            )
    except TrainingFailure as failure:
        print(failure, file=sys.stderr)
        return 1
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be written ({error}): choose another --folder.") from error
    print(f"\nbest model: {folder / BEST}\nnext: {python()} -m model.predict {folder / BEST} PICTURES")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, defaults=read_like))
