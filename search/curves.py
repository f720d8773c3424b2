"""What TensorBoard shows of one training: its curves, settings and a sample, in a file of events in its folder."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.segmentation_data import UInt8

COMPARED = ("val_dice", "val_iou", "train_loss", "seconds")  # what stands beside the hyperparameters


class Curves:
    """Draws what epochs report, point by point.

    tensorboardX's own writer makes an event of each number and hands it to a thread, for which every trial would wait.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """settings: the hyperparameters, for TensorBoard's table of them beside the scores."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.summary import hparams

        self._events = EventsWriter(str(folder / "events"))
        self._warnings = ""
        experiment, begin, self._end = hparams(dict(settings), dict.fromkeys(COMPARED))
        for summary in (experiment, begin):
            self._write(0, summary)

    def draw(self, numbers: Mapping[str, Any]) -> None:
        """Adds one epoch's numbers, and its warnings as text, where they are not those of the epoch before."""
        from tensorboardX.proto.summary_pb2 import Summary
        from tensorboardX.summary import text

        points = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in numbers.items()
            if isinstance(value, int | float) and name != "epoch"
        ]
        if numbers["warnings"] != self._warnings:
            self._warnings = numbers["warnings"]
            points += text("warnings", self._warnings or "none any more").value
        self._write(numbers["epoch"], Summary(value=points))

    def show(self, name: str, picture: UInt8, epoch: int) -> None:
        """Adds a picture, RGB (H, W, 3)."""
        from tensorboardX.summary import image

        self._write(epoch, image(name, picture, dataformats="HWC"))

    def close(self) -> None:
        """Lets go of the file."""
        self._write(0, self._end)
        self._events.close()

    def _write(self, step: int, summary: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._events.flush()
