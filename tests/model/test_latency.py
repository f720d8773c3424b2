"""The time that a network takes for a picture: what is timed, how often, and what becomes of it in a training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data.segmentation_data import MULTILABEL, SegmentationData, Split
from data.windows import place
from model import latency as timing
from model import train as training
from model.latency import REPEATS, measure_latency
from model.train import train
from tests.model.trainings import SHORT
from tests.toys import colored_squares


class Clock:
    """A clock that only moves by what the network does."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Slow(nn.Module):
    """Takes so many seconds for each thing that it is shown, the last one for all others."""

    def __init__(self, clock: Clock, seconds: list[float]) -> None:
        super().__init__()
        self.clock, self.seconds, self.shown = clock, seconds, list[tuple[int, ...]]()

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(tuple(images.shape))
        self.clock.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        return images[:, :1]


def milliseconds(monkeypatch: pytest.MonkeyPatch, seconds: list[float], tile: int) -> tuple[float, list[Any]]:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    network = Slow(clock, seconds)
    pictures = place(colored_squares("binary", side=256), (3, 4), torch.device("cpu"))
    return measure_latency(network, pictures, MULTILABEL, bfloat16=False, tile=tile), network.shown


def test_it_is_the_shortest_look_at_one_whole_picture_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert REPEATS == 7
    found, shown = milliseconds(monkeypatch, [0.1, 0.3, 0.5, 0.9, 0.25, 7.0, 0.4, 0.35], tile=1024)
    assert found == pytest.approx(250.0)
    assert shown == [(1, 3, 256, 256)] * (1 + REPEATS)


def test_a_picture_that_is_judged_by_tiles_is_timed_by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    found, shown = milliseconds(monkeypatch, [0.1], tile=128)
    assert set(shown) == {(1, 3, 128, 128)}
    assert found == pytest.approx(100.0 * len(shown) / (1 + REPEATS))


def test_a_training_times_its_network_once_and_remembers(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def measure(*_: Any, tile: int, **_more: Any) -> float:
        asked.append(tile)
        return 12.5

    monkeypatch.setattr(training, "measure_latency", measure)
    config = replace(SHORT, max_epochs=3)
    first = next(train(config, *squares, folder=tmp_path, times_network=True))
    resumed = list(train(config, *squares, folder=tmp_path, resume=True, times_network=True))
    assert [report.flat()["latency_ms"] for report in (first, *resumed)] == [12.5] * 4
    assert asked == [1024]


def test_a_training_that_is_not_asked_says_nothing_of_it(squares: tuple[SegmentationData, Split]) -> None:
    plain, timed = (next(train(SHORT, *squares, times_network=times)) for times in (False, True))
    assert "latency_ms" not in plain.flat()
    assert timed.flat()["latency_ms"] > 0
    assert timed.val == plain.val
