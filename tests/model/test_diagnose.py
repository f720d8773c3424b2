"""What is wrong with a training is called by its name, and a sound training is let be."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode, UInt8
from data.windows import place
from model.alignment import fits
from model.config import TrainConfig
from model.diagnose import CHECKS, KEPT, Look, TrainingFailure, Watch
from model.histograms import BINS, ProbabilityHistograms, find_bins
from model.judge import Judgement, judge
from tests.toys import data_of

CONFIG = TrainConfig(collapse_epochs=4)
SIDE = 24
CLASSES = ("vessel", "lesion", "disc")


class PicturesAsLogits(nn.Module):
    """A network whose logits are the pixels: -8 where black, 8 where white. The first is background in "multiclass"."""

    def forward(self, images: Tensor) -> Tensor:
        return (images - 127.5) / 16


def judgement_of(found: UInt8, masks: UInt8, label_mode: LabelMode = MULTILABEL) -> Judgement:
    """What is made of pictures found (N, H, W, 1 or 3), 0 black to 255 white, against masks (N, K, H, W)."""
    data = data_of(found, masks, label_mode=label_mode)
    pictures = place(data, tuple(range(len(found))), torch.device("cpu"))
    return judge(PicturesAsLogits(), pictures, label_mode, bfloat16=False)  # type: ignore[arg-type]


def squares(count: int = 4) -> UInt8:
    """Masks, 0 or 1 (N, 1, H, W), of a square in the middle part of each picture, each in another place."""
    masks = np.zeros((count, 1, SIDE, SIDE), np.uint8)
    for index, (top, left) in enumerate([(7, 7), (11, 7), (7, 11), (11, 11)][:count]):
        masks[index, 0, top : top + 6, left : left + 5 + index] = 1
    return masks


def grey(values: Any) -> UInt8:
    """Pictures (N, H, W, 1) from planes (N, 1, H, W) of 0..1."""
    return np.moveaxis(np.asarray(values) * 255, 1, 3).astype(np.uint8)


TRUTH = squares()
GOOD = judgement_of(grey(TRUTH * 0.5 + 0.25), TRUTH)
# Told apart a little, and on one side of one half.
DARK = judgement_of(grey(TRUTH * 0.1 + 0.2), TRUTH)
NOISE = np.random.default_rng(0).random(TRUTH.shape)
EMPTY = judgement_of(grey(NOISE * 0.4), TRUTH)
FULL = judgement_of(grey(0.6 + NOISE * 0.4), TRUTH)
WRONG = judgement_of(grey(NOISE), TRUTH)


def look(epoch: int, judgement: Judgement = GOOD, **facts: Any) -> Look:
    usual: dict[str, Any] = {
        "train_loss": 0.9**epoch,
        "gradient_norm": 0.3,
        "gradient_peak": 1.0,
        "learning_rate": 0.01,
        "image_names": tuple(f"picture{index}" for index in range(len(judgement.counts.tp))),
    }
    return Look(epoch=epoch, judgement=judgement, **(usual | facts))


def watched(looks: Sequence[Look]) -> Watch:
    watch = Watch()
    for one in looks:
        watch = watch.after(one)
    return watch


def names(watch: Watch) -> list[str]:
    return [warning.partition(":")[0] for warning in watch.warnings(CLASSES)]


def failure_of(watch: Watch, config: TrainConfig = CONFIG) -> str:
    """Why the training ends, or "" where it goes on."""
    try:
        watch.check(config)
    except TrainingFailure as failure:
        assert failure.status == "collapsed"
        assert str(failure) == f"collapsed: {failure.reason}"
        return failure.reason
    return ""


def test_a_sound_training_has_nothing() -> None:
    watch = watched([look(epoch) for epoch in range(1, 40)])
    assert watch.symptoms == ()
    assert watch.warnings(CLASSES) == ()
    assert failure_of(watch) == ""
    assert watch.learnt
    assert watch.best_dice == pytest.approx(1)
    assert len(watch.losses) == len(watch.dices) == len(watch.norms) == KEPT


@pytest.mark.parametrize(
    ("judgement", "words"),
    [
        (
            EMPTY,
            "masks_empty: predicted no pixel of any class in 4 looks in a row, and no threshold helps; try a loss",
        ),
        (
            FULL,
            "masks_full: predicted every pixel of the picture in 4 looks in a row, and no threshold helps; try",
        ),
    ],
    ids=["empty", "full"],
)
def test_masks_that_stay_empty_or_full_end_a_training_once_it_is_sure(judgement: Judgement, words: str) -> None:
    looks = [look(epoch, judgement) for epoch in range(1, 5)]
    assert failure_of(watched(looks)).startswith(words)
    assert failure_of(watched(looks[1:])) == ""
    # only looks in a row count
    assert failure_of(watched([*looks[:3], look(4), *looks[:3]])) == ""
    assert failure_of(watched([*looks[:3], look(4), *looks])).startswith(words)
    assert failure_of(watched(looks), TrainConfig(collapse_epochs=5)) == ""


def test_empty_masks_are_no_failure_where_a_threshold_finds_the_class() -> None:
    assert int((DARK.counts_at_half.tp + DARK.counts_at_half.fp).sum()) == 0
    watch = watched([look(epoch, DARK) for epoch in range(1, 30)])
    assert failure_of(watch) == ""
    assert watch.warnings(CLASSES) == ()


def test_what_is_learnt_is_judged_at_the_very_best_threshold() -> None:
    # marking everything gives 2 / 3, so that 5 / 6 is clearly better: reached at 1/4 (2000 / 2390), not at the chosen
    # threshold of 0.5 (1940 / 2329)
    parts = [torch.zeros(1, 1, BINS, dtype=torch.int64) for _ in range(2)]
    for part, pixels in zip(parts, ((970, 30, 0), (359, 31, 610)), strict=True):
        part[0, 0, find_bins(torch.tensor([0.75, 0.25, 0.0625])).long()] = torch.tensor(pixels)
    histograms = ProbabilityHistograms(positives=parts[0], negatives=parts[1])
    assert histograms.chosen_thresholds() == (0.5,)
    assert look(1, replace(GOOD, histograms=histograms)).learnt.tolist() == [True]
    parts[1][0, 0, find_bins(torch.tensor(0.75))] += 20  # 2000 / 2410, and 2000 / 3020 for everything
    assert look(1, replace(GOOD, histograms=histograms)).learnt.tolist() == [False]


def test_empty_masks_are_right_where_there_is_nothing() -> None:
    nothing = judgement_of(grey(NOISE * 0.4), np.zeros_like(TRUTH))
    watch = watched([look(epoch, nothing) for epoch in range(1, 30)])
    assert (failure_of(watch), watch.warnings(CLASSES)) == ("", ())


def test_full_masks_are_right_where_the_class_is_everywhere() -> None:
    everything = judgement_of(grey(0.6 + NOISE * 0.4), np.ones_like(TRUTH))
    watch = watched([look(epoch, everything) for epoch in range(1, 30)])
    assert (failure_of(watch), watch.warnings(CLASSES)) == ("", ())


def test_one_probability_for_every_pixel_is_told_from_empty_masks() -> None:
    constant = judgement_of(grey(np.full(TRUTH.shape, 0.3)), TRUTH)
    reason = failure_of(watched([look(epoch, constant) for epoch in range(1, 5)]))
    assert reason.startswith("constant_output: all pixels of the validation images had one probability in 4 looks")


def test_a_gradient_of_zero_ends_a_training_at_once() -> None:
    dead = look(1, EMPTY, gradient_norm=0.0, gradient_peak=0.0)
    assert failure_of(watched([dead])).startswith("dead_network: the gradient was exactly zero for a whole epoch; try")
    # there is nothing left to learn
    assert failure_of(watched([replace(dead, train_loss=0.0)])) == ""
    assert failure_of(watched([replace(dead, judgement=GOOD)])) == ""
    # some steps were made
    assert failure_of(watched([replace(dead, gradient_peak=1e-9)])) == ""


def two_of_three(label_mode: LabelMode) -> Judgement:
    """The first class is found where it is, the second, a few pixels of each picture, nowhere."""
    masks = np.zeros((4, 2, SIDE, SIDE), np.uint8)
    masks[:, :1] = TRUTH
    masks[:, 1, :2, 2:5] = 1
    found = np.zeros((4, SIDE, SIDE, 3), np.uint8)
    found[..., 0] = TRUTH[:, 0] * 255
    found[..., 1] = np.random.default_rng(1).integers(0, 100, (4, SIDE, SIDE))
    found[..., 2] = 120
    if label_mode == MULTICLASS:
        return judgement_of(found[..., [2, 0, 1]], masks, label_mode)
    return judgement_of(found, np.concatenate([masks, TRUTH], axis=1), label_mode)


@pytest.mark.parametrize("label_mode", [MULTILABEL, MULTICLASS])
def test_a_class_that_is_never_found_is_named(label_mode: LabelMode) -> None:
    looks = [look(epoch, two_of_three(label_mode)) for epoch in range(1, 7)]
    assert watched(looks[:5]).warnings(CLASSES) == ()
    warnings = [text for text in watched(looks).warnings(CLASSES) if "vessel" in text or "lesion" in text]
    assert len(warnings) == 1
    assert warnings[0].startswith("class_never_predicted: no pixel of lesion")
    assert "found in 6 looks in a row" in warnings[0]
    assert "try class_weight=square_root" in warnings[0]
    assert failure_of(watched(looks)) == ""


@pytest.mark.parametrize("loss", [1.3, 1e-3])
def test_a_loss_that_never_moves_is_flat(loss: float) -> None:
    looks = [look(epoch, WRONG, train_loss=loss * (1 + epoch % 2 / 1000)) for epoch in range(1, 9)]
    assert names(watched(looks)) == ["loss_flat"]
    assert names(watched(looks[1:])) == []
    assert watched(looks).warnings(CLASSES)[0].startswith(f"loss_flat: the training loss has stood at {loss:.3g} for 8")


def test_a_loss_that_came_down_and_stands_still_is_done_when_something_was_learnt() -> None:
    losses = [2.0, 1.5, *[1.2] * 8]
    done = watched([look(epoch, train_loss=loss) for epoch, loss in enumerate(losses, start=1)])
    assert names(done) == []
    learnt_nothing = watched([look(epoch, WRONG, train_loss=loss) for epoch, loss in enumerate(losses, start=1)])
    assert names(learnt_nothing) == ["loss_flat"]
    # as with a focal loss of a rare class, or of a model that was taken over: small from the start
    never_moved = watched([look(epoch, train_loss=1e-3) for epoch in range(1, 20)])
    assert names(never_moved) == []


def test_a_loss_that_goes_up_again_is_rising() -> None:
    losses = [2.0, 1.0, 0.5, 0.5, 0.5, 0.6, 0.5, 1.1, 1.5, 1.5, 1.5]
    looks = [look(epoch, train_loss=loss) for epoch, loss in enumerate(losses, start=1)]
    assert names(watched(looks[:9])) == []
    assert names(watched(looks)) == ["loss_rising"]
    assert "rose from 0.5 to 1.5; try a smaller learning_rate" in watched(looks).warnings(CLASSES)[0]


def test_masks_that_grow_worse_while_the_loss_falls_are_overfitting() -> None:
    half = judgement_of(grey(TRUTH * 0.3 + 0.3 + (NOISE - 0.5) * 0.5), TRUTH)
    looks = [look(epoch) for epoch in range(1, 6)] + [look(epoch, half) for epoch in range(6, 13)]
    watch = watched(looks)
    assert names(watch) == ["overfitting"]
    assert watch.best_epoch == 3
    # the loss does not fall any more
    assert names(watched([replace(one, train_loss=0.5) for one in looks])) == []
    # as soon as they are better again
    assert names(watched(looks + [look(epoch) for epoch in range(13, 16)])) == []


def test_validation_images_of_which_nothing_is_learnt_lag_behind() -> None:
    losses = [1.0, 0.7, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3]
    looks = [look(epoch, WRONG, train_loss=loss) for epoch, loss in enumerate(losses, start=1)]
    assert names(watched(looks)) == ["validation_lags"]
    assert names(watched([replace(one, train_loss=0.8) for one in looks[:7]])) == []
    # where nothing is found that is a fault of its own
    assert names(watched([replace(one, judgement=EMPTY) for one in looks])) == []


@pytest.mark.parametrize(
    ("at", "peak", "words"),
    [
        (4, 31.0, "reached 31 by epoch 5, where 1 was usual"),
        (0, 2e4, "reached 2e+04 by epoch 1;"),
    ],
)
def test_a_gradient_that_explodes_is_remembered(at: int, peak: float, words: str) -> None:
    looks = [look(epoch, gradient_norm=1.0, gradient_peak=5.0) for epoch in range(1, 12)]
    assert names(watched(looks)) == []
    looks[at] = replace(looks[at], gradient_peak=peak)
    watch = watched(looks)
    assert names(watch) == ["exploding_gradients"]
    assert words in watch.warnings(CLASSES)[0]


def test_early_gradients_may_be_longer_than_later_ones() -> None:
    norms = [10.0, 3.0, 1.0, *[0.1] * 8]
    looks = [look(epoch, gradient_norm=norm, gradient_peak=5 * norm) for epoch, norm in enumerate(norms, start=1)]
    assert names(watched(looks)) == []


def test_gradients_that_grow_from_next_to_nothing_do_not_explode() -> None:
    # layers that were held still wake: from 0.001 to 0.9
    held = [look(epoch, gradient_norm=1e-3, gradient_peak=2e-3) for epoch in range(1, 6)]
    assert names(watched([*held, look(6, gradient_norm=0.5, gradient_peak=0.9)])) == []
    assert names(watched([*held, look(6, gradient_norm=0.5, gradient_peak=1.1)])) == ["exploding_gradients"]


def test_long_gradients_of_the_beginning_are_not_forgotten() -> None:
    first = look(1, gradient_norm=3.0, gradient_peak=5.0)
    short = [look(epoch, gradient_norm=0.01, gradient_peak=0.05) for epoch in range(2, KEPT + 20)]
    later = look(KEPT + 20, gradient_norm=0.5, gradient_peak=50.0)
    watch = watched([first, *short])
    assert (watch.largest_norm, max(watch.norms)) == (3.0, 0.01)
    assert names(watch.after(later)) == []
    assert names(watched([*short, later])) == ["exploding_gradients"]
    assert names(watch.after(replace(later, gradient_peak=91.0))) == ["exploding_gradients"]


@pytest.mark.parametrize(
    ("move", "words"),
    [((0, 4), "17% to the right"), ((-4, 0), "17% up"), ((3, -3), "12% down and 12% to the left")],
)
def test_masks_that_lie_beside_what_is_found_are_shifted(move: tuple[int, int], words: str) -> None:
    shifted = judgement_of(grey(TRUTH), np.roll(TRUTH, move, axis=(2, 3)))
    looks = [look(epoch, shifted) for epoch in range(1, 4)]
    assert names(watched(looks[1:])) == []
    assert names(watched(looks)) == ["masks_shifted"]
    assert f"lie beside what is found: {words} of the picture; see whether" in watched(looks).warnings(CLASSES)[0]


def test_masks_that_are_shifted_by_another_way_in_each_look_are_not() -> None:
    looks = [
        look(epoch, judgement_of(grey(TRUTH), np.roll(TRUTH, move, axis=(2, 3))))
        for epoch, move in enumerate([(0, 4), (0, -4), (4, 0), (-4, 0)], start=1)
    ]
    assert names(watched(looks)) == []


def test_two_images_are_too_few_to_speak_of_a_shift() -> None:
    shifted = judgement_of(grey(TRUTH[:2]), np.roll(TRUTH[:2], (4, 0), axis=(2, 3)))
    assert "masks_shifted" not in names(watched([look(epoch, shifted) for epoch in range(1, 9)]))


def bars() -> UInt8:
    """Masks, 0 or 1 (4, 1, H, W), of bars that do not overlap."""
    apart = np.zeros((4, 1, SIDE, SIDE), np.uint8)
    for index, plane in enumerate(apart):
        plane[0, index * 6 : index * 6 + 6, (index * 5) % 12 : (index * 5) % 12 + 12] = 1
    return apart


def test_masks_of_other_images_are_named() -> None:
    apart = bars()
    exchanged = apart[[0, 3, 2, 1]]
    looks = [look(epoch, judgement_of(grey(apart), exchanged)) for epoch in range(1, 4)]
    assert names(watched(looks[1:])) == []
    assert names(watched(looks)) == ["masks_swapped"]
    (warning,) = watched(looks).warnings(CLASSES)
    assert "not by their own: picture1 by that of picture3, picture3 by that of picture1; see whether" in warning
    # each mask belongs to the image before
    around = watched([look(epoch, judgement_of(grey(apart), apart[[0, 2, 3, 1]])) for epoch in range(1, 4)])
    (warning,) = around.warnings(CLASSES)
    for one, two in ((1, 3), (2, 1), (3, 2)):
        assert f"picture{one} by that of picture{two}" in warning
    # of one image that nothing fits, nothing is said
    apart[1] = NOISE[1] > 0.5
    assert names(watched([look(epoch, judgement_of(grey(apart), apart[[0, 2, 1, 3]])) for epoch in (1, 2)])) == []


def test_an_image_in_which_another_ones_mask_is_found_as_well_has_not_been_exchanged() -> None:
    found = bars() * 0.8 + 0.1
    found[1] = bars()[3]  # surer there than in the image that it belongs to
    found[3] = bars()[3] * 0.4 + 0.1 + NOISE[3] * 0.3
    mistaken = judgement_of(grey(found), bars())
    fit = fits(look(1, mistaken).patterns)
    assert fit[1].argmax() == 3 and fit[:, 3].argmax() == 1 and fit[3, 3] > 0.6
    assert names(watched([look(epoch, mistaken) for epoch in range(1, 7)])) == []


def test_an_image_that_looks_like_another_one_in_each_look_has_not_been_exchanged() -> None:
    looks = []
    for epoch, partner in enumerate([1, 2, 3, 1, 2, 3], start=1):
        masks = bars()
        masks[[0, partner]] = masks[[partner, 0]]
        looks.append(look(epoch, judgement_of(grey(bars()), masks)))
    assert any(symptom.name == "masks_swapped" for symptom in watched(looks).symptoms)
    assert names(watched(looks)) == []


def test_a_watch_goes_through_a_file() -> None:
    shifted = judgement_of(grey(TRUTH), np.roll(TRUTH, (0, 4), axis=(2, 3)))
    looks = [look(epoch, shifted, gradient_peak=1e9 if epoch == 2 else 1.0) for epoch in range(1, 6)]
    watch = watched(looks[:2])
    again = Watch(**json.loads(json.dumps(asdict(watch))))
    assert again == watch
    assert again.symptoms
    for one in looks[2:]:
        watch, again = watch.after(one), again.after(one)
    assert again == watch
    assert names(again) == ["exploding_gradients", "masks_shifted"]


def test_every_check_says_what_to_do_on_one_line() -> None:
    for name, check in CHECKS.items():
        text = check.text(name, "something", 7)
        assert text.startswith(f"{name}: ")
        assert "\n" not in text
        assert "{" not in text
        # warnings stand side by side in a table, each with one semicolon of its own
        assert text.count("; ") == 1
