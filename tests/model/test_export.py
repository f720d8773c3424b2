"""`python -m model.export`: files that find what the model finds, with nothing of ours, each checked before it is kept.

That every other kind of network can be written down, too, is for the contract (test_contract.py).
"""

import importlib.util
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from io import StringIO
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from data.input_error import InputError
from data.segmentation_data import MULTICLASS, Preparation
from model import export, portable
from model.checkpoint import ModelCard, load_model, save_model
from model.config import TrainConfig
from model.ensemble import Model, open_models, weighted_mean, write_ensemble
from model.export import export_model, largest_difference, main, synthetic_pictures
from model.portable import FORMATS, PortableNetwork, trace
from model.tiles import predict_probabilities
from model.unet import UNet
from tests.toys import colored_squares, save_png

# Dropout must be gone, and dilation and the second pass stay.
OWN = {"passes": 2, "dropout": 0.5, "dropout_place": "blocks", "dilation": 2}
SIZES = ((1, 1, 1), (3, 8, 8), (1, 16, 45), (2, 33, 64))


def fresh_model(task: str, *, seed: int = 0, **config: Any) -> tuple[UNet, ModelCard]:
    """A network with weights of which none is as a fresh one's, and its card."""
    data = colored_squares(task)
    settings = TrainConfig.from_mapping({"depth": 2, "width": 2, "precision": "float32", **config})
    card = ModelCard.of(settings, data, thresholds=(0.25, 0.75)[: len(data.class_names)])
    torch.manual_seed(seed)
    network = card.build().eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.2 * torch.rand_like(tensor)).add_(0.02 * torch.rand_like(tensor))
    return network, card


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    network, card = fresh_model("multilabel", **OWN)
    save_model(folder, network, card, {})
    return folder


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What the command made of the model: a folder with both files, what it printed, and what it wrote them from."""

    folder: Path
    shown: str
    program: Any
    onnx: Any


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    output, shown = tmp_path_factory.mktemp("exported"), StringIO()
    made: dict[str, Any] = {}

    def kept(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **more: made.setdefault(name, make(*given, **more))

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown), redirect_stderr(shown):
        patch.setattr(export, "trace", kept("program", trace))
        patch.setattr(torch.onnx, "export", kept("onnx", torch.onnx.export))
        assert main(model, output=output) == 0
    return Exported(folder=output, shown=shown.getvalue(), **made)


@pytest.fixture
def traced_before(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes the model's network down as it was written down before, which takes long, in all that follows."""
    for module in (export, portable):
        monkeypatch.setattr(module, "trace", lambda *_: exported.program)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **_more: exported.onnx)


def test_the_command_says_how_close_the_files_are(exported: Exported) -> None:
    output, shown = exported.folder, exported.shown
    assert sorted(path.name for path in output.iterdir()) == ["model.onnx", "model.pt2", "model.yaml"]
    lines = shown.splitlines()
    for line, file in zip(lines, ("model.onnx", "model.pt2"), strict=False):
        words, _, difference = line.removesuffix(" on 2 pictures").rpartition(" ")
        assert words == f"{output / file}: largest difference"
        assert 0 <= float(difference) < 1e-5
    assert len(lines) == 3


def test_model_yaml_says_how_to_use_the_files(exported: Exported) -> None:
    described = yaml.safe_load((exported.folder / "model.yaml").read_text(encoding="utf-8"))
    assert described["classes"] == ["class0", "class1"]
    assert described["thresholds"] == {"class0": 0.25, "class1": 0.75}
    assert described["preparation"] == asdict(Preparation())
    assert (described["input"]["name"], described["input"]["shape"]) == ("images", ["N", 3, "H", "W"])
    assert (described["output"]["name"], described["output"]["shape"]) == ("probabilities", ["N", 2, "H", "W"])
    assert set(described["largest_difference"]) == {"model.onnx", "model.pt2"}


def test_the_files_run_with_nothing_of_ours(exported: Exported, tmp_path: Path) -> None:
    network, card = fresh_model("multilabel", **OWN)
    pictures = [torch.rand(count, 3, height, width) * 255 for count, height, width in SIZES]
    np.savez(tmp_path / "pictures.npz", *(images.numpy() for images in pictures))
    # No startup files are read (-S), by which the project may be installed; only the folder of packages is added.
    code = f"""
import importlib.util, sys
sys.path.append({str(Path(np.__file__).parents[1])!r})
assert not any(importlib.util.find_spec(room) for room in ("data", "model", "search"))
import numpy, onnxruntime, torch
pictures = numpy.load("pictures.npz").values()
session = onnxruntime.InferenceSession({str(exported.folder / "model.onnx")!r})
numpy.savez("onnx.npz", *(session.run(["probabilities"], {{"images": images}})[0] for images in pictures))
module = torch.export.load({str(exported.folder / "model.pt2")!r}).module()
numpy.savez("torch_export.npz", *(module(torch.from_numpy(images)).detach().numpy() for images in pictures))
"""
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    expected = [predict_probabilities(network, images, card.label_mode, bfloat16=False).numpy() for images in pictures]
    for name in FORMATS:
        for found, truth in zip(np.load(tmp_path / f"{name}.npz").values(), expected, strict=True):
            assert found == pytest.approx(truth, abs=1e-5)


def test_the_files_name_no_folder_of_this_machine(exported: Exported) -> None:
    project = str(Path(portable.__file__).parents[1]).encode()
    for file in ("model.onnx", "model.pt2"):
        assert project not in (exported.folder / file).read_bytes()


@pytest.fixture
def answer_with(model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[torch.Size]]:
    """Makes files by torch.export answer as the network does, and so much more; gives the shapes they are shown."""

    def replace_format(more: float) -> list[torch.Size]:
        network, card = load_model(model)
        original, shown = PortableNetwork(network, card.label_mode), []

        def run(images: torch.Tensor) -> torch.Tensor:
            shown.append(images.shape)
            return original(images) + more

        stub = replace(FORMATS["torch_export"], write=lambda _, path: path.touch(), open=lambda _: run)
        monkeypatch.setitem(FORMATS, "torch_export", stub)
        return shown

    return replace_format


@pytest.mark.usefixtures("traced_before")
def test_the_first_pictures_of_a_folder_check_it(
    run_module: Callable[..., int],
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    answer_with: Callable[[float], list[torch.Size]],
) -> None:
    shown = answer_with(0)
    for index in range(11):
        save_png(tmp_path / "pictures" / f"{index:02}.png", np.full((20, 30 + index, 3), 90, np.uint8))
    options = ["--format", "torch_export", "--images", tmp_path / "pictures"]
    assert run_module("model.export", model, "--output", tmp_path / "out", *options) == 0
    assert "on 10 pictures" in capsys.readouterr().out
    assert shown == [(1, 3, 20, 30 + index) for index in range(10)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.pt2", "model.yaml"]


@pytest.mark.usefixtures("traced_before")
def test_of_a_large_picture_only_a_part_is_compared(
    model: Path, tmp_path: Path, answer_with: Callable[[float], list[torch.Size]]
) -> None:
    network, card = load_model(model)
    single = Model(network, replace(card, preparation=Preparation(size="native")))
    shown = answer_with(0)
    images = [np.full((height, width, 3), 90, np.uint8) for height, width in ((1030, 9), (9, 1024), (7, 1100))]
    export_model([single], tmp_path, ("torch_export",), images)
    assert shown == [(1, 3, 1024, 9), (1, 3, 9, 1024), (1, 3, 7, 1024)]


@pytest.mark.usefixtures("traced_before")
def test_files_of_another_model_do_not_stay_beside_the_new_one(model: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "model.pt2", "model.yaml", "notes.txt"):
        (tmp_path / name).write_text("of another model", encoding="utf-8")
    export_model(open_models(model), tmp_path, ("torch_export",), synthetic_pictures())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt2", "model.yaml", "notes.txt"]
    described = yaml.safe_load((tmp_path / "model.yaml").read_text(encoding="utf-8"))
    assert list(described["largest_difference"]) == ["model.pt2"]
    assert (tmp_path / "model.pt2").stat().st_size > 1000


@pytest.mark.usefixtures("traced_before")
@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_told_in_one_line_and_leaves_what_was_there(
    refusal: Callable[..., str], model: Path, tmp_path: Path, name: str
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    for file in ("model.onnx", "model.pt2", "model.yaml"):
        (output / file).write_text("of an earlier export", encoding="utf-8")
    # A limit on the size of files stands for a disk that is full.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        words = refusal("model.export", model, "--output", output, "--format", name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"output {str(output)!r} cannot be written ([Errno 27] File too large)" in words
    assert {path.name: path.read_text(encoding="utf-8") for path in output.iterdir()} == dict.fromkeys(
        ("model.onnx", "model.pt2", "model.yaml"), "of an earlier export"
    )


@pytest.mark.usefixtures("traced_before")
@pytest.mark.parametrize("more", [2e-4, nan], ids=["other", "not_a_number"])
def test_a_file_that_differs_is_not_kept(
    run_module: Callable[..., int],
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    answer_with: Callable[[float], list[torch.Size]],
    more: float,
) -> None:
    answer_with(more)
    output = tmp_path / "out"
    output.mkdir()
    for name in ("model.onnx", "model.pt2", "model.yaml"):
        (output / name).write_text("of another model", encoding="utf-8")
    assert run_module("model.export", model, "--output", output, "--format", "torch_export") == 1
    words = capsys.readouterr().err
    differs = f"{more:.1e}, more than 0.0001: it was not kept."
    assert words == f"error: model.pt2 differs from the original by {differs}\n"
    assert list(output.iterdir()) == []


def test_a_difference_is_the_largest_of_any_picture_class_and_pixel() -> None:
    network, card = fresh_model("multilabel")
    pictures = [torch.rand(1, 3, 9, 7) * 255 for _ in range(3)]
    portable_network = PortableNetwork(network, card.label_mode)
    assert largest_difference(portable_network, [Model(network, card)], pictures) < 1e-6

    def change(images: torch.Tensor) -> torch.Tensor:
        found = portable_network(images)
        if images is pictures[1]:
            found[0, 1, 8, 6] += 0.25
        return found

    assert largest_difference(change, [Model(network, card)], pictures) == pytest.approx(0.25, abs=1e-6)


def test_the_network_itself_is_left_as_it_is() -> None:
    network, card = fresh_model("binary")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    strides = {name: tensor.stride() for name, tensor in network.state_dict().items()}
    program = trace(PortableNetwork(network.train(), card.label_mode), card.channels)
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert {name: tensor.stride() for name, tensor in network.state_dict().items()} == strides
    assert len(program.graph_signature.user_inputs) == len(program.graph_signature.user_outputs) == 1


@pytest.mark.parametrize("package", FORMATS["onnx"].packages)
def test_a_package_that_is_missing_is_named(
    refusal: Callable[..., str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    words = refusal("model.export", model, "--output", tmp_path / "out")
    assert f"'onnx' needs {package}, which is not installed: pip install 'unet-search[export]'" in words
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("traced_before")
def test_a_network_that_is_too_large_for_onnx_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable, "LARGEST_ONNX", 1000)
    with pytest.raises(InputError, match="more than ONNX can hold: use --format torch_export"):
        export_model(open_models(model), tmp_path, ("onnx",), synthetic_pictures())
    assert list(tmp_path.iterdir()) == []


def test_wrong_input_is_refused(refusal: Callable[..., str], model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = ["--format", "torch_export", "--output"]
    assert "cannot be written" in refusal("model.export", model, *options, tmp_path / "file")
    assert "has no config.yaml" in refusal("model.export", tmp_path, *options, tmp_path / "out")
    assert "do not exist" in refusal("model.export", model, *options, tmp_path / "out", "--images", tmp_path / "no")
    assert "tflite" in refusal("model.export", model, "--format", "tflite")
    assert not (tmp_path / "out").exists()


def test_the_pictures_that_check_are_of_other_sizes_than_the_one_written_down() -> None:
    shapes = {image.shape[:2] for image in synthetic_pictures()}
    assert len(shapes) == 2
    assert portable.TRACED[1:] not in shapes
    assert all(side % 2 for shape in shapes for side in shape)


def test_an_ensemble_is_one_file_that_finds_their_weighted_mean(tmp_path: Path) -> None:
    folders = {}
    for seed, depth in ((1, 2), (2, 3)):
        network, card = fresh_model("multiclass", seed=seed, depth=depth)
        save_model(tmp_path / f"{seed}", network, card, {})
        folders[f"m{seed}"] = (tmp_path / f"{seed}", float(seed))
    write_ensemble(tmp_path / "both", folders, (0.25, 0.75))
    assert main(tmp_path / "both", output=tmp_path / "out", format="torch_export") == 0
    described = yaml.safe_load((tmp_path / "out/model.yaml").read_text(encoding="utf-8"))
    assert described["largest_difference"]["model.pt2"] < 1e-5
    (one, _, _), (other, _, _) = open_models(tmp_path / "both")
    images = torch.rand(2, 3, 21, 50) * 255
    with torch.inference_mode():
        parts = [predict_probabilities(network, images, MULTICLASS, bfloat16=False) for network in (one, other)]
    found = FORMATS["torch_export"].open(tmp_path / "out/model.pt2")(images)
    torch.testing.assert_close(found, (parts[0] + 2 * parts[1]) / 3, atol=1e-5, rtol=0)


def test_no_rounding_leads_beyond_1() -> None:
    weights = [1 / 10] * 10
    ones = torch.ones(1, 1, 2, 2)
    assert float(sum(weight * ones for weight in weights).max()) > 1
    assert torch.equal(weighted_mean([ones] * 10, weights), ones)


def test_an_ensemble_of_models_that_see_pictures_differently_is_refused(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    for name, size in (("a", 64), ("b", 128)):
        network, card = fresh_model("binary")
        save_model(tmp_path / name, network, replace(card, preparation=Preparation(size=size)), {})
    write_ensemble(tmp_path / "both", {name: (tmp_path / name, 1.0) for name in "ab"}, (0.5,))
    words = refusal("model.export", tmp_path / "both", "--output", tmp_path / "out")
    assert "has members whose pictures are prepared differently" in words
    assert not (tmp_path / "out").exists()
