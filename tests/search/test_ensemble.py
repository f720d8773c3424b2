"""Ensembles: who is chosen, what the members answer together, and a folder that predicts like any other model's."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import search.ensemble
from data.input_error import InputError
from data.segmentation_data import MULTICLASS, MULTILABEL, SegmentationData, Split
from data.windows import place
from model.checkpoint import ENSEMBLE, ModelCard, load_model, save_model
from model.config import TrainConfig
from model.ensemble import MeanNetwork, Model, open_models, write_ensemble
from model.judge import judge
from model.losses import class_probabilities
from model.predict import main
from model.prediction import PredictionSettings, load_models, mean_thresholds, predict_picture
from search.ensemble import MARGIN, Candidate, Together, ValidationAnswers, choose_together, grow, judge_together
from search.resources import Needs
from search.trial import SharedWork
from tests.toys import colored_squares, save_png

CPU = torch.device("cpu")
TINY = TrainConfig(depth=2, width=2, precision="float32")


def card_of(data: SegmentationData, threshold: float = 0.5) -> ModelCard:
    return ModelCard.of(TINY, data, thresholds=(threshold,) * len(data.class_names))


def write_fresh(folder: Path, data: SegmentationData, *, seed: int, threshold: float = 0.5) -> Path:
    """A model folder with fresh weights that follow from the seed."""
    card = card_of(data, threshold)
    torch.manual_seed(seed)
    save_model(folder, card.build(), card, {})
    return folder


def work_of(data: SegmentationData, *splits: Split) -> SharedWork:
    return SharedWork(data=data, splits=splits, train=None, folder=Path(), needs=Needs(cpus=1, gpus=0))


class Says(torch.nn.Module):
    """Answers these logits everywhere, one for each plane."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[:, None, None].expand(len(images), -1, *images.shape[2:])


class SeesRed(torch.nn.Module):
    """Finds what is red, but for a fault: each `tilt` of a logit where rows and columns are both even or odd."""

    def __init__(self, tilt: float = 0.0, blind: bool = False) -> None:
        super().__init__()
        self.tilt, self.blind = tilt, blind

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = torch.where(images[:, :1] > 140, 2.0, -2.0)
        rows, columns = (torch.arange(side) for side in images.shape[2:])
        checks = ((rows[:, None] + columns) % 2 * 2 - 1).float()
        return torch.full_like(found, -9.0) if self.blind else found + self.tilt * checks


def test_the_greedy_choice_is_as_worked_out_by_hand() -> None:
    # Each answer is off by so much; together they are off by the mean.
    off = (1.0, -1.0, 0.3)

    def score(weights: tuple[int, ...]) -> float:
        return -abs(sum(weight * one for weight, one in zip(weights, off, strict=True)) / sum(weights))

    # The third alone (0.3), twice (0.3), then with the second (0.4 / 3), and once more itself (0.1 / 4). A fifth time
    # it would be off by 0.2 / 5.
    assert grow(3, score, rounds=1) == grow(3, score, rounds=2) == (0, 0, 1)
    assert grow(3, score, rounds=3) == (0, 1, 2)
    assert grow(3, score, rounds=4) == grow(3, score, rounds=5) == (0, 1, 3)
    assert grow(2, lambda weights: 0.5) == (1, 0), "of equals the first alone"


@pytest.mark.parametrize("probabilities", [(0.0, 1.0), (0.2, 0.9)], ids=str)
def test_a_mean_of_overlapping_classes_is_that_of_the_probabilities(probabilities: tuple[float, float]) -> None:
    data = colored_squares("binary")
    first, second = (Says(float(torch.tensor(value).logit())) for value in probabilities)
    mean = MeanNetwork([Model(first, card_of(data), 3.0), Model(second, card_of(data), 1.0)])  # type: ignore[arg-type]
    found = class_probabilities(mean(torch.zeros(2, 3, 4, 4)), MULTILABEL)
    assert found.shape == (2, 1, 4, 4)
    assert found.numpy() == pytest.approx((3 * probabilities[0] + probabilities[1]) / 4, abs=1e-6)


def test_a_mean_of_classes_that_exclude_each_other_keeps_the_background() -> None:
    data = colored_squares("multiclass")
    sure, unsure = Says(-200.0, 200.0, -200.0), Says(0.0, 0.0, 0.0)
    mean = MeanNetwork([Model(sure, card_of(data)), Model(unsure, card_of(data))])  # type: ignore[arg-type]
    logits = mean(torch.zeros(1, 3, 2, 2))
    # The mean of (0, 1, 0) and (1/3, 1/3, 1/3).
    assert logits.softmax(dim=1)[0, :, 0, 0].tolist() == pytest.approx([1 / 6, 2 / 3, 1 / 6], abs=1e-6)
    certain = MeanNetwork([Model(sure, card_of(data)), Model(sure, card_of(data))])  # type: ignore[arg-type]
    assert class_probabilities(certain(torch.zeros(1, 3, 2, 2)), MULTICLASS)[0, :, 0, 0].tolist() == [1, 0]


def test_one_network_alone_answers_as_it_is() -> None:
    data = colored_squares("binary")
    model = Model(card_of(data).build(), card_of(data))
    images = torch.from_numpy(data.images.transpose(0, 3, 1, 2).copy())
    assert torch.equal(MeanNetwork([model])(images), model.network(images))


def answers(*candidates: list[float]) -> ValidationAnswers:
    """Answers for one image of a row of pixels, of which the first two are of the class."""
    width = len(candidates[0])
    masks = torch.zeros(1, 1, 1, width, dtype=torch.uint8)
    masks[..., :2] = 1
    return ValidationAnswers(
        probabilities=tuple(torch.tensor(one).half()[None, None, None] for one in candidates),
        masks=masks,
        valid=torch.ones(1, 1, 1, width, dtype=torch.uint8),
        label_mode=MULTILABEL,
    )


def test_the_dice_of_a_mean_is_as_worked_out_by_hand() -> None:
    found = answers([0.9, 0.1, 0.6, 0.1], [0.1, 0.9, 0.1, 0.6], [0.5, 0.5, 0.0, 0.0])
    # The first alone: from 0.9 on it finds one of two (2/3); from 0.1 all (2/3).
    assert found.dice((1, 0, 0)) == pytest.approx(2 / 3)
    assert found.dice((1, 1, 0)) == 1.0
    assert found.dice((0, 0, 5)) == 1.0
    # 0.9 and twice 0.1 and so on: 0.37, 0.63, 0.27, 0.43; the best is from 0.37 on, 2 x 2 / (2 x 2 + 1).
    assert found.dice((1, 2, 0)) == pytest.approx(0.8)
    outside = replace(found, valid=torch.tensor([[[[1, 1, 0, 1]]]], dtype=torch.uint8))
    assert outside.dice((1, 0, 0)) == pytest.approx(0.8), "what does not count is not looked at"


def test_the_dice_of_a_mean_of_exclusive_classes_goes_by_the_likeliest() -> None:
    masks = torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=torch.uint8)[None, :, None]  # (1, 2, 1, 3)
    first = torch.tensor([[0.8, 0.6, 0.1], [0.1, 0.3, 0.1]]).half()[None, :, None]
    second = torch.tensor([[0.8, 0.0, 0.6], [0.1, 0.9, 0.1]]).half()[None, :, None]
    valid = torch.ones(1, 1, 1, 3, dtype=torch.uint8)
    found = ValidationAnswers(probabilities=(first, second), masks=masks, valid=valid, label_mode=MULTICLASS)
    # The first takes the second pixel for the first class: 2 / 3 and 0. Together they are right everywhere.
    assert found.dice((1, 0)) == pytest.approx(1 / 3)
    assert found.dice((1, 1)) == 1.0


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.nn.Module]:
    """Networks by the names of the folders in which they are found."""
    known: dict[str, torch.nn.Module] = {}
    data = colored_squares("binary")

    def load(folder: Path, device: object) -> tuple[torch.nn.Module, ModelCard]:
        return known[str(folder)], card_of(data)

    monkeypatch.setattr(search.ensemble, "load_model", load)
    return known


@pytest.mark.parametrize("room", [2**27, 1], ids=["all images", "one image"])
def test_faults_that_cancel_each_other_make_an_ensemble(
    networks: dict[str, torch.nn.Module], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(search.ensemble, "LARGEST_TABLE", room)
    data = colored_squares("binary", count=8)
    work = work_of(data, Split(train=(0, 1, 2), validation=(3, 4, 5), test=(6, 7)))
    networks |= {"blind": SeesRed(blind=True), "one": SeesRed(-3.0), "other": SeesRed(3.0)}
    candidates = [Candidate(name=name, folders=(Path(name),)) for name in networks]
    found = choose_together(candidates, work)
    assert found.wins
    assert (found.weights, found.dice) == ((0, 1, 1), 1.0)
    assert found.single_dice == judge_together(candidates, (0, 1, 0), work)[1] < 0.9
    assert candidates[found.single].name == "one"
    alone = choose_together(candidates[1:2] * 2, work)
    assert not alone.wins, "twice the same is no better"


def test_a_gain_within_the_margin_is_not_worth_it() -> None:
    together = Together(weights=(1, 1), thresholds=(0.5,), dice=0.8 + MARGIN, single=0, single_dice=0.8)
    assert not together.wins
    assert replace(together, dice=0.8 + MARGIN + 1e-9).wins
    assert not replace(together, dice=0.9, weights=(3, 0)).wins


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_with_folds_each_image_is_judged_by_who_has_not_learnt_from_it(
    networks: dict[str, torch.nn.Module], task: str
) -> None:
    data = colored_squares(task)
    if task == "multiclass":
        # One class less: all that is green counts as background.
        data = replace(
            data, masks=data.masks[:, :1], class_names=("red",), statistics=colored_squares("binary").statistics
        )
    first = Split(train=(4, 5), validation=(0, 1, 2, 3))
    work = work_of(data, first, Split(train=(0, 1, 2, 3), validation=(4, 5)))
    networks |= {"a/fold-1": SeesRed(), "a/fold-2": SeesRed(blind=True)}
    if task == "multiclass":
        networks |= {name: WithBackground(network) for name, network in networks.items()}
    candidates = [Candidate(name="a", folders=(Path("a/fold-1"), Path("a/fold-2")))]
    found = data.masks[[0, 1, 2, 3]].sum()
    missed = data.masks[[4, 5]].sum()
    expected = 2 * found / (2 * found + missed)
    assert judge_together(candidates, (1,), work)[1] == pytest.approx(expected, abs=0.02)
    assert choose_together(candidates, work).dice == pytest.approx(expected, abs=0.02)


class WithBackground(torch.nn.Module):
    """A network of one class as one of a class and the background."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(images)
        return torch.cat([torch.zeros_like(found), found], dim=1)


def test_the_dice_of_one_is_that_of_its_own_judgement(tmp_path: Path) -> None:
    data = colored_squares("multilabel")
    split = Split(train=(0, 1, 2), validation=(3, 4, 5))
    folder = write_fresh(tmp_path / "one", data, seed=1)
    judged = judge(load_model(folder)[0], place(data, split.validation, CPU), MULTILABEL, bfloat16=False)
    thresholds, dice = judge_together([Candidate(name="one", folders=(folder,))], (4,), work_of(data, split))
    assert (thresholds, dice) == (judged.thresholds, judged.scores().dice)


@pytest.fixture
def ensemble(tmp_path: Path) -> Path:
    """An ensemble of two fresh models, the first of which counts twice."""
    data = colored_squares("binary")
    first, second = (write_fresh(tmp_path / f"model{seed}", data, seed=seed, threshold=0.9) for seed in (0, 1))
    write_ensemble(tmp_path / "both", {"first": (first, 2), "second": (second, 1)}, (0.4,))
    return tmp_path / "both"


def test_an_ensemble_answers_as_its_members_do_together(ensemble: Path) -> None:
    image = colored_squares("binary").images[0]
    first, second = (
        predict_picture(load_models([ensemble / name], PredictionSettings(), CPU), image, PredictionSettings(), CPU)
        for name in ("first", "second")
    )
    models = load_models([ensemble], PredictionSettings(), CPU)
    both = predict_picture(models, image, PredictionSettings(), CPU)
    expected = (2 * first.probabilities + second.probabilities) / 3
    assert both.probabilities == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(both.planes, both.probabilities >= np.float32(0.4))
    assert mean_thresholds(models) == pytest.approx((0.4,))
    # On prepared pictures, as it is judged, it answers the same.
    pixels = torch.from_numpy(image.transpose(2, 0, 1)[None].copy())
    judged = MeanNetwork(models)(pixels).sigmoid()[0]
    assert judged.detach().numpy() == pytest.approx(expected, abs=1e-6)


def test_beside_another_model_an_ensemble_counts_as_one(ensemble: Path) -> None:
    image, settings = colored_squares("binary").images[0], PredictionSettings()
    alone, other, together = (
        predict_picture(load_models(folders, settings, CPU), image, settings, CPU)
        for folders in ([ensemble], [ensemble / "first"], [ensemble, ensemble / "first"])
    )
    assert together.probabilities == pytest.approx((alone.probabilities + other.probabilities) / 2, abs=1e-6)
    assert mean_thresholds(load_models([ensemble, ensemble / "first"], settings, CPU)) == pytest.approx((0.65,))


def test_the_command_predicts_with_an_ensemble(ensemble: Path, tmp_path: Path) -> None:
    data = colored_squares("binary")
    save_png(tmp_path / "new/one.png", data.images[0])
    shutil.rmtree(tmp_path / "model0")  # its members are copies
    settings = PredictionSettings()
    assert main(ensemble, tmp_path / "new", output=tmp_path / "out", device="cpu", settings=settings) == 0
    found = predict_picture(load_models([ensemble], settings, CPU), data.images[0], settings, CPU)
    with Image.open(tmp_path / "out/masks/one.png") as mask:
        assert np.array_equal(np.asarray(mask) > 0, found.planes[0])


def test_a_new_ensemble_takes_the_place_of_the_old_one(ensemble: Path, tmp_path: Path) -> None:
    write_ensemble(ensemble, {"only": (tmp_path / "model1", 1)}, (0.3,))
    assert sorted(path.name for path in ensemble.iterdir()) == [ENSEMBLE, "only"]
    assert [model.card.thresholds for model in open_models(ensemble)] == [(0.3,)]


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda entries: entries.pop(name)


def with_members(members: object) -> Callable[[dict[str, Any]], None]:
    return lambda entries: entries.update(members=members)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("members"), "members is missing"),
        (without("thresholds"), "thresholds is missing"),
        (with_members(["first"]), "members a list must be names with values"),
        (with_members({}), "names no members"),
        (with_members({"../model0": 1}), "member '../model0' makes no file name"),
        (with_members({"first": 0}), "the weight 0"),
        (with_members({"first": float("nan")}), "members nan must be a finite number"),
        (with_members({"gone": 1}), "does not exist"),
        (lambda entries: entries.update(thresholds=[2.0]), "a threshold that is not from 0 to 1"),
        (lambda entries: entries.update(thresholds=[0.5, 0.5]), "2 thresholds for 1 classes"),
    ],
)
def test_an_ensemble_that_is_not_whole_is_refused(ensemble: Path, spoil: Any, message: str) -> None:
    entries = yaml.safe_load((ensemble / ENSEMBLE).read_text())
    spoil(entries)
    (ensemble / ENSEMBLE).write_text(yaml.safe_dump(entries))
    with pytest.raises(InputError, match=message):
        open_models(ensemble)


def test_where_one_model_is_needed_an_ensemble_names_its_members(ensemble: Path) -> None:
    with pytest.raises(InputError, match="is an ensemble, but one model is needed: give one of first, second"):
        load_model(ensemble)


def test_members_of_other_classes_are_refused(ensemble: Path, tmp_path: Path) -> None:
    shutil.rmtree(ensemble / "second")
    write_fresh(ensemble / "second", colored_squares("multilabel"), seed=0)
    with pytest.raises(InputError, match="'second' has other classes"):
        open_models(ensemble)
