"""The curves of one training for TensorBoard: a file of events in the trial's folder, one event for each epoch."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Curves:
    """Draws what epochs report, point by point.

    tensorboardX's own writer makes an event of each number and hands it to a thread, for which every trial would wait.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        self._events = EventsWriter(str(folder / "events"))
        self._warnings = ""

    def draw(self, numbers: Mapping[str, Any]) -> None:
        """Adds one epoch's numbers, and its warnings as text, where they are not those of the epoch before."""
        from tensorboardX.proto.event_pb2 import Event
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
        self._events.write_event(Event(wall_time=time.time(), step=numbers["epoch"], summary=Summary(value=points)))
        self._events.flush()

    def close(self) -> None:
        """Lets go of the file."""
        self._events.close()
