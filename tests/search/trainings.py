"""Trainings for searches under test: the real one on tiny data, which leave a trace, or end as it is written here."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import torch

from model.diagnose import TrainingFailure
from model.train import train

TRACE = "trace.txt"  # a line for each epoch that was trained, in the trial's folder
NODE = "node.txt"  # the machine that the trial ran on
QUICK = (
    "depth=2",
    "width=2",
    "batch_size=4",
    "crop_size=16",
    "epoch_pixels=0",
    "precision=float32",
    "collapse_epochs=99",
)


def traced(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> Iterator[Any]:
    """The real training, which writes down each epoch that it trains."""
    (folder / NODE).write_text(ray.get_runtime_context().get_node_id())
    trained_before = (folder / "last.safetensors").exists()
    for report in train(config, data, split, folder=folder, **more):
        if not trained_before:
            with (folder / TRACE).open("a") as trace:
                trace.write(f"{report.epoch}\n")
        trained_before = False
        yield report


def troubled(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> Iterator[Any]:
    """Each of the first trials ends in another way, in its second epoch."""
    assert not data.images.flags.writeable, "the data is a copy, not the object store's"
    assert torch.get_num_threads() == 1
    for report in traced(config, data, split, folder=folder, **more):
        if report.epoch == 2:
            _trouble(folder)
        yield report


def _trouble(folder: Path) -> None:
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
    """Never comes to the end of its third epoch."""
    for report in traced(config, data, split, folder=folder, **more):
        if report.epoch == 3:
            time.sleep(1000)
        yield report
