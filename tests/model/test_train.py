"""The training: it learns, ends with a reason, keeps its best, and goes on as if it had never been interrupted."""

import json
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import cycle, pairwise
from math import cos, isnan, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data import windows
from data.input_error import InputError
from data.segmentation_data import MULTILABEL, SegmentationData, Split
from data.windows import place
from model import epoch as stepping
from model import train as training
from model.checkpoint import SCORES, WEIGHTS, load_model, load_tensors, save_tensors
from model.config import LOSSES, TrainConfig
from model.diagnose import TrainingFailure
from model.histograms import BINS, ProbabilityHistograms
from model.judge import Judgement, judge
from model.losses import LOSSES as LOSS_FUNCTIONS
from model.losses import Target
from model.progress import EpochReport
from model.start import set_pixel_statistics
from model.train import (
    BEST,
    LAST,
    train,
)
from model.unet import UNet
from tests.toys import TASKS, colored_squares, data_of, put_into_files, split_in_two

CPU = torch.device("cpu")
# Learns the toy tasks in half a second.
QUICK = TrainConfig(
    depth=2,
    width=4,
    learning_rate=0.02,
    batch_size=4,
    max_epochs=10,
    crop_size=16,
    epoch_pixels=0,
    augmentation=0.3,
    precision="float32",
)
# Runs four epochs of two steps, with all that a training has: dropout, augmentation, class weights.
SHORT = replace(QUICK, width=2, max_epochs=4, dropout=0.2, class_weight="square_root", crop_size=0, batch_size=2)
# What a resumed training may show otherwise: it has another clock and another process.
CLOCK = ("seconds", "images_per_second", "peak_memory_mb")


@pytest.fixture
def squares() -> tuple[SegmentationData, Split]:
    data = colored_squares("multilabel", side=16)
    return data, split_in_two(data)


def without_clock(reports: list[EpochReport]) -> list[dict[str, Any]]:
    return [{name: value for name, value in asdict(report).items() if name not in CLOCK} for report in reports]


def tensors_of(path: Path) -> dict[str, Tensor]:
    return load_tensors(path)[0]


def assert_same_tensors(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


# Every loss with every task is for the contract (test_contract.py); here each comes once.
@pytest.mark.parametrize(("task", "loss"), list(zip(cycle(TASKS), LOSSES, strict=False)))
def test_a_training_learns(task: str, loss: str) -> None:
    data = colored_squares(task, count=10)
    reports = list(train(replace(QUICK, loss=loss), data, split_in_two(data)))
    assert max(report.val.dice for report in reports) > 0.9
    assert reports[-1].train_loss < reports[0].train_loss / 2


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_training_learns_from_grey_pictures_at_any_precision(precision: str) -> None:
    data = colored_squares("binary", count=10)
    grey = data_of(data.images[..., :1], data.masks)
    reports = list(train(replace(QUICK, precision=precision), grey, split_in_two(grey)))
    assert max(report.val.dice for report in reports) > 0.9


def test_every_epoch_is_reported(squares: tuple[SegmentationData, Split]) -> None:
    reports = list(train(SHORT, *squares))
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert all(later.seconds > earlier.seconds > 0 for earlier, later in pairwise(reports))
    last = reports[-1]
    # the last of eight steps, seen from its middle, on half a cosine after a rise over a twentieth
    share = (1 + cos(pi * (7.5 / 8 - 0.05) / 0.95)) / 2
    assert last.learning_rate == pytest.approx(SHORT.learning_rate * share)
    assert last.gradient_norm > 0
    assert (last.batch_parts, last.warnings) == (1, ())
    assert last.images_per_second > 0
    assert last.peak_memory_mb > 0
    assert last.parameters == sum(p.numel() for p in UNet(channels=3, outputs=2, depth=2, width=2).parameters())
    assert last.gflops_per_megapixel > 0
    assert (last.device, last.class_names) == ("cpu", ("class0", "class1"))
    assert len(last.thresholds) == 2


def test_a_report_lies_flat_under_the_names_of_the_leaderboard(squares: tuple[SegmentationData, Split]) -> None:
    report = next(iter(train(SHORT, *squares)))
    flat = report.flat()
    measured = "dice iou f1_macro f1_micro precision_macro precision_micro recall_macro recall_micro accuracy"
    assert {f"val_{name}" for name in measured.split()} < flat.keys()
    assert {"val_dice_additive", "val_dice_class0", "val_dice_class1", "threshold", "epoch", "seconds"} < flat.keys()
    assert all(isinstance(value, int | float | str) for value in flat.values())
    assert flat["val_dice"] == report.val.dice
    assert flat["val_dice_class1"] == report.val.class_dice[1]
    # not under the name of the setting, which stands in the same row
    assert flat["current_learning_rate"] == report.learning_rate
    assert not flat.keys() & {"learning_rate", "class_names", "val_class_dice", "val"}


def test_the_seed_decides_on_everything(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        list(train(replace(SHORT, seed=seed), *squares, folder=tmp_path / name))
    first, again, other = (tensors_of(tmp_path / name / LAST) for name in "abc")
    assert_same_tensors(first, again)
    assert not torch.equal(first["network.passes.0.head.weight"], other["network.passes.0.head.weight"])


def test_a_training_leaves_the_random_numbers_of_others_alone(squares: tuple[SegmentationData, Split]) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3).tolist(), np.random.rand(3).tolist()
    torch.manual_seed(5)
    np.random.seed(5)
    list(train(SHORT, *squares))
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist()) == expected


# What a state on disk must hold besides the weights.
RESUMED: dict[str, dict[str, Any]] = {
    "moments": {"upsampling": "bilinear"},
    "average": {"ema": 0.9, "gradient_clip": 0.5},
    "momentum": {"optimizer": "sgd", "schedule": "one_cycle"},
    "adam": {"optimizer": "adam", "schedule": "constant", "passes": 2},
    "blocks": {"block": "residual", "dropout_place": "blocks", "accumulation": 2, "deterministic": True},
}


@pytest.mark.parametrize(
    ("stops", "kind"),
    [((1,), "moments"), ((1, 2, 3), "moments"), *(((2,), kind) for kind in RESUMED if kind != "moments")],
    ids=str,
)
def test_a_resumed_training_goes_the_way_of_an_uninterrupted_one(
    squares: tuple[SegmentationData, Split], tmp_path: Path, stops: tuple[int, ...], kind: str
) -> None:
    config = replace(SHORT, **RESUMED[kind])
    whole = list(train(config, *squares, folder=tmp_path / "whole"))
    pieces: list[EpochReport] = []
    for stop in stops:
        epochs = train(config, *squares, folder=tmp_path / "pieces", resume=True)
        for report in epochs:
            pieces.append(report)
            if report.epoch == stop:
                break
        epochs.close()  # type: ignore[attr-defined]
    pieces += train(config, *squares, folder=tmp_path / "pieces", resume=True)
    # Each start reports the epoch again that it goes on from.
    expected = sorted([*range(1, config.max_epochs + 1), *stops])
    assert [report.epoch for report in pieces] == expected
    assert without_clock(pieces) == [without_clock(whole)[epoch - 1] for epoch in expected]
    assert_same_tensors(tensors_of(tmp_path / "whole" / LAST), tensors_of(tmp_path / "pieces" / LAST))
    best = Path(BEST) / WEIGHTS
    assert_same_tensors(tensors_of(tmp_path / "whole" / best), tensors_of(tmp_path / "pieces" / best))
    seconds = [report.seconds for report in pieces]
    assert seconds == sorted(seconds)


class Killed(BaseException):
    """What ends a process in the middle of its work."""


@pytest.mark.parametrize(
    ("step", "kind"), [(1, "moments"), (8, "moments"), *((5, kind) for kind in RESUMED if kind != "moments")]
)
def test_a_training_goes_on_after_the_step_at_which_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, kind: str
) -> None:
    data = colored_squares("multilabel", side=16)
    split = split_in_two(data)
    # Four steps an epoch, and none of them is lost.
    config = replace(SHORT, max_epochs=3, batch_size=1, **(RESUMED[kind] | {"accumulation": 1}))
    monkeypatch.setattr(stepping, "STEPS_BETWEEN_CHECKS", 1)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    whole = list(train(config, data, split, folder=tmp_path / "whole"))
    taken = []
    take_step = stepping.take_step

    def killed_after(*arguments: Any) -> None:
        if len(taken) == step:
            raise Killed
        take_step(*arguments)
        taken.append(step)

    pieces: list[EpochReport] = []
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(stepping, "take_step", killed_after)
        pieces += train(config, data, split, folder=tmp_path / "pieces")

    def counted(*arguments: Any) -> None:
        taken.append(-1)
        take_step(*arguments)

    monkeypatch.setattr(stepping, "take_step", counted)
    resumed = list(train(config, data, split, folder=tmp_path / "pieces", resume=True))
    assert without_clock(resumed)[-3:] == without_clock(whole)[-len(resumed[-3:]) :]
    assert_same_tensors(tensors_of(tmp_path / "whole" / LAST), tensors_of(tmp_path / "pieces" / LAST))
    # The step before the kill was written down when the one after it began, but the first of an epoch comes again.
    assert taken.count(-1) == 12 - step


def test_an_epoch_that_is_not_judged_is_trained_all_the_same(
    squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    each = list(train(replace(SHORT, max_epochs=5), *squares, folder=tmp_path / "each"))
    every_other = list(train(replace(SHORT, max_epochs=5, evaluate_every=2), *squares, folder=tmp_path / "other"))
    assert [report.epoch for report in every_other] == [2, 4, 5]
    assert [report.val for report in every_other] == [each[epoch - 1].val for epoch in (2, 4, 5)]
    first, second = (
        {name: tensor for name, tensor in tensors_of(tmp_path / folder / LAST).items() if "network." in name}
        for folder in ("each", "other")
    )
    assert_same_tensors(first, second)


def test_a_diverged_training_goes_on_from_its_last_good_state_at_a_third_of_the_learning_rate(tmp_path: Path) -> None:
    data = colored_squares("binary")
    split = split_in_two(data)
    config = replace(DIVERGING, retries=8, max_epochs=3)
    reports = list(train(config, data, split, folder=tmp_path))
    assert reports[-1].epoch == 3
    [note] = [warning for warning in reports[-1].warnings if warning.startswith("diverged: ")][-1:]
    assert "first not finite: the " in note
    assert "at a third of the learning rate" in note
    # Weights that are no numbers are never kept.
    for path in tmp_path.rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for name, tensor in tensors_of(path).items() if "network" in name)


def test_what_a_retry_has_changed_outlives_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = colored_squares("binary", side=16)
    split = split_in_two(data)
    config = replace(SHORT, retries=1, max_epochs=4)
    calls = []

    def fails_once(state: Any, lesson: Any, **named: Any) -> float:
        calls.append(state.progress.epoch)
        if len(calls) == 2:
            time.sleep(0.3)
            raise stepping.NotFinite(1)
        return stepping.train_epoch(state, lesson, **named)

    monkeypatch.setattr(training, "train_epoch", fails_once)
    whole = list(train(config, data, split, folder=tmp_path / "whole"))
    calls.clear()
    epochs = train(config, data, split, folder=tmp_path / "pieces")
    assert [next(epochs).epoch, next(epochs).epoch] == [1, 2]
    resumed = list(train(config, data, split, folder=tmp_path / "pieces", resume=True))
    assert without_clock(resumed) == without_clock(whole)[1:]
    assert_same_tensors(tensors_of(tmp_path / "whole" / LAST), tensors_of(tmp_path / "pieces" / LAST))
    steady = list(train(replace(config, retries=0), data, split))
    assert whole[0].learning_rate == steady[0].learning_rate
    assert whole[2].learning_rate == pytest.approx(steady[2].learning_rate / 3)
    assert [len(report.warnings) for report in whole[:2]] == [0, 1]
    # What was in vain took its time, too.
    assert whole[1].seconds > whole[0].seconds + 0.3


def short_of_memory(monkeypatch: pytest.MonkeyPatch, samples: int) -> list[int]:
    """A device whose memory suffices for so many samples at once; gives the sizes of what was computed on it."""
    computed: list[int] = []
    loss_on = stepping.loss_on

    def limited(state: Any, lesson: Any, images: Tensor, *rest: Tensor) -> Tensor:
        if len(images) > samples:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        computed.append(len(images))
        return loss_on(state, lesson, images, *rest)

    monkeypatch.setattr(stepping, "loss_on", limited)
    return computed


def test_a_batch_for_which_memory_does_not_suffice_is_computed_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = colored_squares("binary", count=10, side=16)
    split = split_in_two(data)
    config = replace(SHORT, batch_size=8, max_epochs=2, dropout=0.0, normalisation="none", loss="weighted_ce")
    unlimited = list(train(config, data, split))
    computed = short_of_memory(monkeypatch, samples=3)
    reports = list(train(config, data, split, folder=tmp_path))
    assert set(computed) == {2}
    assert [report.batch_parts for report in reports] == [4, 4]
    [warning] = reports[-1].warnings
    assert warning.startswith("batch_split: memory did not suffice for 4 samples at once, so each batch of 8 is")
    # Where no layer looks at the whole batch, nothing else changes.
    assert reports[-1].train_loss == pytest.approx(unlimited[-1].train_loss, rel=1e-3)
    # A resumed training does not try its luck again.
    computed.clear()
    resumed = list(train(replace(config), data, split, folder=tmp_path, resume=True))
    assert resumed[-1].batch_parts == 4


def test_a_batch_that_memory_did_not_suffice_for_is_let_go_before_the_next_try(
    squares: tuple[SegmentationData, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[weakref.ref[Tensor]] = []
    loss_on = stepping.loss_on

    def watched(state: Any, lesson: Any, images: Tensor, *rest: Tensor) -> Tensor:
        assert [graph() for graph in graphs] == [None] * len(graphs)
        loss = loss_on(state, lesson, images, *rest)
        if len(images) > 1:
            loss.register_hook(fail)
            graphs.append(weakref.ref(loss))
        return loss

    def fail(_gradient: Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(stepping, "loss_on", watched)
    assert next(iter(train(SHORT, *squares))).batch_parts == 2
    assert len(graphs) == 1


@pytest.mark.parametrize("place", ["clip_gradients", "judge", "take_snapshot"])
def test_memory_that_does_not_suffice_anywhere_else_ends_a_training_in_words(
    squares: tuple[SegmentationData, Split], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*_arguments: Any, **_named: Any) -> None:
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(stepping if place == "clip_gradients" else training, place, full)
    with pytest.raises(TrainingFailure, match=r"memory did not suffice \(Unable to allocate 3 GiB\)") as failure:
        next(iter(train(SHORT, *squares)))
    assert failure.value.status == "out_of_memory"


def test_weights_that_are_not_finite_are_never_written_down(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def poisoned(logits: Tensor, *_others: Any) -> Tensor:
        steps.append(1)
        loss = logits.square().mean()
        if len(steps) == 2:  # the loss is finite, its gradient is not
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss

    monkeypatch.setitem(LOSS_FUNCTIONS, "dice_ce", poisoned)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    with pytest.raises(TrainingFailure, match="diverged"):
        list(train(SHORT, *squares, folder=tmp_path))
    for path in tmp_path.rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in tensors_of(path).values() if tensor.is_floating_point())


def test_what_happens_in_an_epoch_that_is_not_judged_is_told_with_the_next_that_is(
    squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    config = replace(SHORT, max_epochs=5)
    each = list(train(config, *squares))
    rarely = list(train(replace(config, evaluate_every=3), *squares, folder=tmp_path))
    assert rarely[0].train_loss == pytest.approx(np.mean([report.train_loss for report in each[:3]]))
    assert rarely[1].train_loss == pytest.approx(np.mean([report.train_loss for report in each[3:]]))
    assert rarely[1].gradient_norm == pytest.approx(np.mean([report.gradient_norm for report in each[3:]]))


def test_a_training_for_which_no_memory_suffices_ends_and_says_so(
    squares: tuple[SegmentationData, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of_memory(monkeypatch, samples=0)
    with pytest.raises(TrainingFailure, match=r"memory did not suffice for one sample of 16 x 16 pixels") as failure:
        next(iter(train(SHORT, *squares)))
    assert failure.value.status == "out_of_memory"


def test_other_errors_than_of_memory_are_not_taken_for_one(
    squares: tuple[SegmentationData, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(stepping, "loss_on", broken)
    with pytest.raises(RuntimeError, match="something else"):
        next(iter(train(SHORT, *squares)))


def test_a_batch_in_parts_has_the_gradient_of_the_whole(squares: tuple[SegmentationData, Split]) -> None:
    config = replace(SHORT, batch_size=4, dropout=0.0, normalisation="none", loss="weighted_ce", augmentation=0.0)
    whole, parts = (list(train(replace(config, accumulation=count), *squares)) for count in (1, 4))
    assert [report.train_loss for report in parts] == pytest.approx([report.train_loss for report in whole], rel=1e-3)
    assert (whole[0].batch_parts, parts[0].batch_parts) == (1, 4)


def test_deterministic_trainings_do_not_depend_on_the_threads(
    squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            list(train(replace(SHORT, deterministic=True), *squares, folder=tmp_path / str(count)))
            assert torch.get_num_threads() == count
            assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(threads)
    assert_same_tensors(tensors_of(tmp_path / "1" / LAST), tensors_of(tmp_path / "2" / LAST))


def test_the_averaged_weights_are_judged_and_kept(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    list(train(replace(SHORT, ema=0.9, max_epochs=1), *squares, folder=tmp_path))
    last, best = tensors_of(tmp_path / LAST), tensors_of(tmp_path / BEST / WEIGHTS)
    weight = "passes.0.head.weight"
    assert torch.equal(best[weight], last[f"average.{weight}"])
    assert not torch.equal(best[weight], last[f"network.{weight}"])


def test_a_finished_training_that_is_resumed_only_reports_its_last_epoch_again(
    squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    whole = list(train(SHORT, *squares, folder=tmp_path))
    before = (tmp_path / LAST).read_bytes()
    assert list(train(SHORT, *squares, folder=tmp_path, resume=True)) == whole[-1:]
    assert (tmp_path / LAST).read_bytes() == before


def test_without_resume_a_training_begins_anew(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    whole = list(train(SHORT, *squares, folder=tmp_path))
    assert without_clock(list(train(SHORT, *squares, folder=tmp_path))) == without_clock(whole)


def test_resume_with_nothing_to_go_on_from_begins_at_the_first_epoch(
    squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    assert next(iter(train(SHORT, *squares, folder=tmp_path / "new", resume=True))).epoch == 1


@pytest.mark.parametrize("change", [{"learning_rate": 0.01}, {"width": 3}, {"seed": 1}, {"max_epochs": 9}], ids=str)
def test_the_state_of_another_config_is_refused(
    squares: tuple[SegmentationData, Split], tmp_path: Path, change: dict[str, Any]
) -> None:
    next(iter(train(SHORT, *squares, folder=tmp_path)))
    with pytest.raises(InputError, match="was written by a training with another config or other data") as refused:
        next(iter(train(replace(SHORT, **change), *squares, folder=tmp_path, resume=True)))
    assert str(tmp_path / LAST) in str(refused.value)


def test_the_state_of_other_data_is_refused(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    data, split = squares
    next(iter(train(SHORT, data, split, folder=tmp_path)))
    with pytest.raises(InputError, match="another config or other data"):
        next(iter(train(SHORT, replace(data, fingerprint="other"), split, folder=tmp_path, resume=True)))


def test_the_state_of_another_split_is_refused(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    data, split = squares
    next(iter(train(SHORT, data, split, folder=tmp_path)))
    turned_round = replace(split, train=split.validation, validation=split.train)
    with pytest.raises(InputError, match="another config or other data"):
        next(iter(train(SHORT, data, turned_round, folder=tmp_path, resume=True)))


@pytest.mark.parametrize("kept", [0, 50, -1])
def test_a_damaged_state_is_refused(squares: tuple[SegmentationData, Split], tmp_path: Path, kept: int) -> None:
    next(iter(train(SHORT, *squares, folder=tmp_path)))
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:kept])
    with pytest.raises(InputError, match="is damaged"):
        next(iter(train(SHORT, *squares, folder=tmp_path, resume=True)))


def test_a_state_that_no_training_wrote_is_refused(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    save_tensors(tmp_path / LAST, {"weight": torch.ones(1)}, {})
    with pytest.raises(InputError, match="another config or other data"):
        next(iter(train(SHORT, *squares, folder=tmp_path, resume=True)))


def test_closing_the_generator_ends_the_training(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs_run = []
    train_epoch = training.train_epoch

    def counted(*arguments: Any, **named: Any) -> float:
        epochs_run.append(arguments[0].progress.epoch + 1)
        return train_epoch(*arguments, **named)

    monkeypatch.setattr(training, "train_epoch", counted)
    epochs = train(SHORT, *squares, folder=tmp_path)
    for report in epochs:
        # What was reported is already kept.
        assert load_tensors(tmp_path / LAST)[1]["progress"]["report"]["epoch"] == report.epoch
        assert load_model(tmp_path / BEST)[1].config == SHORT
        if report.epoch == 2:
            epochs.close()  # type: ignore[attr-defined]
    assert epochs_run == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, LAST]


def test_nothing_is_kept_without_a_folder(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    list(train(SHORT, *squares))
    assert list(tmp_path.iterdir()) == []


def judged_as(tp: int, fp: int) -> Judgement:
    """A judgement by which two classes have these pixels found in one picture, of 20 true ones among 100.

    The other picture has nothing to find, and nothing was found in it.
    """
    positives, negatives = torch.zeros(2, 2, 2, BINS, dtype=torch.int64)
    for pixels, found, left_out in ((positives, tp, 20 - tp), (negatives, fp, 80 - fp)):
        # Not all in one bin, for no network that learns has the same probability everywhere.
        for count, bins in ((found, (-1, -2)), (left_out, (0, 1))):
            pixels[0, :, bins[0]], pixels[0, :, bins[1]] = count // 2, count - count // 2
    histograms = ProbabilityHistograms(positives=positives, negatives=negatives)
    counts = histograms.counts((0.5, 0.5))
    return Judgement(
        label_mode=MULTILABEL,
        thresholds=(0.5, 0.5),
        counts=counts,
        counts_at_half=counts.pooled(),
        histograms=histograms,
        coarse_found=torch.zeros(2, 2, 4, 4),
        coarse_truth=torch.zeros(2, 2, 4, 4),
        extents=np.full((2, 2), 10),
    )


def script_judgement(monkeypatch: pytest.MonkeyPatch, found: Iterator[tuple[int, int]]) -> None:
    """Lets each epoch be judged by true and false positives of a script."""
    monkeypatch.setattr(training, "judge", lambda *_arguments, **_named: judged_as(*next(found)))


def test_the_best_model_is_that_of_the_first_of_the_best_epochs(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_judgement(monkeypatch, iter([(5, 0), (15, 0), (15, 0), (10, 0)]))
    weights = [tensors_of(tmp_path / LAST) for _ in train(SHORT, *squares, folder=tmp_path)]
    best, facts = load_tensors(tmp_path / BEST / WEIGHTS)
    assert facts["scores"] == {"epoch": 2, "val_dice": pytest.approx(30 / 35)}
    assert_same_tensors(
        best, {name.removeprefix("network."): part for name, part in weights[1].items() if "network." in name}
    )
    assert not torch.equal(best["passes.0.head.weight"], weights[3]["network.passes.0.head.weight"])


def test_a_resumed_training_remembers_its_best(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_judgement(monkeypatch, iter([(15, 0), (10, 0), (12, 0), (14, 0)]))
    epochs = train(SHORT, *squares, folder=tmp_path)
    assert [next(epochs).epoch, next(epochs).epoch] == [1, 2]
    assert [report.epoch for report in train(SHORT, *squares, folder=tmp_path, resume=True)] == [2, 3, 4]
    assert load_tensors(tmp_path / BEST / WEIGHTS)[1]["scores"]["epoch"] == 1


def test_the_best_model_on_disk_scores_what_was_reported(tmp_path: Path) -> None:
    data = colored_squares("multiclass", count=8)
    split = split_in_two(data)
    reports = list(train(replace(QUICK, max_epochs=4), data, split, folder=tmp_path))
    network, card = load_model(tmp_path / BEST)
    judged = place(data, split.validation, CPU)
    judgement = judge(network, judged, card.label_mode, thresholds=card.thresholds, bfloat16=False)
    assert judgement.scores() == max((report.val for report in reports), key=lambda val: val.dice)
    kept = json.loads((tmp_path / BEST / SCORES).read_text(encoding="utf-8"))
    mapping = judgement.as_mapping(data.class_names, [data.names[index] for index in split.validation])
    assert kept == {"epoch": max(reports, key=lambda report: report.val.dice).epoch, **mapping}


# Steps far too widely.
DIVERGING = replace(QUICK, depth=5, normalisation="none", upsampling="nearest", learning_rate=10.0, max_epochs=2)


def first_divergence(data: SegmentationData, folder: Path) -> TrainingFailure | None:
    """How a training that steps far too widely ends, for the first seed whose features do not all die instead."""
    for seed in range(8):
        try:
            list(train(replace(DIVERGING, seed=seed), data, split_in_two(data), folder=folder))
        except TrainingFailure as failure:
            if failure.status == "diverged":
                return failure
    return None


def test_a_training_without_normalisation_at_a_huge_learning_rate_diverges(tmp_path: Path) -> None:
    failure = first_divergence(colored_squares("binary"), tmp_path)
    assert failure is not None
    assert failure.status == "diverged"
    # which tensor, which step, which pictures, at what learning rate, what to do
    assert failure.reason.startswith("first not finite: the ")
    assert ", in step " in failure.reason
    assert "(picture" in failure.reason
    assert "at learning rate " in failure.reason
    assert failure.reason.endswith("try a smaller learning_rate, or gradient_clip=1")
    # Weights that are no numbers are never kept.
    for path in tmp_path.rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in tensors_of(path).values())


def test_a_loss_that_is_not_a_number_once_ends_the_epoch_at_its_next_check(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def poisoned(logits: Tensor, *_others: Any) -> Tensor:
        steps.append(logits)
        return logits.square().mean() * (float("nan") if len(steps) == 4 else 1.0)

    monkeypatch.setitem(LOSS_FUNCTIONS, "dice_ce", poisoned)
    monkeypatch.setattr(stepping, "STEPS_BETWEEN_CHECKS", 3)
    epochs = train(replace(SHORT, batch_size=1, crop_size=8), *squares, folder=tmp_path)
    # It does not come back when the steps are gone through again, so nothing more can be said.
    with pytest.raises(TrainingFailure, match="diverged: the loss was no longer finite by step 6 of epoch 1, at"):
        next(iter(epochs))
    assert len(steps) == 6 + 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [((0, 0), "masks_empty: predicted no pixel of any class in 3 looks in a row, and no threshold helps; try"),
     ((20, 80), "masks_full: predicted every pixel of the picture in 3 looks in a row, and no threshold helps; try")],
    ids=["empty", "full"],
)  # fmt: skip
def test_masks_that_stay_empty_or_full_end_a_training(
    squares: tuple[SegmentationData, Split],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: tuple[int, int],
    words: str,
) -> None:
    config = replace(SHORT, max_epochs=9, collapse_epochs=3)
    script_judgement(monkeypatch, iter([found, found, (15, 5), *[found] * 6]))
    reports = []
    with pytest.raises(TrainingFailure) as failure:
        for report in train(config, *squares, folder=tmp_path):
            reports.append(report)
            if report.epoch == 4:
                break
        # An interruption does not make it forget what it saw.
        reports += train(config, *squares, folder=tmp_path, resume=True)
    # Three in a row after the good third epoch are complete with the sixth; the fourth is reported at both starts.
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 4, 5]
    assert failure.value.status == "collapsed"
    assert failure.value.reason.startswith(words)


def test_a_network_that_learns_empty_masks_collapses() -> None:
    data = colored_squares("binary", side=16)
    masks = data.masks.copy()
    masks[:4] = 0
    masks[0, :, 0, 0] = 1  # one pixel, or there would be nothing to learn
    data = data_of(data.images, masks)
    config = replace(QUICK, crop_size=0, max_epochs=40, collapse_epochs=6, learning_rate=0.05)
    with pytest.raises(TrainingFailure, match="predicted no pixel of any class in 6 looks in a row"):
        list(train(config, data, split_in_two(data)))


def test_pixel_statistics_are_those_of_the_training_pixels_that_count() -> None:
    images = np.zeros((3, 1, 4, 3), np.uint8)
    images[0, 0, :, 0] = [10, 20, 30, 255]
    images[1, 0, :, 0] = [40, 50, 60, 70]
    images[2] = 200
    images[:, :, :, 1] = 90
    valid = np.ones((3, 1, 4), np.uint8)
    valid[0, 0, 3] = 0
    data = data_of(images, np.zeros((3, 1, 1, 4), np.uint8), valid)
    network = UNet(channels=3, outputs=1, depth=2, width=1)
    set_pixel_statistics(network, data, Split(train=(0, 1), validation=(2,)))
    # 10, 20, ... 70: mean 40, squared deviations 900 400 100 0 100 400 900, their mean 400
    assert network.pixel_mean.tolist() == pytest.approx([40, 90, 0])
    # what is flat is not divided by zero
    assert network.pixel_deviation.tolist() == pytest.approx([20, 1, 1])


@pytest.mark.parametrize("rare_crops", [0.0, 0.5])
def test_a_training_on_pictures_in_files_is_the_one_on_pictures_in_memory(tmp_path: Path, rare_crops: float) -> None:
    data = colored_squares("multilabel", side=32)
    split = split_in_two(data)
    config = replace(SHORT, crop_size=16, rare_crops=rare_crops)
    in_memory = list(train(config, data, split, folder=tmp_path / "memory"))
    in_files = list(train(config, put_into_files(data, tmp_path), split, folder=tmp_path / "files"))
    assert without_clock(in_files) == without_clock(in_memory)
    assert_same_tensors(tensors_of(tmp_path / "files" / LAST), tensors_of(tmp_path / "memory" / LAST))


def test_a_training_on_pictures_that_lie_on_the_device_is_the_one_on_pictures_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = colored_squares("multilabel", side=32)
    split = split_in_two(data)
    config = replace(SHORT, crop_size=16)
    beside = list(train(config, data, split, folder=tmp_path / "beside"))
    monkeypatch.setattr(windows, "free_memory", lambda _device: 2**40)
    on_it = list(train(config, data, split, folder=tmp_path / "on"))
    assert without_clock(on_it) == without_clock(beside)
    assert_same_tensors(tensors_of(tmp_path / "on" / LAST), tensors_of(tmp_path / "beside" / LAST))


def test_training_pictures_without_any_class_are_refused() -> None:
    data = colored_squares("binary")
    masks = data.masks.copy()
    masks[:4] = 0
    with pytest.raises(InputError, match="none of the 4 training images of 'toy' holds a pixel of any class"):
        next(iter(train(SHORT, data_of(data.images, masks), split_in_two(data))))


@pytest.mark.parametrize("empty_images", [0.0, 1.0])
def test_pictures_without_any_class_teach_as_often_as_asked(
    empty_images: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = colored_squares("binary", count=8)
    masks = data.masks.copy()
    masks[2:6] = 0
    batches = []

    def remembered(logits: Tensor, target: Target, *_others: Any) -> Tensor:
        batches.append(target.masks)
        return logits.square().mean()

    monkeypatch.setitem(LOSS_FUNCTIONS, "dice_ce", remembered)
    config = replace(SHORT, empty_images=empty_images, augmentation=0.0, crop_size=0, batch_size=2, dropout=0.0)
    next(iter(train(config, data_of(data.images, masks), split_in_two(data))))
    empty = sum(int((batch.amax(dim=(1, 2, 3)) == 0).sum()) for batch in batches)
    # Six pictures, two of which hold the class, in three steps.
    assert (len(batches), empty) == (3, 4 if empty_images else 0)


def test_a_class_that_no_validation_picture_holds_does_not_end_a_training(tmp_path: Path) -> None:
    data = colored_squares("multilabel", side=16)
    masks = data.masks.copy()
    masks[4:, 1] = 0
    data = data_of(data.images, masks)
    config = replace(SHORT, max_epochs=12, learning_rate=0.05, dropout=0.0, loss="dice")
    reports = list(train(config, data, split_in_two(data), folder=tmp_path))
    assert len(reports) == 12
    resumed = next(iter(train(config, data, split_in_two(data), folder=tmp_path, resume=True)))
    assert [isnan(dice) for dice in resumed.val.class_dice] == [isnan(dice) for dice in reports[-1].val.class_dice]
