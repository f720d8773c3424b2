"""`python -m model.predict`: masks and overlays of new pictures of any size, and one line for every mistake."""

import csv
import os
import pty
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image

from data.field_of_view import find_field_of_view
from data.input_error import InputError
from data.masks import read_grey, read_index
from data.overlay import class_color, draw_overlay
from data.pictures import read_color
from data.readers import load
from data.segmentation_data import MULTICLASS, Preparation, SegmentationData, UInt8
from data.synthetic import draw_retina
from model import prediction
from model.checkpoint import WEIGHTS, ModelCard, load_model, save_model
from model.ensemble import Model
from model.predict import find_pictures
from model.prediction import Prediction, PredictionSettings, predict_picture
from model.train import BEST, train
from tests.model.test_train import QUICK
from tests.toys import TASKS, colored_squares, save_png, split_in_two, write_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=TASKS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A task, and a model that has learnt it."""
    task: str = request.param
    data = colored_squares(task, count=10)
    folder = tmp_path_factory.mktemp(task)
    for _ in train(QUICK, data, split_in_two(data), folder=folder):
        pass
    return task, folder / BEST


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    """A model folder with fresh weights."""
    return write_fresh(tmp_path / "model", "binary")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    save_png(tmp_path / "pictures" / "one.png", colored_squares("binary").images[0])
    return tmp_path / "pictures"


def write_fresh(folder: Path, task: str, *, seed: int = 0, dropout: float = 0.0) -> Path:
    """A model folder for a task, with fresh weights that follow from the seed."""
    data = colored_squares(task)
    card = ModelCard.of(replace(QUICK, width=2, dropout=dropout), data, thresholds=(0.5,) * len(data.class_names))
    torch.manual_seed(seed)
    save_model(folder, card.build(), card, {})
    return folder


class Answers(torch.nn.Module):
    """Stands for a network of one class: finds one of these probabilities everywhere, at each look the next."""

    def __init__(self, *probabilities: float) -> None:
        super().__init__()
        self.probabilities, self.looks, self.seen = probabilities, 0, torch.zeros(0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = images
        found = torch.tensor(self.probabilities[self.looks % len(self.probabilities)])
        self.looks += 1
        return found.logit().expand(len(images), 1, *images.shape[2:])


def card_with(threshold: float, preparation: Preparation | None = None, task: str = "binary") -> ModelCard:
    data = colored_squares(task)
    thresholds = (threshold,) * len(data.class_names)
    return ModelCard.of(
        replace(QUICK, width=2), replace(data, preparation=preparation or Preparation()), thresholds=thresholds
    )


def predict(*models: tuple[torch.nn.Module, ModelCard], image: UInt8 | None = None, **settings: object) -> Prediction:
    """What models find in a picture, in a grey one of 8 x 6 where none is given."""
    shown = np.full((6, 8, 3), 90, np.uint8) if image is None else image
    opened = [Model(*model) for model in models]  # type: ignore[arg-type]
    return predict_picture(opened, shown, PredictionSettings(**settings), CPU)  # type: ignore[arg-type]


def read_areas(output: Path) -> list[dict[str, str]]:
    with (output / "areas.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def dice(found: UInt8, truth: UInt8) -> float:
    """Dice of 0/1 planes, all pixels pooled."""
    return float(2 * (found * truth).sum() / (found.sum() + truth.sum()))


def shape_of(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height) of a picture file."""
    with Image.open(path) as picture:
        return picture.mode, picture.size


def read_planes(masks: Path, name: str, data: SegmentationData) -> UInt8:
    """The planes (K, H, W) that the written masks of one picture hold."""
    classes = len(data.class_names)
    if data.label_mode == MULTICLASS:
        index = read_index(masks / f"{name}.png")
        return np.stack([index == rank for rank in range(1, classes + 1)]).astype(np.uint8)
    paths = [masks / f"{name}.png"] if classes == 1 else [masks / label / f"{name}.png" for label in data.class_names]
    planes = [read_grey(path) for path in paths]
    assert all(set(np.unique(plane)) <= {0, 255} for plane in planes)
    return np.stack(planes) // 255


def test_a_folder_of_pictures_becomes_masks_and_overlays_that_data_reads_again(
    trained: tuple[str, Path], run_module: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, model = trained
    data = colored_squares(task, count=3, seed=7)
    folder = write_folder(tmp_path / "new", data)
    output = tmp_path / "out" / "masks-of-today"
    assert run_module("model.predict", model, folder / "images", "--output", output, "--device", "cpu") == 0
    assert sorted(path.name for path in output.iterdir()) == ["areas.csv", "masks", "overlays"]

    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    for number, name in enumerate(data.names, start=1):
        planes = read_planes(output / "masks", name, data)
        assert dice(planes, data.masks[number - 1]) > 0.9
        shares = ", ".join(f"{label} {plane.mean():.1%}" for label, plane in zip(data.class_names, planes, strict=True))
        assert lines[number - 1] == f"{number}/3  {name}: {shares} of the picture"
        overlay = read_color(output / "overlays" / f"{name}.png")
        assert np.array_equal(overlay, draw_overlay(data.images[number - 1], planes.astype(bool)))
    assert shown.err == ""
    assert lines[-2].startswith(f"overlays:      {output / 'overlays'} ({data.class_names[0]} sky blue")
    assert lines[-1] == f"areas:         {output / 'areas.csv'}"

    # The masks, laid beside their pictures, are a data set again.
    (folder / "masks").rename(tmp_path / "true-masks")
    (output / "masks").rename(folder / "masks")
    again = load(str(folder))
    assert again.label_mode == data.label_mode
    assert again.masks.shape == data.masks.shape
    assert dice(again.masks, data.masks) > 0.9


def test_pictures_of_any_size_kind_and_number_of_tiles(
    trained: tuple[str, Path], run_module: Callable[..., int], tmp_path: Path
) -> None:
    task, model = trained
    data = colored_squares(task, count=1, side=96, seed=3)
    images, output = tmp_path / "images", tmp_path / "out"
    save_png(images / "large.png", data.images[0])
    save_png(images / "narrow.bmp", data.images[0, :, 20:27])
    save_png(images / "dot.tif", data.images[0, :1, :1])
    save_png(images / "grey.ppm", data.images[0, :30, :33, 0])
    (images / "notes.txt").write_text("no picture", encoding="utf-8")
    small_tiles = ["--tile", 40, "--overlap", 16]
    assert run_module("model.predict", model, images, "--output", output, "--device", "cpu", *small_tiles) == 0
    for name, size in {"large": (96, 96), "narrow": (7, 96), "dot": (1, 1), "grey": (33, 30)}.items():
        written = [*output.rglob(f"{name}.png")]
        assert len(written) == (3 if task == "multilabel" else 2)
        assert {shape_of(path)[1] for path in written} == {size}
    assert dice(read_planes(output / "masks", "large", data), data.masks[0]) > 0.9


def test_masks_are_written_in_the_mode_of_their_task(
    trained: tuple[str, Path], run_module: Callable[..., int], tmp_path: Path
) -> None:
    task, model = trained
    save_png(tmp_path / "a.png", colored_squares(task, count=1).images[0])
    assert run_module("model.predict", model, tmp_path / "a.png", "--output", tmp_path, "--device", "cpu") == 0
    modes = {str(path.relative_to(tmp_path)): shape_of(path)[0] for path in tmp_path.rglob("*/*.png")}
    assert (
        modes
        == {
            "binary": {"masks/a.png": "L", "overlays/a.png": "RGB"},
            "multilabel": {"masks/class0/a.png": "L", "masks/class1/a.png": "L", "overlays/a.png": "RGB"},
            "multiclass": {"masks/a.png": "P", "overlays/a.png": "RGB"},
        }[task]
    )
    if task == "multiclass":
        with Image.open(tmp_path / "masks" / "a.png") as mask:
            palette = np.array(mask.getpalette()).reshape(-1, 3)
        assert [tuple(color) for color in palette[:3]] == [(0, 0, 0), class_color(0), class_color(1)]


@pytest.mark.parametrize("preparation", [Preparation(size=16), Preparation(color="grey")], ids=str)
def test_a_picture_goes_through_the_preparation_of_the_model_and_comes_back_in_its_own_size(
    preparation: Preparation,
) -> None:
    class Bright(torch.nn.Module):
        """Finds what is bright, and remembers what it was shown."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.seen = images
            return (images.mean(dim=1, keepdim=True) - 127.5) / 10

    image = np.zeros((40, 64, 3), np.uint8)
    image[8:24, 16:48] = 255
    network = Bright()
    planes = predict((network, card_with(0.5, preparation)), image=image).planes
    # 64 x 40 fits into 16 x 16 as 16 x 10
    assert network.seen.shape == ((1, 3, 10, 16) if preparation.color == "rgb" else (1, 1, 40, 64))
    assert dice(planes[0], image[..., 0] // 255) > (0.9 if preparation.size == 16 else 0.999)


def test_each_class_has_the_threshold_of_the_card() -> None:
    network = card_with(0.5, task="multilabel").build()
    image = colored_squares("multilabel").images[0]
    shares = [
        predict((network, replace(card_with(0.5, task="multilabel"), thresholds=pair)), image=image).planes.mean(
            axis=(1, 2)
        )
        for pair in ((0.0, 1.0), (1.0, 0.0))
    ]
    assert [share.tolist() for share in shares] == [[1, 0], [0, 1]]


@pytest.mark.parametrize(("threshold", "found"), [(None, False), (0.6, True), (0.61, False)])
def test_a_threshold_that_is_given_takes_the_place_of_the_models_own(threshold: float | None, found: bool) -> None:
    assert predict((Answers(0.6000001), card_with(0.7)), threshold=threshold).planes.all() == found


def test_nothing_is_found_outside_a_field_of_view_that_was_found() -> None:
    card = card_with(0.0, task="multilabel")
    network, retina = card.build(), draw_retina(seed=0, size=96, red=False, bright=False)
    assert predict((network, card), image=retina.image).planes.all()
    inside = find_field_of_view(retina.image).astype(bool)
    narrow = replace(card, preparation=replace(card.preparation, field_of_view="found"))
    for models in ([(network, narrow)], [(network, card), (network, narrow)]):
        seen = predict(*models, image=retina.image)
        assert all(np.array_equal(plane, inside) for plane in seen.planes)
        assert all(np.array_equal(plane > 0, inside) for plane in seen.probabilities)
    assert 0.5 < inside.mean() < 1


def test_models_are_averaged_each_with_its_own_preparation() -> None:
    small, large = Answers(0.9), Answers(0.3)
    models = (
        (small, card_with(0.7, Preparation(size=8, color="grey"))),
        (large, card_with(0.4, Preparation(size="native"))),
    )
    seen = predict(*models, image=np.full((20, 30, 3), 90, np.uint8))
    assert small.seen.shape == (1, 1, 5, 8)
    assert large.seen.shape == (1, 3, 20, 30)
    assert seen.probabilities.shape == (1, 20, 30)
    # The mean of 0.9 and 0.3 is 0.6, that of the thresholds 0.55.
    assert seen.probabilities == pytest.approx(0.6, abs=1e-6)
    assert seen.planes.all()
    assert seen.deviation is None
    assert not predict((small, card_with(0.7)), (large, card_with(0.7))).planes.any()


def test_the_spread_over_passes_is_as_worked_out_by_hand() -> None:
    network = Answers(0.1, 0.4, 0.7)
    seen = predict((network, card_with(0.5)), uncertainty=3)
    assert network.looks == 3
    assert seen.probabilities == pytest.approx(0.4, abs=1e-6)
    # The squares of -0.3, 0 and 0.3 come to 0.18; a third of that is 0.06.
    assert seen.deviation == pytest.approx(0.06**0.5, abs=1e-6)
    two = predict((Answers(0.2, 0.4), card_with(0.5)), (Answers(0.6, 0.8), card_with(0.5)), uncertainty=2)
    # Over both models: -0.3, -0.1, 0.1, 0.3, whose squares come to 0.2.
    assert two.deviation == pytest.approx(0.05**0.5, abs=1e-6)


def test_mirrored_pictures_are_averaged() -> None:
    class Ramp(torch.nn.Module):
        """Finds probability 0 at the left, rising to 1 at the right."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            ramp = torch.linspace(0, 1, images.shape[3]).clamp(1e-4, 1 - 1e-4).logit()
            return ramp.expand(len(images), 1, *images.shape[2:])

    assert predict((Ramp(), card_with(0.5))).probabilities.std() > 0.3
    assert predict((Ramp(), card_with(0.5)), mirror=True).probabilities == pytest.approx(0.5, abs=1e-5)


class DroppedChannels(torch.nn.Module):
    """Finds the share of its 32 channels that are left, and remembers which those are at each look."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout2d(0.5)
        self.left: list[tuple[bool, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        channels = self.dropout(torch.ones(len(images), 32, *images.shape[2:]))
        self.left.append(tuple((channels[0, :, 0, 0] > 0).tolist()))
        share: torch.Tensor = channels.mean(dim=1, keepdim=True) / 2
        return share.clamp(1e-4, 1 - 1e-4).logit()


def test_all_tiles_and_mirrored_pictures_of_a_pass_drop_the_same_channels() -> None:
    first, second = DroppedChannels(), DroppedChannels()
    image = np.full((40, 60, 3), 90, np.uint8)  # six tiles of 32 by 32
    before = torch.get_rng_state()
    seen = predict((first, card_with(0.5)), (second, card_with(0.5)), image=image, uncertainty=3, mirror=True, tile=32)
    assert torch.equal(torch.get_rng_state(), before)
    looks = 6 * 4
    passes = [network.left[start : start + looks] for network in (first, second) for start in (0, looks, 2 * looks)]
    assert len(first.left) == len(second.left) == 3 * looks
    assert [len(set(one)) for one in passes] == [1] * 6
    assert len({one[0] for one in passes}) == 6
    shares = [sum(one[0]) / 32 for one in passes]
    assert seen.probabilities == pytest.approx(np.mean(shares), abs=1e-4)
    assert seen.deviation == pytest.approx(np.std(shares), abs=1e-4)
    # Nothing stays behind that would make later looks the same.
    assert len({tuple(first.train().dropout(torch.ones(1, 32, 1, 1)).flatten().tolist()) for _ in range(3)}) == 3


def test_mirrored_pictures_and_tiles_are_as_unsure_as_one_picture() -> None:
    data = colored_squares("binary", side=64)
    config = replace(QUICK, width=4, dropout=0.5, dropout_place="blocks")
    card = ModelCard.of(config, data, thresholds=(0.5,))
    model = card.build(), card
    views: list[dict[str, object]] = [{}, {"mirror": True}, {"tile": 32}, {"tile": 32, "overlap": 24}]
    plain, *others = [
        float(deviation.mean())
        for view in views
        if (deviation := predict(model, image=data.images[0], uncertainty=8, **view).deviation) is not None
    ]
    assert plain > 1e-3
    assert others == pytest.approx([plain] * 3, rel=0.25)


@pytest.mark.parametrize(("tile", "overlap"), [(1024, 128), (256, 128), (255, 127), (64, 32), (32, 16)])
def test_every_tile_that_is_allowed_goes_without_naming_an_overlap(tile: int, overlap: int) -> None:
    assert PredictionSettings(tile=tile).shared_pixels == overlap
    assert PredictionSettings(tile=tile, overlap=3).shared_pixels == 3


class Failing(torch.nn.Module):
    """Fails at each look."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), MemoryError()],
    ids=["torch", "numpy"],
)
@pytest.mark.parametrize(
    ("size", "tile", "advice"),
    [
        (256, 1024, "choose a --tile below 100"),
        (256, 48, "choose a --tile below 48"),
        (40, 1024, "choose a --tile below 40"),
        (256, 33, "choose a --tile below 33"),
        (256, 32, "shrink it, or train a model with a smaller --size"),
        (24, 1024, "shrink it, or train a model with a smaller --size"),
    ],
)
def test_too_little_memory_is_told_with_what_to_do(error: Exception, size: int, tile: int, advice: str) -> None:
    model, image = (Failing(error), card_with(0.5, Preparation(size=size))), np.zeros((60, 100, 3), np.uint8)
    with pytest.raises(InputError) as refused:
        predict(model, image=image, tile=tile)
    assert str(refused.value) == f"a picture of 100 x 60 pixels needs more memory than cpu has: {advice}."


def test_too_little_memory_around_the_network_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> UInt8:
        raise MemoryError("Unable to allocate 3 GiB")

    card = card_with(0.5, replace(Preparation(), field_of_view="found"))
    for name in ("fit_image", "find_field_of_view"):
        with monkeypatch.context() as patch, pytest.raises(InputError, match="needs more memory than cpu has"):
            patch.setattr(prediction, name, fail)
            predict((Answers(0.5), card))


def test_a_mistake_of_ours_is_not_taken_for_too_little_memory() -> None:
    with pytest.raises(RuntimeError, match="another mistake"):
        predict((Failing(RuntimeError("another mistake")), card_with(0.5)))


def test_pictures_are_found_by_name_and_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.ppm.gz", "readme.md", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_pictures(tmp_path)] == ["a.JPG", "b.png", "c.ppm.gz"]
    assert find_pictures(tmp_path / "b.png") == [tmp_path / "b.png"]


def test_a_missing_model_is_refused(refusal: Callable[..., str], pictures: Path, tmp_path: Path) -> None:
    words = refusal("model.predict", tmp_path / "nowhere", pictures, "--output", tmp_path / "out")
    assert f"model {str(tmp_path / 'nowhere')!r} does not exist" in words
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_refused(
    refusal: Callable[..., str], untrained: Path, pictures: Path, tmp_path: Path
) -> None:
    content = (untrained / WEIGHTS).read_bytes()
    (untrained / WEIGHTS).write_bytes(content[: len(content) // 2])
    words = refusal("model.predict", untrained, pictures, "--output", tmp_path / "out")
    assert f"{str(untrained / WEIGHTS)!r} is damaged" in words
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_of_pictures_is_refused(refusal: Callable[..., str], untrained: Path, tmp_path: Path) -> None:
    words = refusal("model.predict", untrained, tmp_path / "nothing", "--output", tmp_path / "out")
    assert f"images {str(tmp_path / 'nothing')!r} do not exist" in words
    assert not (tmp_path / "out").exists()


def test_a_folder_without_pictures_is_refused(refusal: Callable[..., str], untrained: Path, tmp_path: Path) -> None:
    words = refusal("model.predict", untrained, untrained, "--output", tmp_path / "out")
    assert "hold no picture" in words
    assert not (tmp_path / "out").exists()


def test_two_pictures_of_one_name_are_refused(
    refusal: Callable[..., str], untrained: Path, pictures: Path, tmp_path: Path
) -> None:
    save_png(pictures / "one.bmp", np.zeros((8, 8, 3), np.uint8))
    words = refusal("model.predict", untrained, pictures, "--output", tmp_path / "out")
    assert "hold two pictures called 'one'" in words
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("alone", [True, False])
def test_a_truncated_picture_is_refused_by_its_name(
    refusal: Callable[..., str], untrained: Path, pictures: Path, tmp_path: Path, alone: bool
) -> None:
    content = (pictures / "one.png").read_bytes()
    (pictures / "half.png").write_bytes(content[: len(content) // 2])
    images = pictures / "half.png" if alone else pictures
    words = refusal("model.predict", untrained, images, "--output", tmp_path / "out")
    assert f"picture {str(pictures / 'half.png')!r} cannot be read" in words


def test_an_output_that_cannot_be_written_is_refused(
    refusal: Callable[..., str], untrained: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    words = refusal("model.predict", untrained, pictures, "--output", tmp_path / "file")
    assert f"output {str(tmp_path / 'file')!r} cannot be written" in words
    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "cuda:99"], "device 'cuda:99'"),
        (["--tiles", "3"], "--tiles"),
        (["--tile", "3"], "tile 3 must be 32 pixels or more"),
        (["--tile", "64", "--overlap", "64"], "overlap 64 must be from 0 to below the tile, 64"),
        (["--overlap", "-1"], "overlap -1 must be from 0 to below the tile, 1024"),
        (["--threshold", "1.5"], "threshold 1.5 must be from 0 to 1"),
        (["--threshold", "nan"], "threshold nan must be from 0 to 1"),
        (["--uncertainty", "1"], "uncertainty 1 must be 2 or more passes"),
        (["--uncertainty", "4"], "uncertainty needs a model with dropout"),
        (["--also", "nowhere"], "model 'nowhere' does not exist"),
    ],
    ids=str,
)
def test_options_that_are_wrong_are_refused(
    refusal: Callable[..., str], untrained: Path, pictures: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    assert words in refusal("model.predict", untrained, pictures, "--output", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_models_of_other_classes_are_refused(
    refusal: Callable[..., str], untrained: Path, pictures: Path, tmp_path: Path
) -> None:
    other = write_fresh(tmp_path / "other", "multilabel")
    words = refusal("model.predict", untrained, pictures, "--also", other, "--output", tmp_path / "out")
    assert (
        f"model {str(other)!r} knows class0, class1 (multilabel), but {str(untrained)!r} class0 (multilabel)" in words
    )


def test_a_threshold_for_classes_that_exclude_each_other_is_refused(
    refusal: Callable[..., str], pictures: Path, tmp_path: Path
) -> None:
    model = write_fresh(tmp_path / "model", "multiclass")
    words = refusal("model.predict", model, pictures, "--threshold", "0.4", "--output", tmp_path / "out")
    assert "threshold 0.4 has no meaning" in words


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_maps_and_areas_are_written_and_are_the_same_again(
    run_module: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    data = colored_squares(task, count=2, side=48)
    for name, image in zip(data.names, data.images, strict=True):
        save_png(tmp_path / "new" / f"{name}.png", image[:40])
    models = [write_fresh(tmp_path / f"model{seed}", task, seed=seed, dropout=0.5) for seed in (0, 1)]
    options = ["--also", models[1], "--uncertainty", 3, "--mirror", "--probabilities", "--device", "cpu"]
    for output in (tmp_path / "once", tmp_path / "again"):
        assert run_module("model.predict", models[0], tmp_path / "new", "--output", output, *options) == 0
    once, again = (
        {p.relative_to(out): p.read_bytes() for p in out.rglob("*.*")} for out in (tmp_path / "once", output)
    )
    assert once == again
    assert f"uncertainty:   {output / 'uncertainty'}" in capsys.readouterr().out

    rows = read_areas(output)
    assert [row["name"] for row in rows] == list(data.names)
    for row in rows:
        planes = read_planes(output / "masks", row["name"], data)
        for label, plane in zip(data.class_names, planes, strict=True):
            inside = Path() if task == "binary" else Path(label)
            found, spread = (
                np.asarray(Image.open(output / kind / inside / f"{row['name']}.png"))
                for kind in ("probabilities", "uncertainty")
            )
            assert (found.dtype, found.shape) == (np.uint16, (40, 48))
            if task == "binary":
                assert np.array_equal(found >= 32768, plane.astype(bool))
            assert int(row[f"{label}_pixels"]) == plane.sum()
            assert float(row[f"{label}_share"]) == pytest.approx(plane.mean(), rel=1e-5)
            assert float(row[f"{label}_uncertainty"]) == pytest.approx(spread.mean() / 65535, abs=2e-5)
            assert spread.max() > 0
        assert (row["width"], row["height"]) == ("48", "40")


def test_many_pictures_are_summed_up_in_a_few_lines(
    run_module: Callable[..., int], untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(41):
        save_png(tmp_path / "new" / f"{number:02}.png", np.full((4, 4, 3), number, np.uint8))
    assert (
        run_module("model.predict", untrained, tmp_path / "new", "--output", tmp_path / "out", "--device", "cpu") == 0
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if "/41  " in line]
    assert [line.split("/")[0] for line in lines] == [str(number) for number in (*range(3, 40, 3), 41)]
    assert len(read_areas(tmp_path / "out")) == 41


def test_a_terminal_shows_a_bar(
    run_module: Callable[..., int], untrained: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read_all() -> None:
        while b"areas.csv" not in shown:
            shown.extend(os.read(ours, 4096))

    reader = Thread(target=read_all)
    reader.start()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        patch.setenv("TERM", "xterm")
        assert run_module("model.predict", untrained, pictures, "--output", tmp_path / "out", "--device", "cpu") == 0
        terminal.flush()
        reader.join(timeout=10)
    os.close(ours)
    words = shown.decode()
    assert "━━" in words
    assert "1/1  one: class0" in words


def test_an_interrupt_leaves_whole_files(
    run_module: Callable[..., int], untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output = colored_squares("binary", count=3), tmp_path / "out"
    write_folder(tmp_path / "new", data)
    save = Image.Image.save

    def stop_midway(picture: Image.Image, path: Path, **options: object) -> None:
        if path.parent.name == "overlays" and path.name.startswith("picture2"):
            path.write_bytes(b"half a pictu")
            raise KeyboardInterrupt
        save(picture, path, **options)

    monkeypatch.setattr(Image.Image, "save", stop_midway)
    pictures = tmp_path / "new" / "images"
    assert run_module("model.predict", untrained, pictures, "--output", output, "--device", "cpu") == 130
    monkeypatch.undo()
    assert [row["name"] for row in read_areas(output)] == ["picture0", "picture1"]
    written = sorted(str(path.relative_to(output)) for path in output.rglob("*.*"))
    masks, overlays = ([f"{kind}/picture{n}.png" for n in range(3)] for kind in ("masks", "overlays"))
    assert written == ["areas.csv", *masks, *overlays[:2]]
    for path in output.rglob("*.png"):
        assert shape_of(path)[1] == (32, 32)
        read_color(path)


def test_a_full_disk_is_told_in_one_line(
    refusal: Callable[..., str], untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_png(tmp_path / "new" / "one.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    # A limit on the size of files stands for a disk that is full.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        words = refusal("model.predict", untrained, tmp_path / "new", "--output", tmp_path / "out", "--device", "cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"output {str(tmp_path / 'out')!r} cannot be written ([Errno 27] File too large)" in words
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["one.png"]  # the mask, which is small


def test_a_call_without_pictures_is_refused(refusal: Callable[..., str], untrained: Path) -> None:
    assert "images" in refusal("model.predict", untrained).lower()


def test_the_model_is_not_changed_by_its_use(
    run_module: Callable[..., int], untrained: Path, pictures: Path, tmp_path: Path
) -> None:
    before = load_model(untrained)[0].state_dict()
    assert run_module("model.predict", untrained, pictures, "--output", tmp_path / "out", "--device", "cpu") == 0
    after = load_model(untrained)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
