"""Judging whole pictures: thresholds, counts, coarse maps and scores by hand, and less memory than it would take."""

import json
from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.segmentation_data import MULTICLASS, MULTILABEL, SegmentationData
from data.windows import Pictures, place
from model import judge as judging
from model.histograms import BINS
from model.judge import Judgement, judge
from model.metrics import count_pixels, predicted_planes, scores
from model.tiles import predict_probabilities
from model.unet import UNet
from tests.toys import TASKS, colored_squares, data_of

CPU = torch.device("cpu")
FULL = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


class ByBrightness(nn.Module):
    """Takes the value v of channel k for a probability of (v + 1) / 256 of class k."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        probabilities = (images[:, : self.classes] + 1) / 256
        return probabilities.logit()


class Scarce(nn.Module):
    """The network given, where memory suffices for so many pixels of pictures together; remembers what it was shown."""

    def __init__(self, network: nn.Module, pixels: int, error: Exception | None = None) -> None:
        super().__init__()
        self.network, self.pixels = network, pixels
        self.error = error or RuntimeError(FULL)
        self.shown: list[tuple[int, int, int]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append((len(images), images.shape[2], images.shape[3]))
        if images[:, 0].numel() > self.pixels:
            raise self.error
        logits: Tensor = self.network(images)
        return logits


def pictures_of(data: SegmentationData) -> Pictures:
    return place(data, tuple(range(len(data.names))), CPU)


def row_of(values: list[list[int]], masks: list[list[int]], valid: list[list[int]] | None = None) -> SegmentationData:
    """Pictures of one row of pixels each, and masks of one class."""
    images = np.array(values, np.uint8)[:, None, :, None].repeat(3, axis=3)
    counted = None if valid is None else np.array(valid, np.uint8)[:, None]
    return data_of(images, np.array(masks, np.uint8)[:, None, None], counted)


def judged(network: Any, data: SegmentationData, **options: Any) -> Judgement:
    return judge(network, pictures_of(data), data.label_mode, bfloat16=False, **options)


@pytest.fixture
def two_rows() -> SegmentationData:
    """Two pictures whose class is seen at a quarter and at three quarters, other pixels at an eighth and below.

    The last pixel of the second picture, which is seen as the class, does not count.
    """
    return row_of([[191, 63, 31, 0], [63, 63, 0, 255]], [[1, 1, 0, 0], [1, 1, 0, 0]], [[1, 1, 1, 1], [1, 1, 1, 0]])


def counts_of(judgement: Judgement) -> list[list[list[int]]]:
    counts = judgement.counts
    return [part.tolist() for part in (counts.tp, counts.fp, counts.fn, counts.tn)]


def test_the_threshold_is_chosen_on_the_pixels_of_all_pictures_that_count(two_rows: SegmentationData) -> None:
    judgement = judged(ByBrightness(1), two_rows)
    assert judgement.thresholds == (0.25,)
    assert counts_of(judgement) == [[[2], [2]], [[0], [0]], [[0], [0]], [[2], [1]]]
    half = judgement.counts_at_half
    assert [part.tolist() for part in (half.tp, half.fp, half.fn, half.tn)] == [[1], [0], [3], [3]]
    assert judgement.histograms.positives.shape == (2, 1, BINS)
    assert judgement.histograms.positives.sum(dim=2).tolist() == [[2], [2]]
    assert judgement.histograms.negatives.sum(dim=2).tolist() == [[2], [1]]
    worth = judgement.scores()
    assert (worth.dice, worth.dice_per_image, worth.auc_roc, worth.auc_pr) == (1, 1, 1, 1)


def test_a_given_threshold_need_not_be_the_edge_of_a_bin(two_rows: SegmentationData) -> None:
    judgement = judged(ByBrightness(1), two_rows, thresholds=(0.1,))
    assert judgement.thresholds == (0.1,)
    assert counts_of(judgement) == [[[2], [2]], [[1], [0]], [[0], [0]], [[1], [1]]]
    assert judgement.counts_at_half.tp.tolist() == [1]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mirror", [False, True])
def test_counts_are_those_of_the_masks_that_prediction_makes_with_the_thresholds(task: str, mirror: bool) -> None:
    data = colored_squares(task, count=5)
    data = replace(data, valid=(data.images[..., 0] % 7 > 0).astype(np.uint8))
    outputs = len(data.class_names) + (data.label_mode == MULTICLASS)
    network = UNet(channels=3, outputs=outputs, depth=2, width=2).eval()
    judgement = judged(network, data, mirror=mirror)
    images = torch.from_numpy(data.images.transpose(0, 3, 1, 2).copy())
    probabilities = predict_probabilities(network, images, data.label_mode, bfloat16=False, mirror=mirror)
    planes = predicted_planes(probabilities, data.label_mode, judgement.thresholds)
    masks, valid = torch.from_numpy(data.masks), torch.from_numpy(data.valid)[:, None]
    expected = count_pixels(planes, masks, valid)
    for name in ("tp", "fp", "fn", "tn"):
        assert torch.equal(getattr(judgement.counts, name), getattr(expected, name))
    if data.label_mode == MULTICLASS:
        assert judgement.thresholds == (0.5, 0.5)
        half = expected.pooled()
    else:
        half = count_pixels(predicted_planes(probabilities, MULTILABEL, (0.5,) * len(masks[0])), masks, valid).pooled()
    assert torch.equal(judgement.counts_at_half.tp, half.tp) and torch.equal(judgement.counts_at_half.tn, half.tn)
    of_counts = scores(expected)
    assert replace(judgement.scores(), auc_roc=0.0, auc_pr=0.0) == of_counts


def test_the_network_is_judged_in_evaluation_mode() -> None:
    data = colored_squares("binary", count=2)
    network = UNet(channels=3, outputs=1, depth=2, width=2).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    judged(network, data)
    assert not network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_pictures_are_judged_together_as_far_as_their_pixels_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = Scarce(ByBrightness(1), pixels=10**6)
    data = colored_squares("binary", count=5)
    judged(network, data)
    monkeypatch.setattr(judging, "JUDGED_PIXELS", 2 * 32 * 32 + 1)
    judged(network, data)
    monkeypatch.setattr(judging, "JUDGED_PIXELS", 1)
    judged(network, data)
    monkeypatch.undo()
    monkeypatch.setattr(judging, "JUDGED_PICTURES", 3)
    judged(network, data)
    assert [count for count, *_ in network.shown] == [5, 2, 2, 1, 1, 1, 1, 1, 1, 3, 2]


# --- maps ------------------------------------------------------------------------------------------------------------


def test_coarse_maps_are_means_over_what_counts_by_hand() -> None:
    # 130 pixels in a row: squares of 3, the last of a single pixel
    values, masks, valid = [63] * 130, [0] * 130, [1] * 130
    values[0:3], masks[0:3] = [255, 0, 127], [1, 1, 0]
    valid[1] = 0
    valid[3:6] = [0, 0, 0]
    values[129], masks[129] = 191, 1
    judgement = judged(ByBrightness(1), row_of([values], [masks], [valid]))
    assert judgement.coarse_found.shape == judgement.coarse_truth.shape == (1, 1, 1, 44)
    found, truth = judgement.coarse_found.flatten(), judgement.coarse_truth.flatten()
    assert found.tolist() == pytest.approx([(1 + 0.5) / 2, 0] + [0.25] * 41 + [0.75])
    assert truth.tolist() == pytest.approx([0.5, 0] + [0] * 41 + [1])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (64, 64), (65, 40), (129, 1)])
def test_coarse_maps_have_sides_of_64_at_most(height: int, width: int) -> None:
    data = data_of(np.full((2, height, width, 3), 127, np.uint8), np.ones((2, 1, height, width), np.uint8))
    judgement = judged(ByBrightness(1), data)
    square = ceil(max(height, width) / 64)
    assert judgement.coarse_found.shape == (2, 1, ceil(height / square), ceil(width / square))
    assert judgement.coarse_found.dtype == judgement.coarse_truth.dtype == torch.float32
    torch.testing.assert_close(judgement.coarse_found, torch.full_like(judgement.coarse_found, 0.5))
    torch.testing.assert_close(judgement.coarse_truth, torch.ones_like(judgement.coarse_truth))


def test_coarse_maps_of_many_pictures_and_classes_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "COARSE_VALUES", 5 * 2 * 10 * 10)
    judgement = judged(ByBrightness(2), colored_squares("multilabel", count=5, side=60))
    assert judgement.coarse_found.shape == (5, 2, 10, 10)


def test_extents_are_those_of_the_pictures() -> None:
    data = colored_squares("binary", count=3)
    assert np.array_equal(judged(ByBrightness(1), data).extents, data.statistics.extents)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def wide_pictures() -> SegmentationData:
    return colored_squares("binary", count=3, side=300)


@pytest.mark.parametrize(
    "error", [RuntimeError(FULL), torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()]
)
def test_pictures_that_do_not_fit_together_are_judged_alone(wide_pictures: SegmentationData, error: Exception) -> None:
    network: Any = Scarce(ByBrightness(1), 300 * 300, error)
    judgement = judged(network, wide_pictures)
    assert network.shown == [(3, 300, 300), (1, 300, 300), (1, 300, 300), (1, 300, 300)]
    plain = judged(ByBrightness(1), wide_pictures)
    assert torch.equal(judgement.histograms.positives, plain.histograms.positives)
    assert torch.equal(judgement.counts.tp, plain.counts.tp)
    assert torch.equal(judgement.coarse_found, plain.coarse_found)


def test_a_picture_that_does_not_fit_alone_is_judged_by_tiles(wide_pictures: SegmentationData) -> None:
    network: Any = Scarce(ByBrightness(1), 128 * 128)
    judgement = judged(network, wide_pictures)
    # together, alone, by the half, by the smallest; the others at once by the smallest
    tried, (smallest, *others) = network.shown[:3], network.shown[3:]
    assert tried == [(3, 300, 300), (1, 300, 300), (1, 150, 150)]
    assert smallest == (1, 128, 128)
    assert set(others) == {smallest}
    plain = judged(ByBrightness(1), wide_pictures)
    torch.testing.assert_close(judgement.coarse_found, plain.coarse_found)
    assert judgement.scores().dice == pytest.approx(plain.scores().dice, abs=1e-3)


def test_where_no_tile_fits_the_error_is_raised(wide_pictures: SegmentationData) -> None:
    network: Any = Scarce(ByBrightness(1), 128 * 128 - 1)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        judged(network, wide_pictures)
    assert network.shown[-1] == (1, 128, 128)


def test_another_error_is_raised_at_once(wide_pictures: SegmentationData) -> None:
    network: Any = Scarce(ByBrightness(1), 1, RuntimeError("the shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        judged(network, wide_pictures)
    assert len(network.shown) == 1


def test_what_reads_ahead_is_closed_when_judging_fails(wide_pictures: SegmentationData) -> None:
    closed: list[bool] = []

    def noting(items: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from items
        finally:
            closed.append(True)

    pictures = replace(pictures_of(wide_pictures), reads_ahead=True)
    network: Any = Scarce(ByBrightness(1), 1, RuntimeError("the shapes do not fit"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "read_ahead", noting)
        with pytest.raises(RuntimeError, match="shapes do not fit"):
            judge(network, pictures, MULTILABEL, bfloat16=False)
        assert closed == [True]


def test_pictures_that_are_read_ahead_are_judged_the_same(wide_pictures: SegmentationData) -> None:
    network: Any = ByBrightness(1)
    pictures = pictures_of(wide_pictures)
    ahead, plain = (
        judge(network, replace(pictures, reads_ahead=reads_ahead), MULTILABEL, bfloat16=False)
        for reads_ahead in (True, False)
    )
    assert torch.equal(ahead.histograms.positives, plain.histograms.positives)
    assert torch.equal(ahead.histograms.negatives, plain.histograms.negatives)


# --- scores.json -----------------------------------------------------------------------------------------------------


def test_the_mapping_by_hand() -> None:
    # first class: 2 pixels found, 1 missed, 1 invented; second class: nowhere, and seen nowhere
    images = np.zeros((2, 1, 4, 3), np.uint8)
    images[0, 0, :, 0] = [200, 200, 10, 200]
    masks = np.zeros((2, 2, 1, 4), np.uint8)
    masks[0, 0, 0] = [1, 1, 1, 0]
    judgement = judged(ByBrightness(2), data_of(images, masks), thresholds=(0.5, 0.5))
    told = judgement.as_mapping(("exudate", "other"), ("a", "b"))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["images"] == {
        "a": {"exudate": pytest.approx(4 / 6), "other": None},
        "b": {"exudate": None, "other": None},
    }
    area_pr = told["classes"]["exudate"].pop("auc_pr")
    assert 0 < area_pr < 1
    assert told["classes"]["exudate"] == {
        "dice": pytest.approx(4 / 6),
        "iou": pytest.approx(2 / 4),
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(4 / 6),
        "accuracy": pytest.approx(6 / 8),
        # pairs of 3 and 5 pixels: two at 201/256 beat four and tie with one, one at 11/256 beats four
        "auc_roc": pytest.approx((2 * 4.5 + 4) / 15),
        "threshold": 0.5,
        "pixels": 3,
    }
    nothing = dict.fromkeys(("dice", "iou", "precision", "recall", "f1", "auc_roc", "auc_pr"))
    assert told["classes"]["other"] == nothing | {"accuracy": 1.0, "threshold": 0.5, "pixels": 0}
    worth = judgement.scores()
    assert told["pooled"]["dice"] == worth.dice == pytest.approx(4 / 6)
    assert told["pooled"]["dice_per_image"] == pytest.approx(4 / 6)
    assert told["pooled"]["auc_pr"] == pytest.approx(area_pr)
    assert "class_dice" not in told["pooled"]


def test_names_that_do_not_fit_are_refused() -> None:
    judgement = judged(ByBrightness(1), colored_squares("binary", count=2))
    with pytest.raises(ValueError, match="zip"):
        judgement.as_mapping(("one", "two"), ("a", "b"))
    with pytest.raises(ValueError, match="zip"):
        judgement.as_mapping(("one",), ("a",))
