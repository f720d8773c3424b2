"""Histograms of probabilities: bins, counts at a threshold and the best threshold by hand, areas by scikit-learn."""

from math import isnan, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]
from torch import Tensor

from data.segmentation_data import MULTILABEL
from model.histograms import BINS, EDGES, ProbabilityHistograms, count_probabilities, find_bins
from model.metrics import count_pixels, predicted_planes
from tests.toys import PROPERTY

EDGE_TENSOR = torch.tensor(EDGES)
FEWER = settings(PROPERTY, max_examples=50)


def histograms_of(positives: dict[float, int], negatives: dict[float, int]) -> ProbabilityHistograms:
    """Histograms of one image and class with so many pixels at each probability."""
    parts = []
    for pixels in (positives, negatives):
        histogram = torch.zeros(1, 1, BINS, dtype=torch.int64)
        for probability, count in pixels.items():
            histogram[0, 0, find_bins(torch.tensor(probability))] += count
        parts.append(histogram)
    return ProbabilityHistograms(positives=parts[0], negatives=parts[1])


def counted(probabilities: Tensor, masks: Tensor, valid: Tensor) -> ProbabilityHistograms:
    negatives, positives = count_probabilities(probabilities, masks, valid).long().unbind(dim=2)
    return ProbabilityHistograms(positives=positives, negatives=negatives)


@st.composite
def judged_probabilities(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and masks (N, K, H, W) and the pixels that count (N, 1, H, W); many probabilities are edges."""
    count, classes, height, width = (draw(st.integers(1, limit)) for limit in (3, 3, 5, 5))
    shape = count, classes, height, width
    at_edges = st.sampled_from([0.0, *EDGES[1:20], *EDGES[250:262], *EDGES[-3:], 1.0])
    values = at_edges | st.floats(0, 1, width=32)
    probabilities = torch.from_numpy(draw(arrays(np.float32, shape, elements=values)))
    masks = torch.from_numpy(draw(arrays(np.bool_, shape)))
    valid = torch.from_numpy(draw(arrays(np.bool_, (count, 1, height, width))))
    return probabilities, masks.to(torch.uint8), valid.to(torch.uint8)


def test_edges_rise_from_zero_through_one_half_and_are_mirrored() -> None:
    assert len(EDGES) == BINS == 512
    assert list(EDGES) == sorted(set(EDGES))
    assert (EDGES[0], EDGES[BINS // 2]) == (0, 0.5)
    assert [1 - edge for edge in reversed(EDGES[1:])] == list(EDGES[1:])
    # by hand: 16 bins from 1/4 to 1/2, 16 from 1/8 to 1/4, ..., the lowest edge 17/16 of 2 ** -17
    assert (EDGES[255], EDGES[240], EDGES[239], EDGES[1]) == (31 / 64, 1 / 4, 31 / 128, 17 / 16 * 2**-17)


def test_edges_are_the_same_in_float32_and_nearly_even_in_logits() -> None:
    assert EDGE_TENSOR.double().tolist() == list(EDGES)
    widths = EDGE_TENSOR[1:].double().logit().diff()
    assert 0.03 < widths.min() < widths.max() < 0.09


def test_bins_are_found_as_by_searching_the_edges() -> None:
    draw = torch.Generator().manual_seed(0)
    highest = int(torch.tensor(1.0).view(torch.int32))
    bits = torch.randint(0, highest + 1, (200_000,), generator=draw, dtype=torch.int32)
    near = [EDGE_TENSOR.nextafter(torch.tensor(towards)) for towards in (0.0, 1.0)]
    for values in (bits.view(torch.float32), 1 - bits.view(torch.float32), EDGE_TENSOR, *near, torch.ones(1)):
        assert torch.equal(find_bins(values), torch.bucketize(values, EDGE_TENSOR, right=True, out_int32=True) - 1)


def test_what_lies_outside_or_is_no_number_has_a_bin_all_the_same() -> None:
    values = torch.tensor([-0.0, -1.0, 1.0000001, 2.0, float("inf"), float("-inf"), float("nan")])
    bins = find_bins(values).tolist()
    assert bins[:6] == [0, 0, BINS - 1, BINS - 1, BINS - 1, 0]
    assert bins[6] < BINS // 2  # as predicted_planes, which does not find it at 0.5


@given(judged_probabilities(), st.data())
@FEWER
def test_counts_at_an_edge_are_those_of_the_masks_at_that_threshold(
    judged: tuple[Tensor, Tensor, Tensor], data: st.DataObject
) -> None:
    probabilities, masks, valid = judged
    edges = st.sampled_from([*EDGES[:20], *EDGES[250:262], *EDGES[-3:]])
    thresholds = tuple(data.draw(edges) for _ in range(masks.shape[1]))
    expected = count_pixels(predicted_planes(probabilities, MULTILABEL, thresholds), masks, valid)
    histograms = counted(*judged)
    counts = histograms.counts(thresholds)
    pooled = histograms.pooled().counts(thresholds)
    for name in ("tp", "fp", "fn", "tn"):
        assert torch.equal(getattr(counts, name), getattr(expected, name))
        assert torch.equal(getattr(pooled, name)[0], getattr(expected, name).sum(dim=0))


def test_only_edges_can_be_thresholds() -> None:
    for threshold in (0.3, 0.5000001, 1.0):
        with pytest.raises(AssertionError, match="no edge"):
            histograms_of({0.5: 1}, {0.5: 1}).counts((threshold,))


def test_histograms_by_hand() -> None:
    # one image of two classes and five pixels, the last of which does not count
    probabilities = torch.tensor([[0.5, 0.5, 0.0, 1.0, 1.0], [0.25, 0.26, 0.75, 0.49, 0.0]]).reshape(1, 2, 1, 5)
    masks = torch.tensor([[1, 0, 0, 1, 1], [0, 1, 1, 0, 1]], dtype=torch.uint8).reshape(1, 2, 1, 5)
    valid = torch.tensor([1, 1, 1, 1, 0], dtype=torch.uint8).reshape(1, 1, 1, 5)
    histograms = counted(probabilities, masks, valid)
    filled = [
        {place: count for place, count in enumerate(part.tolist()) if count}
        for part in (*histograms.positives[0], *histograms.negatives[0])
    ]
    # 0.26 lies between 16/64 and 17/64, 0.49 between 31/64 and 1/2
    assert filled == [{256: 1, 511: 1}, {240: 1, 272: 1}, {0: 1, 256: 1}, {240: 1, 255: 1}]


@pytest.mark.parametrize(
    ("positives", "negatives", "threshold"),
    [
        # found down to 1/4: 2 x 8 / (16 + 1); only the surest: 2 x 4 / (8 + 4)
        ({0.75: 4, 0.25: 4}, {0.3125: 1, 0.125: 80}, 0.25),
        # below 5/16 more is invented than found
        ({0.75: 4, 0.25: 4}, {0.3125: 0, 0.2578125: 60, 0.125: 80}, 0.5),
        # at a half all is found: 2 x 1000 / 3005; at the next edge 5 less of each: 2 x 995 / 2995
        ({0.75: 995, 0.5: 5}, {0.75: 1000, 0.5: 5}, 33 / 64),
        # at 1/4 all is found: 2 x 1000 / 3005; above it 2 x 500 / 2000
        ({0.75: 500, 0.25: 500}, {0.75: 500, 0.25: 505}, 0.25),
        # at a half a little more than half a per cent worse than at 1/4, 2 x 99 / 199, and a little less, 2 x 100 / 201
        ({0.75: 99, 0.25: 1}, {0.125: 5}, 0.25),
        ({0.75: 100, 0.25: 1}, {0.125: 5}, 0.5),
        # all is of the class, and found as it should be
        ({0.75: 999, 0.625: 1}, {}, 0.5),
        # nothing of the class, all found: no threshold is better than another
        ({}, {0.9: 5}, 0.5),
        # everything between 1/4 and 3/4 is as good: the middle
        ({0.75: 9}, {0.25: 9}, 0.5),
        # everything between 1/8 (not reached) and 1/4: the nearest to the middle
        ({0.25: 9}, {0.125: 9}, 0.25),
        # everything above 3/4, up to 7/8: the next edge
        ({0.875: 9}, {0.75: 9}, 97 / 128),
        # truly the best: all is of the class
        ({0.125: 9}, {0.125: 1}, 0.125),
        # nothing of the class, found or not
        ({}, {0.9: 5, 0.1: 5}, 0.5),
        ({}, {}, 0.5),
        # the class lies where no threshold but 0 would find it
        ({0.0: 5}, {0.9: 5}, 0.5),
    ],
)
def test_the_threshold_by_hand(positives: dict[float, int], negatives: dict[float, int], threshold: float) -> None:
    assert histograms_of(positives, negatives).chosen_thresholds() == (threshold,)


def test_the_best_dice_by_hand() -> None:
    # found down to 1/4: 2 x 1000 / 3005, where 0.5 is chosen and gives 2 x 995 / 2995
    nearly = histograms_of({0.75: 995, 0.25: 5}, {0.75: 1000, 0.25: 5})
    assert nearly.counts(nearly.chosen_thresholds()).dice().tolist() == [[2 * 995 / 2995]]
    assert nearly.best_dice().tolist() == [2 * 1000 / 3005]
    # of a class that lies where no threshold but 0 would find it, and of one without a pixel
    assert histograms_of({0.0: 5}, {0.9: 5}).best_dice().tolist() == [0.0]
    assert isnan(histograms_of({}, {0.9: 5}).best_dice().item())
    assert isnan(histograms_of({}, {}).best_dice().item())
    # each class has its own, over all images
    of_images = [histograms_of({0.75: 9}, {0.5: 9}), histograms_of({0.125: 9}, {0.0625: 9})]
    both = ProbabilityHistograms(
        positives=torch.cat([one.positives for one in of_images]),
        negatives=torch.cat([one.negatives for one in of_images]),
    )
    assert both.best_dice().tolist() == [2 * 18 / (18 + 18 + 9)]


@given(judged_probabilities())
@FEWER
def test_no_edge_nearer_to_a_half_is_as_good_and_none_is_much_better(judged: tuple[Tensor, Tensor, Tensor]) -> None:
    histograms = counted(*judged).pooled()
    best = histograms.chosen_thresholds()
    highest = histograms.counts(best).dice().nan_to_num(0.0)
    bins = torch.tensor([EDGES.index(one) for one in best])
    everything = histograms.counts((0.0,) * len(best))
    mixed = (everything.tp[0] > 0) & (everything.fp[0] > 0)
    for edge in (*EDGES[1:22], *EDGES[248:264], *EDGES[-4:]):
        counts = histograms.counts((edge,) * len(best))
        others = counts.dice().nan_to_num(0.0)
        assert (0.995 * others <= highest + 1e-9).all()
        assert (others[0] <= histograms.best_dice().nan_to_num(0.0) + 1e-9).all()
        nearer = (torch.tensor(EDGES.index(edge)) - 256).abs() < (bins - 256).abs()
        blind = mixed & (counts.fn + counts.tn == 0)[0]
        assert (blind | (others[0] < highest[0]))[nearer].all()


def test_each_class_has_its_own_threshold() -> None:
    first, second = histograms_of({0.75: 9}, {0.5: 9}), histograms_of({0.125: 9}, {0.0625: 9})
    both = ProbabilityHistograms(
        positives=torch.cat([first.positives, second.positives], dim=1),
        negatives=torch.cat([first.negatives, second.negatives], dim=1),
    )
    assert both.chosen_thresholds() == (33 / 64, 0.125)


@given(judged_probabilities())
@FEWER
def test_areas_are_those_of_scikit_learn(judged: tuple[Tensor, Tensor, Tensor]) -> None:
    probabilities, masks, valid = judged
    histograms = counted(*judged)
    inside = valid[:, 0].bool()
    for index in range(masks.shape[1]):
        truth = masks[:, index][inside].numpy()
        places = find_bins(probabilities[:, index][inside]).numpy()
        if not len(truth) or truth.min() == truth.max():
            assert isnan(histograms.auc_roc()[index]) and isnan(histograms.auc_pr()[index])
            continue
        assert histograms.auc_roc()[index] == pytest.approx(roc_auc_score(truth, places))
        assert 0 < histograms.auc_pr()[index] < 1 + 1e-9


@pytest.mark.parametrize(("apart", "spread"), [(0, 1), (2, 2), (4, 2), (10, 4)])
def test_areas_are_those_of_scikit_learn_without_bins_where_pixels_are_many(apart: float, spread: float) -> None:
    draw = torch.Generator().manual_seed(1)
    masks = (torch.rand(2, 1, 200, 500, generator=draw) < 0.1).to(torch.uint8)
    logits = torch.randn(masks.shape, generator=draw) * spread + apart * (masks - 0.5) - 1
    histograms = counted(logits.sigmoid(), masks, torch.ones(2, 1, 200, 500, dtype=torch.uint8))
    truth, guesses = masks.flatten().numpy(), logits.flatten().numpy()
    assert histograms.auc_roc()[0] == pytest.approx(roc_auc_score(truth, guesses), abs=1e-4)
    assert histograms.auc_pr()[0] == pytest.approx(average_precision_score(truth, guesses), abs=4e-4)


def test_areas_by_hand() -> None:
    # three of the class at 1/4, 1/2 and 3/4, two others at 1/4 and 5/8
    histograms = histograms_of({0.25: 1, 0.5: 1, 0.75: 1}, {0.25: 1, 0.625: 1})
    # pairs: 3/4 beats both, 1/2 beats one, 1/4 ties with one
    assert histograms.auc_roc() == pytest.approx((3.5 / 6,))
    # recall gains a third at 3/4, at precision 1; at 1/2, where precision goes from 1/2 along (1 + s) / (2 + s) to 2/3;
    # and at 1/4, from 2/3 along (2 + s) / (3 + 2 s) to 3/5
    assert histograms.auc_pr() == pytest.approx(((1 + (1 - log(3 / 2)) + (1 / 2 + log(5 / 3) / 4)) / 3,))


def test_a_network_that_sees_the_same_everywhere_has_the_areas_of_a_guess() -> None:
    histograms = histograms_of({0.3: 2}, {0.3: 6})
    assert (histograms.auc_roc(), histograms.auc_pr()) == ((0.5,), (0.25,))
