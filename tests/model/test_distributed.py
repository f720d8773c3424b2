"""Two processes that train together make the steps of one, know the same, and end together."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.augmentation import Augmentation
from data.sampling import Sampling, draw_batches
from data.segmentation_data import SegmentationData, Split
from data.windows import place
from model import compiling
from model import epoch as stepping
from model import train as training
from model.config import TrainConfig
from model.distributed import ALONE, Ranks, come_to_meeting, meet, open_meeting, ranks_here
from model.judge import judge
from model.progress import EpochReport
from model.train import LAST, train
from model.unet import build_unet
from tests.model.trainings import CPU, QUICK, SHORT, assert_same_tensors, tensors_of, without_clock
from tests.toys import colored_squares

# All tests with the two processes in the same one of several test processes: they take a while to begin.
pytestmark = pytest.mark.xdist_group("distributed")

SECONDS_TO_ANSWER = 100.0  # of a machine that has much else to do
# The loss of a batch is the mean over its samples where nothing looks at several of them: every pixel counts, for none
# comes from outside the picture.
APART = replace(
    QUICK,
    width=2,
    max_epochs=3,
    crop_size=0,
    batch_size=3,
    normalisation="group",
    loss="weighted_ce",
    **dict.fromkeys(("rotation", "shift", "zoom", "shear", "elastic"), 0.0),
)


class Pair:
    """Two processes that have met; each does the same call, and what came of it is sent back."""

    def __init__(self) -> None:
        spawn = get_context("spawn")
        self._lines, processes = [], []
        for index in range(2):
            here, there = spawn.Pipe()
            processes.append(spawn.Process(target=serve, args=(there, index), daemon=True))
            self._lines.append(here)
        for process in processes:
            process.start()
        self._processes = processes
        self._lines[1].send(self._answer(self._lines[0]))

    def both(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What the function gives in each of them, or the error that it raises, in words."""
        for line in self._lines:
            line.send((function, arguments))
        return [self._answer(line) for line in self._lines]

    def survivor(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The same from the first one alone, where the second does not answer."""
        for line in self._lines:
            line.send((function, arguments))
        return self._answer(self._lines[0])

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    @staticmethod
    def _answer(line: Any) -> Any:
        assert line.poll(SECONDS_TO_ANSWER), "no answer"
        return line.recv()


def serve(line: "Connection[Any, Any]", index: int) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    if index == 0:
        place = open_meeting("127.0.0.1")
        line.send(place.port)
    else:
        place = come_to_meeting("127.0.0.1", line.recv())
    meet(place, Ranks(index=index, count=2), CPU, seconds=SECONDS_TO_ANSWER)
    while True:
        function, arguments = line.recv()
        try:
            answer = function(*arguments)
        except Exception as error:  # noqa: BLE001 - all of them are of interest
            answer = f"{type(error).__name__}: {error}"
        line.send(answer)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    both = Pair()
    yield both
    both.end()


def trained(config: TrainConfig, data: SegmentationData, split: Split, folder: Path) -> list[EpochReport]:
    return list(train(config, data, split, folder=folder, resume=True))


def assert_close(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first.keys() - {"random.host"}:  # a layer that drops nothing draws numbers for each sample all the same
        torch.testing.assert_close(
            first[name], second[name], atol=1e-5, rtol=0, msg=lambda words, name=name: f"{name}: {words}"
        )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch_size": 4, "accumulation": 2, "ema": 0.9, "gradient_clip": 0.5},
        {"normalisation": "none", "optimizer": "sgd", "class_weight": "inverse", "evaluate_every": 2},
    ],
    ids=lambda changes: "-".join(changes) or "uneven",
)
def test_they_make_the_steps_of_one(
    pair: Pair, squares: tuple[SegmentationData, Split], tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = replace(APART, **changes)
    alone = trained(config, *squares, tmp_path / "alone")
    first, second = pair.both(trained, config, *squares, tmp_path / "together")
    assert without_clock(first) == without_clock(second)
    assert {report.device for report in first} == {"2 x cpu"}
    assert [report.epoch for report in first] == [report.epoch for report in alone]
    for together, single in zip(first, alone, strict=True):
        assert together.train_loss == pytest.approx(single.train_loss, abs=1e-5)
        assert together.gradient_norm == pytest.approx(single.gradient_norm, abs=1e-4)
        assert together.val.auc_roc == pytest.approx(single.val.auc_roc, abs=1e-3)
    assert_close(tensors_of(tmp_path / "together" / LAST), tensors_of(tmp_path / "alone" / LAST))


def compiled(*arguments: Any) -> Any:
    """Trains with a network that is compiled to what computes it as it is."""
    with patch.object(compiling, "BACKEND", "eager"):
        return trained(*arguments)


def test_each_compiles_the_network_for_itself(
    pair: Pair, squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    trained(APART, *squares, tmp_path / "alone")
    first, second = pair.both(compiled, replace(APART, compiled=True), *squares, tmp_path / "together")
    assert without_clock(first) == without_clock(second)
    assert_close(tensors_of(tmp_path / "together" / LAST), tensors_of(tmp_path / "alone" / LAST))


def judged(task: str, count: int) -> Any:
    """What a fresh network is worth on so many pictures."""
    data = colored_squares(task, count=count)
    torch.manual_seed(0)
    network = build_unet(QUICK, channels=3, classes=data.masks.shape[1], label_mode=data.label_mode)
    pictures = place(data, tuple(range(count)), CPU)
    found = judge(network, pictures, data.label_mode, bfloat16=False, ranks=ranks_here())
    histograms = found.histograms.positives.numpy(), found.histograms.negatives.numpy()
    return found.as_mapping(data.class_names, data.names), *histograms, found.coarse_found.numpy()


@pytest.mark.parametrize(("task", "count"), [("multilabel", 5), ("multiclass", 1)])
def test_they_judge_as_one_does(pair: Pair, task: str, count: int) -> None:
    alone, *arrays = judged(task, count)
    for mapping, *others in pair.both(judged, task, count):
        assert mapping == alone
        for array, other in zip(arrays, others, strict=True):
            np.testing.assert_allclose(array, other, atol=1e-6)


def trained_until(
    config: TrainConfig, data: SegmentationData, split: Split, folder: Path, last: int
) -> list[EpochReport]:
    """Leaves the training after this epoch."""
    reports = []
    epochs = train(config, data, split, folder=folder)
    for report in epochs:
        reports.append(report)
        if report.epoch == last:
            break
    epochs.close()  # type: ignore[attr-defined]
    return reports


def test_a_training_that_was_left_goes_on_in_all(
    pair: Pair, squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    whole = pair.both(trained, SHORT, *squares, tmp_path / "whole")
    before = pair.both(trained_until, SHORT, *squares, tmp_path / "pieces", 2)
    after = pair.both(trained, SHORT, *squares, tmp_path / "pieces")
    for uninterrupted, begun, resumed in zip(whole, before, after, strict=True):
        assert without_clock(begun + resumed[1:]) == without_clock(uninterrupted)
    assert_same_tensors(tensors_of(tmp_path / "whole" / LAST), tensors_of(tmp_path / "pieces" / LAST))


def trained_until_killed(config: TrainConfig, data: SegmentationData, split: Split, folder: Path, steps: int) -> None:
    """Writes the state down after each step, and is killed before the step after so many."""
    taken = []
    take_step = stepping.take_step

    def killed_after(*arguments: Any) -> None:
        assert len(taken) < steps, "killed"
        take_step(*arguments)
        taken.append(1)

    with (
        patch.object(stepping, "take_step", killed_after),
        patch.object(stepping, "STEPS_BETWEEN_CHECKS", 1),
        patch.object(training, "SECONDS_BETWEEN_SAVES", 0.0),
    ):
        list(train(config, data, split, folder=folder))


def test_a_training_that_was_killed_goes_on_after_its_last_step_in_all(
    pair: Pair, squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    config = replace(SHORT, dropout=0.0)
    pair.both(trained, config, *squares, tmp_path / "whole")
    ends = pair.both(trained_until_killed, config, *squares, tmp_path / "pieces", 3)
    assert ends == ["AssertionError: killed"] * 2
    pair.both(trained, config, *squares, tmp_path / "pieces")
    assert_same_tensors(tensors_of(tmp_path / "whole" / LAST), tensors_of(tmp_path / "pieces" / LAST))


def with_losses(loss_on: Callable[..., Tensor], *arguments: Any) -> Any:
    """Trains with another way to come to a loss."""
    with patch.object(stepping, "loss_on", partial(loss_on, stepping.loss_on)):
        return trained(*arguments)


def not_finite_in_the_second(usual: Any, state: Any, *arguments: Any) -> Tensor:
    loss: Tensor = usual(state, *arguments)
    return loss * torch.nan if state.progress.epoch == 1 and ranks_here().index == 1 else loss


def test_what_is_no_number_in_one_ends_all_with_the_same_words(
    pair: Pair, squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    first, second = pair.both(with_losses, not_finite_in_the_second, APART, *squares, tmp_path)
    assert first == second
    assert "diverged" in first
    assert "first not finite: the loss (nan), in step 1 of epoch 2 (picture" in first


def too_large_at_once_for_the_second(usual: Any, state: Any, lesson: Any, images: Tensor, *others: Tensor) -> Tensor:
    if len(images) > 1 and ranks_here().index == 1:
        raise torch.OutOfMemoryError("CUDA out of memory")
    loss: Tensor = usual(state, lesson, images, *others)
    return loss


def test_one_that_finds_no_memory_computes_its_share_in_parts(
    pair: Pair, squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    trained(APART, *squares, tmp_path / "alone")
    first, second = pair.both(with_losses, too_large_at_once_for_the_second, APART, *squares, tmp_path / "together")
    assert (first[-1].batch_parts, second[-1].batch_parts) == (1, 2)
    assert_close(tensors_of(tmp_path / "together" / LAST), tensors_of(tmp_path / "alone" / LAST))


def test_a_batch_without_a_sample_for_each_is_refused(
    pair: Pair, squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    refusals = pair.both(trained, replace(APART, batch_size=1), *squares, tmp_path)
    assert refusals == ["InputError: batch_size 1 is less than one sample for each of 2 processes: raise it."] * 2


def added_up() -> tuple[list[float], list[float], float]:
    """Of a layer that saw a quarter of a batch in the first process, and the rest in the second: what comes of it."""
    index = ranks_here().index
    layer = nn.BatchNorm2d(2)
    layer.running_mean = torch.tensor([8.0, 4.0 * index])
    layer.weight.grad = torch.tensor([1.0, float(index)])
    loss = torch.tensor(1.0 + index)
    ranks_here().add_up(layer, loss, 0.25 + 0.5 * index)
    return layer.running_mean.tolist(), layer.weight.grad.tolist(), float(loss)


def test_gradients_and_losses_are_added_and_what_batches_were_like_is_averaged(pair: Pair) -> None:
    assert pair.both(added_up) == [([8.0, 3.0], [2.0, 1.0], 3.0)] * 2


@pytest.mark.parametrize(("total", "count"), [(8, 2), (7, 3), (2, 3), (0, 2), (5, 1)])
def test_shares_are_even_and_leave_nothing_out(total: int, count: int) -> None:
    things = list(range(total))
    shares = [things[Ranks(index=index, count=count).share(total)] for index in range(count)]
    assert [thing for share in shares for thing in share] == things
    assert {len(share) for share in shares} <= {total // count, total // count + 1}


@pytest.mark.parametrize("crop_size", [0, 16])
@pytest.mark.parametrize("strengths", [{}, {"flips": 0.5}, dict.fromkeys(("rotation", "shift", "noise", "gamma"), 1.0)])
def test_a_sample_of_a_share_is_the_one_of_the_whole_batch(crop_size: int, strengths: dict[str, float]) -> None:
    pictures = place(colored_squares("multilabel"), tuple(range(6)), CPU)
    sampling = Sampling(crop_size=crop_size, augmentation=Augmentation(**strengths), rare_crops=0.5)

    def drawn(share: slice) -> list[Tensor]:
        batches = draw_batches(pictures, [[0, 1, 2, 3, 4]] * 3, sampling, np.random.default_rng(0), skip=1, share=share)
        return [torch.cat([batch.images, batch.masks, batch.valid], dim=1) for batch in batches]

    whole, first, second = (drawn(Ranks(index=max(0, index), count=1 + (index >= 0)).share(5)) for index in (-1, 0, 1))
    for batch, *shares in zip(whole, first, second, strict=True):
        assert [len(share) for share in shares] == [2, 3]
        torch.testing.assert_close(batch, torch.cat(shares), atol=1e-3, rtol=0)


def test_a_process_on_its_own_is_alone() -> None:
    assert ranks_here() == ALONE
    assert ALONE.any(True)
    assert ALONE.gather(["a"]) == ["a"]


def dies_in_the_second(usual: Any, state: Any, *arguments: Any) -> Tensor:
    if state.progress.epoch == 1 and ranks_here().index == 1:
        os._exit(1)
    loss: Tensor = usual(state, *arguments)
    return loss


def test_when_one_dies_the_other_says_so(  # the last test: the pair is none any more
    pair: Pair, squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    words = pair.survivor(with_losses, dies_in_the_second, APART, *squares, tmp_path)
    assert words.startswith("RankLostError: another process of this training is gone, or has not come (")
