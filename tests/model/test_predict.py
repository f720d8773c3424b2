"""`python -m model.predict`: masks and overlays of new pictures of any size, and one line for every mistake."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.field_of_view import find_field_of_view
from data.masks import read_grey, read_index
from data.overlay import class_color, draw_overlay
from data.pictures import read_color
from data.readers import load
from data.segmentation_data import MULTICLASS, Preparation, SegmentationData, UInt8
from data.synthetic import draw_retina
from model import tiles
from model.checkpoint import CONFIG, WEIGHTS, ModelCard, load_model, save_model
from model.predict import find_pictures, predict_planes
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
    card = ModelCard.of(replace(QUICK, width=2), colored_squares("binary"), threshold=0.5)
    save_model(tmp_path / "model", card.build(), card, {})
    return tmp_path / "model"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    save_png(tmp_path / "pictures" / "one.png", colored_squares("binary").images[0])
    return tmp_path / "pictures"


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
    assert sorted(path.name for path in output.iterdir()) == ["masks", "overlays"]

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
    assert lines[-1].startswith(f"overlays: {output / 'overlays'} ({data.class_names[0]} sky blue")

    # The masks, laid beside their pictures, are a data set again.
    (folder / "masks").rename(tmp_path / "true-masks")
    (output / "masks").rename(folder / "masks")
    again = load(str(folder))
    assert again.label_mode == data.label_mode
    assert again.masks.shape == data.masks.shape
    assert dice(again.masks, data.masks) > 0.9


def test_pictures_of_any_size_kind_and_number_of_tiles(
    trained: tuple[str, Path], run_module: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, model = trained
    data = colored_squares(task, count=1, side=96, seed=3)
    images, output = tmp_path / "images", tmp_path / "out"
    save_png(images / "large.png", data.images[0])
    save_png(images / "narrow.bmp", data.images[0, :, 20:27])
    save_png(images / "dot.tif", data.images[0, :1, :1])
    save_png(images / "grey.ppm", data.images[0, :30, :33, 0])
    (images / "notes.txt").write_text("no picture", encoding="utf-8")
    # The module is loaded anew by the command and takes the tiles from here.
    small_tiles = partial(tiles.predict_probabilities, tile=40, overlap=16)
    monkeypatch.setattr(tiles, "predict_probabilities", small_tiles)
    assert run_module("model.predict", model, images, "--output", output, "--device", "cpu") == 0
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
    card = ModelCard.of(QUICK, replace(colored_squares("binary"), preparation=preparation), threshold=0.5)
    planes = predict_planes(network, card, image, CPU)  # type: ignore[arg-type]
    # 64 x 40 fits into 16 x 16 as 16 x 10
    assert network.seen.shape == ((1, 3, 10, 16) if preparation.color == "rgb" else (1, 1, 40, 64))
    assert dice(planes[0], image[..., 0] // 255) > (0.9 if preparation.size else 0.999)


def test_the_threshold_of_the_card_decides() -> None:
    shares = []
    network = ModelCard.of(QUICK, colored_squares("binary"), threshold=0.5).build().eval()
    for threshold in (0.0, 0.5, 1.0):
        card = ModelCard.of(QUICK, colored_squares("binary"), threshold=threshold)
        shares.append(predict_planes(network, card, colored_squares("binary").images[0], CPU).mean())
    assert shares[0] == 1
    assert shares[2] == 0


def test_nothing_is_found_outside_a_field_of_view_that_was_found() -> None:
    card = ModelCard.of(replace(QUICK, width=2), colored_squares("multilabel"), threshold=0.0)
    network, retina = card.build().eval(), draw_retina(seed=0, size=96, red=False, bright=False)
    assert predict_planes(network, card, retina.image, CPU).all()
    card = replace(card, preparation=replace(card.preparation, field_of_view="found"))
    planes = predict_planes(network, card, retina.image, CPU)
    assert all(np.array_equal(plane, find_field_of_view(retina.image)) for plane in planes)
    assert 0.5 < planes.mean() < 1


def test_pictures_are_found_by_name_and_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.ppm.gz", "readme.md", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_pictures(tmp_path)] == ["a.JPG", "b.png", "c.ppm.gz"]
    assert find_pictures(tmp_path / "b.png") == [tmp_path / "b.png"]


def test_a_missing_model_is_refused(refusal: Callable[..., str], pictures: Path, tmp_path: Path) -> None:
    words = refusal("model.predict", tmp_path / "nowhere", pictures, "--output", tmp_path / "out")
    assert f"model {str(tmp_path / 'nowhere')!r} has no {CONFIG}" in words
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
    ("options", "words"), [(["--device", "cuda:99"], "device 'cuda:99'"), (["--tile", "3"], "--tile")], ids=str
)
def test_options_that_are_wrong_are_refused(
    refusal: Callable[..., str], untrained: Path, pictures: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    assert words in refusal("model.predict", untrained, pictures, "--output", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_call_without_pictures_is_refused(refusal: Callable[..., str], untrained: Path) -> None:
    assert "images" in refusal("model.predict", untrained).lower()


def test_the_model_is_not_changed_by_its_use(
    run_module: Callable[..., int], untrained: Path, pictures: Path, tmp_path: Path
) -> None:
    before = load_model(untrained)[0].state_dict()
    assert run_module("model.predict", untrained, pictures, "--output", tmp_path / "out", "--device", "cpu") == 0
    after = load_model(untrained)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
