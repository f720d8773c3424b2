"""What a search would take: a few steps of the smallest and of the largest network, measured where trials would run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from data.segmentation_data import SegmentationData, Split
from model.config import TrainConfig
from search.budget import Limits
from search.cost_model import CostModel
from search.objectives import LATENCY, costs_in_words
from search.progress import in_words
from search.resources import Needs
from search.space import Space, extremes
from search.trial import failure_reason

if TYPE_CHECKING:
    from data.windows import Pictures

NAMES = ("smallest", "largest")
SIZES = ("depth", "width", "batch_size", "crop_size", "passes")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one training would take.

    parameters: of the network. seconds_an_epoch: over all images of the split. peak_memory_mb: on the device, or of the
    whole process on a CPU. latency_ms: time that the network takes for a picture, where it was to be measured.
    problem: in words, why it could not be measured; empty when it could.
    """

    config: TrainConfig
    parameters: int = 0
    seconds_an_epoch: float = 0.0
    peak_memory_mb: float = 0.0
    latency_ms: float | None = None
    problem: str = ""


def estimate_extremes(
    space: Space, data: SegmentationData, split: Split, needs: Needs, times_network: bool = False
) -> list[Estimate]:
    """The smallest and the largest training of the space, each measured in a worker with the resources of a trial.

    times_network: as in `model.train.train`.
    """
    import ray

    measure: Any = ray.remote(num_cpus=needs.cpus, num_gpus=needs.gpus, max_calls=1, max_retries=0)(measure_training)
    shared = ray.put((data, split))
    estimates = []
    for config in extremes(space):
        try:
            estimates.append(ray.get(measure.remote(config, shared, needs, times_network)))
        except ray.exceptions.RayError as error:
            problem = f"its process died ({str(error).strip().splitlines()[0]})"
            estimates.append(Estimate(config=config, problem=problem))
    return estimates


def measure_training(
    config: TrainConfig, shared: tuple[SegmentationData, Split], needs: Needs, times_network: bool = False
) -> Estimate:
    """One training measured on one image of each part, and scaled up to all of them."""
    import torch

    from data.sampling import samples_per_epoch
    from data.windows import place
    from model.train import train

    data, split = shared
    torch.set_num_threads(needs.threads)
    device = needs.device
    # Of a picture without any class nothing can be learnt.
    telling = max(split.train, key=lambda index: int(data.statistics.class_pixels[index].sum()))
    little = Split(train=(telling,), validation=split.validation[:1])

    measured = replace(config, max_epochs=2, evaluate_every=1, freeze_epochs=0, collapse_epochs=3, epoch_pixels=0)

    def samples(part: "Pictures", asked: TrainConfig) -> int:
        samples = samples_per_epoch(part, asked.crop_size, asked.epoch_pixels)
        return ceil(samples / asked.batch_size) * asked.batch_size

    try:
        # Pictures that would lie on the device in a training lie there during the measurement, too.
        resident = place(data, split.train + split.validation, torch.device(device))
        # The first epoch warms up; the second is measured.
        first, second = train(measured, data, little, device=device, times_network=times_network)
        to_train = place(data, split.train, torch.device("cpu"))
        one = place(data, little.train, torch.device("cpu"))
    except Exception as error:  # noqa: BLE001 - whatever stops it is what the person wants to know
        return Estimate(config=config, problem=failure_reason(error))
    del resident
    judging = second.seconds - first.seconds - samples(one, measured) / second.images_per_second
    return Estimate(
        config=config,
        parameters=second.parameters,
        seconds_an_epoch=samples(to_train, config) / second.images_per_second
        + judging * len(split.validation) / config.evaluate_every,
        peak_memory_mb=second.peak_memory_mb,
        latency_ms=second.latency_ms,
    )


def describe_costs(model: CostModel, space: Space) -> list[str]:
    """What the trials so far say of the smallest and the largest training, a line each."""
    lines = []
    for name, config in zip(NAMES, extremes(space), strict=True):
        cost = model.predict(config)
        lines.append(
            f"{name} training, by the trials so far: {cost.seconds_an_epoch:.2g} s an epoch (within a factor of "
            f"{cost.seconds_within:.2f}), {cost.peak_memory_mb:.0f} MB ({cost.memory_within:.2f})"
        )
    return lines


def describe_estimates(estimates: Sequence[Estimate], limits: Limits, slots: int, devices: float) -> list[str]:
    """The estimates in words, a line each, and what the whole search would take under each of its limits.

    slots: how many trials run side by side. devices: how many each has (see `Limits.over`).
    """
    lines = []
    for name, one in zip(NAMES, estimates, strict=True):
        config = ", ".join(f"{field} {getattr(one.config, field)}" for field in SIZES)
        what = one.problem or (
            f"{one.parameters:,} parameters, {one.seconds_an_epoch:.2g} s an epoch, {one.peak_memory_mb:.0f} MB"
            + ("" if one.latency_ms is None else f", {costs_in_words([LATENCY], [one.latency_ms])}")
        )
        lines.append(f"{name} training ({config}): {what}")
    seconds = sorted(one.seconds_an_epoch for one in estimates if not one.problem)
    return lines + describe_limits(seconds, limits, slots, devices) if seconds else lines


def describe_limits(seconds: Sequence[float], limits: Limits, slots: int, devices: float) -> list[str]:
    """What a search would take that stops no trial early, a line for each of its limits.

    seconds: that an epoch takes, in the order of size. slots, devices: as in `describe_estimates`.
    """

    def times(rounds: float) -> str:
        return " to ".join(in_words(one * rounds) for one in (seconds[0], seconds[-1]))

    def trainings(available: float) -> str:
        """How many whole ones there are in so many seconds of training, of the largest and of the smallest."""
        counts = [available / one / limits.whole_training for one in (seconds[-1], seconds[0])]
        return " to ".join(f"{count:.0f}" if count >= 10 else f"{count:.1f}" for count in counts) + " whole trainings"

    lines = []
    side_by_side = f"{slots} at a time"
    if limits.trials is not None:
        folds = "" if limits.folds == 1 else f" in each of {limits.folds} folds"
        rounds = ceil(limits.trials * limits.folds / slots) * limits.max_epochs
        lines.append(
            f"{limits.trials} trials of {limits.max_epochs} epochs{folds}, {side_by_side}: {times(rounds)} if none is "
            "stopped early"
        )
    if limits.budget is not None and limits.budget_amount is not None:
        if limits.budget.unit == "seconds":
            available = limits.budget_amount / devices
            what = f"{in_words(available / slots)}, {trainings(available)}"
        else:
            what = f"{limits.budget_amount:.0f} epochs, {times(limits.budget_amount / slots)}"
        lines.append(f"budget {limits.budget.text}, {side_by_side}: {what}")
    if limits.seconds is not None:
        lines.append(f"max_time {limits.max_time}, {side_by_side}: {trainings(limits.seconds * slots)}")
    if limits.target is not None:
        lines.append(f"stop_at {limits.target.text}: may end it at any time")
    if limits.patience is not None:
        lines.append(f"patience {limits.patience}: ends it after {limits.patience} trials at the earliest")
    return lines
