"""Trainings for searches under test: they learn nothing, leave a trace, and end as it is written here.

Workers load this file before they know what to do; what takes seconds to load is for those that do need it.
"""

import errno
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from model.progress import EpochReport

TRACE = "trace.txt"  # a line for each epoch that was trained, in the trial's folder
NODE = "node.txt"  # the machine that the trial ran on
ASLEEP = "asleep"  # lies in the folder of a trial that does nothing any more
QUICK = (
    "depth=2",
    "width=2",
    "batch_size=4",
    "crop_size=16",
    "epoch_pixels=0",
    "precision=float32",
    "collapse_epochs=99",
)


def traced(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> "Iterator[EpochReport]":
    """Learns nothing, writes down each epoch, keeps a network as it begins, and goes on from its trace."""
    (folder / NODE).write_text(ray.get_runtime_context().get_node_id())
    trace = folder / TRACE
    before = len(trace.read_text().split()) if trace.exists() else 0
    for epoch in range(max(1, before), config.max_epochs + 1):
        if epoch > before:
            keep_model(config, data, folder, {})
            with trace.open("a") as file:
                file.write(f"{epoch}\n")
        yield epoch_report(epoch, (0.5, 0.5))


def traced_with_a_state(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> Iterator[Any]:
    """The same, and leaves a state, as a training does that can go on."""
    for report in traced(config, data, split, folder=folder, **more):
        (folder / "last.safetensors").touch()
        yield report


def troubled(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> Iterator[Any]:
    """Each of the first trials ends in another way, in its second epoch."""
    import torch

    assert not data.images.flags.writeable, "the data is a copy, not the object store's"
    assert torch.get_num_threads() == 1
    for report in traced(config, data, split, folder=folder, **more):
        if report.epoch == 2:
            _trouble(folder)
        yield report


def _trouble(folder: Path) -> None:
    import torch

    from model.diagnose import TrainingFailure

    match folder.name:
        case "t0001":
            raise TrainingFailure("collapsed", "predicted nothing")
        case "t0002":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB")
        case "t0003":
            torch.empty(2**60)
        case "t0004":
            raise ValueError("what nobody thought of\nand more about it")
        case "t0005" if not (folder / "died").exists():
            (folder / "died").touch()
            os._exit(1)
        case "t0006":
            os._exit(1)


def endless(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> Iterator[Any]:
    """Never comes to the end of its third epoch, and says so."""
    for report in traced(config, data, split, folder=folder, **more):
        if report.epoch == 3:
            (folder / ASLEEP).touch()
            time.sleep(1000)
        yield report


# val_dice of two classes, for each epoch of each fold; None where the class is not there.
CURVES: dict[str, list[tuple[float | None, float | None]]] = {
    "fold-1": [(0.2, 0.2), (0.6, 0.6), (0.5, 0.5)],
    "fold-2": [(0.3, None), (0.4, None), (0.5, None)],
    "fold-3": [(0.9, 0.7), (0.8, 0.6), (0.7, 0.5)],
}


def staged(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> "Iterator[EpochReport]":
    """A fold that learns nothing and reports what is written above, going on from its trace."""
    trace = folder / TRACE
    before = len(trace.read_text().split()) if trace.exists() else 0
    for epoch, dice in enumerate(CURVES[folder.name], start=1):
        if epoch < before:
            continue
        if epoch > before:
            keep_model(config, data, folder, {"fold": int(folder.name[-1]), "images": len(split.train)})
            with trace.open("a") as file:
                file.write(f"{epoch}\n")
        yield epoch_report(epoch, dice)


# val_dice of each trial in all its epochs, its parameters, and the milliseconds that its network takes.
WEIGHED = {"t0000": (0.9, 100, 5.0), "t0001": (0.5, 200, 9.0), "t0002": (0.3, 10, 7.0), "t0003": (0.95, 150, 6.0)}


def weighed(config: Any, data: Any, split: Any, *, folder: Path, times_network: bool, **_: Any) -> "Iterator[Any]":
    """Learns nothing and reports what is written above, the latency where it was asked for, going on from its trace."""
    dice, parameters, latency = WEIGHED[folder.name]
    told = {"parameters": parameters, "latency_ms": latency if times_network else None}
    for report in traced(config, data, split, folder=folder):
        if folder.name == "t0001" and report.epoch == 2:
            raise ValueError("what nobody thought of")
        yield replace(report, val=replace(report.val, dice=dice), **told)


def seldom_judged(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> "Iterator[EpochReport]":
    """A fold that learns nothing, and is judged after every `evaluate_every`th epoch and the last.

    The second trial is worse than the first, begins when that has come to the end of a fold, and goes no further than
    to where it is judged first.
    """
    trials = folder.parents[1]
    dice, first = (0.9, True) if folder.parent.name == "t0000" else (0.8, False)
    while not first and not (trials / "t0000/at_the_end").exists():
        time.sleep(0.05)
    keep_model(config, data, folder, {})
    for epoch in range(1, config.max_epochs + 1):
        if epoch == config.max_epochs:
            (trials / "t0000/at_the_end").touch()
        if epoch % config.evaluate_every == 0 or epoch == config.max_epochs:
            yield epoch_report(epoch, (dice, dice))
            if not first:
                _stand_still()


# val_dice of each trial, in all its epochs; all others have less.
STEADY = {"t0000": 0.3, "t0001": 0.5, "t0002": 0.9, "t0003": 0.6, "t0004": 0.4, "t0005": 0.2}
PROCESSES = "processes.txt"  # a line for each start of a trial, in its folder


def steady(config: Any, *_: Any, folder: Path, **_more: Any) -> "Iterator[EpochReport]":
    """Learns nothing and reports what is written above, going on from its trace."""
    dice = STEADY.get(folder.name, 0.1)
    with (folder / PROCESSES).open("a") as file:
        file.write(f"{os.getpid()}\n")
    trace = folder / TRACE
    before = len(trace.read_text().split()) if trace.exists() else 0
    for epoch in range(max(1, before), config.max_epochs + 1):
        if epoch > before:
            with trace.open("a") as file:
                file.write(f"{epoch}\n")
        yield epoch_report(epoch, (dice, dice))


def steady_until_the_third_trial(*given: Any, folder: Path, **more: Any) -> "Iterator[EpochReport]":
    """The same, but the third trial never comes to the end of its second epoch."""
    for report in steady(*given, folder=folder, **more):
        if (folder.name, report.epoch) == ("t0002", 2):
            _stand_still()
        yield report


def staged_with_trouble(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> "Iterator[EpochReport]":
    """The same, but a fold of each trial but the first ends in another way."""
    from model.diagnose import TrainingFailure

    for report in staged(config, data, split, folder=folder, **more):
        yield report
        match folder.parent.name, folder.name, report.epoch:
            case "t0001", "fold-2", 2 if not (folder / "died").exists():
                (folder / "died").touch()
                os._exit(1)
            case "t0002", "fold-3", 1:
                raise TrainingFailure("collapsed", "predicted nothing")


def staged_but_endless(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> "Iterator[EpochReport]":
    """The same, but the last fold never comes to its second epoch."""
    for report in staged(config, data, split, folder=folder, **more):
        yield report
        if folder.name == "fold-3":
            _stand_still()


def falling(config: Any, *_: Any, folder: Path, **_more: Any) -> "Iterator[EpochReport]":
    """Learns nothing: each trial is worse than the one before it, in every fold, and all its epochs are alike."""
    trial, fold = (folder.parent.name, int(folder.name[-1])) if folder.name.startswith("fold-") else (folder.name, 0)
    dice = 0.9 - (0.1 + 0.01 * fold) * int(trial[1:])
    for epoch in range(1, config.max_epochs + 1):
        yield epoch_report(epoch, (dice, dice))


def beset(config: Any, *_: Any, **_more: Any) -> "Iterator[EpochReport]":
    """Learns nothing, and most of its space is out of bounds, the defaults too; see `is_sound`.

    Where it comes through, it is the better the closer the learning rate is to 10^-2.5.
    """
    import torch

    if config.batch_size > 16:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB")
    if config.dropout < 0.3:
        raise ValueError("what nobody thought of")
    dice = max(0.0, 1 - ((math.log10(config.learning_rate) + 2.5) / 3) ** 2)
    yield epoch_report(1, (dice, dice) if is_sound(config) else (math.nan, math.nan))


def is_sound(config: Any) -> bool:
    """Whether `beset` comes through: else memory does not suffice, it breaks, or nothing is a number."""
    return bool(config.batch_size <= 16 and config.dropout >= 0.3 and config.learning_rate <= 3e-2)


def keep_model(config: Any, data: Any, folder: Path, scores: dict[str, Any]) -> None:
    """Writes down a network with fresh weights as the best of a training."""
    from model.checkpoint import ModelCard, save_model
    from model.train import BEST

    card = ModelCard.of(config, data, thresholds=(0.5,) * len(data.class_names))
    save_model(folder / BEST, card.build(), card, scores)


def _stand_still() -> None:
    """Does nothing, until it is cancelled."""
    while True:
        time.sleep(0.05)


def epoch_report(epoch: int, dice: tuple[float | None, float | None]) -> "EpochReport":
    """The report of an epoch with this Dice of two classes; all other metrics are their mean."""
    from model.metrics import Scores
    from model.progress import EpochReport

    found = [value for value in dice if value is not None]
    mean = sum(found) / len(found) if found else 0.0
    names = [declared.name for declared in fields(Scores) if declared.name != "class_dice"]
    return EpochReport(
        epoch=epoch,
        train_loss=1.0,
        val=Scores(**dict.fromkeys(names, mean), class_dice=tuple(math.nan if one is None else one for one in dice)),
        class_names=("red", "bright"),
        thresholds=(epoch / 10, epoch / 10),
        seconds=float(epoch),
        images_per_second=9.0,
        learning_rate=0.1,
        gradient_norm=1.0,
        peak_memory_mb=10.0 * epoch,
        parameters=7,
        gflops_per_megapixel=0.5,
        batch_parts=epoch,
        warnings=(f"loss_flat: for {epoch} epochs; raise learning_rate", f"odd_{'ab'[epoch % 2]}: so; do"),
        device="cpu",
    )


def faulty(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> "Iterator[EpochReport]":
    """Each of the first trials meets with another fault in its second epoch, once."""
    from search.memory_guard import REASON_FILE

    for report in traced(config, data, split, folder=folder, **more):
        if report.epoch == 2 and not (folder / "met").exists():
            (folder / "met").touch()
            match folder.name:
                case "t0001":
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                case "t0002":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "t0003":
                    (folder / REASON_FILE).write_text("its machine ran low on memory while it held 9 GiB")
                    os._exit(1)
        yield report


def hanging(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> "Iterator[EpochReport]":
    """Is stopped in its second epoch, once, and hears nothing any more."""
    for report in traced(config, data, split, folder=folder, **more):
        if report.epoch == 2 and not (folder / "met").exists():
            (folder / "met").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        yield report


def mortal(*_: Any, **_more: Any) -> "Iterator[EpochReport]":
    """Dies before its first epoch."""
    os._exit(1)
    yield
