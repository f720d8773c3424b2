"""One training: it learns, reports every epoch, keeps its best, and depends on nothing but what it should."""

import json
from dataclasses import replace
from itertools import pairwise
from math import cos, isnan, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data import windows
from data.input_error import InputError
from data.segmentation_data import SegmentationData, Split
from data.windows import place
from model import train as training
from model.checkpoint import SCORES, WEIGHTS, load_model, load_tensors
from model.judge import judge
from model.kept_states import PREVIOUS
from model.losses import LOSSES as LOSS_FUNCTIONS
from model.losses import Target
from model.start import set_pixel_statistics
from model.train import (
    BEST,
    LAST,
    train,
)
from model.unet import UNet
from tests.model.trainings import (
    CPU,
    QUICK,
    SHORT,
    assert_same_tensors,
    script_judgement,
    tensors_of,
    without_clock,
)
from tests.toys import TASKS, colored_squares, data_of, put_into_files, split_in_two


# Every loss with every task is for the contract (test_contract.py).
@pytest.mark.parametrize(("task", "loss"), list(zip(TASKS, ("dice_ce", "focal", "weighted_ce"), strict=True)))
def test_a_training_learns(task: str, loss: str) -> None:
    data = colored_squares(task, count=10)
    reports = list(train(replace(QUICK, loss=loss), data, split_in_two(data)))
    assert max(report.val.dice for report in reports) > 0.9
    assert reports[-1].train_loss < reports[0].train_loss / 2


def test_a_training_learns_from_grey_pictures_also_at_half_the_precision() -> None:
    data = colored_squares("binary", count=10)
    grey = data_of(data.images[..., :1], data.masks)
    reports = list(train(replace(QUICK, precision="bfloat16"), grey, split_in_two(grey)))
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
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS, BEST, LAST]


def test_nothing_is_kept_without_a_folder(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    list(train(SHORT, *squares))
    assert list(tmp_path.iterdir()) == []


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
