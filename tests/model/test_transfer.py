"""Transfer: what fits is taken to the last bit, and said; what is wrong is refused in one line; rates, and freezing."""

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from data.input_error import InputError
from model import transfer
from model.checkpoint import CONFIG, WEIGHTS, ModelCard, load_model, load_tensors, save_model, save_tensors
from model.config import IMAGENET, TrainConfig
from model.start import TRANSFER
from model.train import BEST, LAST, train
from model.transfer import Transfer, check_init_from, describe, freeze, parameter_groups, take_over
from model.unet import UNet
from tests.toys import colored_squares, split_in_two

SMALL = TrainConfig(depth=2, width=4)
VESSELS = replace(
    ModelCard.of(SMALL, colored_squares("binary", count=1), thresholds=(0.5,)), class_names=("vessel",)
)  # what most tests take from: 3 channels, one class


def with_settings(card: ModelCard, **settings: Any) -> ModelCard:
    return replace(card, config=replace(card.config, **settings))


def for_classes(card: ModelCard, *names: str) -> ModelCard:
    return replace(card, class_names=names, thresholds=(0.5,) * len(names))


def stir(network: UNet) -> UNet:
    """Gives each entry values of its own, so that whatever is taken shows."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            low = 0.5 if name.endswith("running_var") else -0.5
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
        else:
            tensor.fill_(7)
    return network


def save(card: ModelCard, folder: Path) -> tuple[str, UNet]:
    network = stir(card.build())
    save_model(folder, network, card, {})
    return str(folder), network


@pytest.fixture
def vessels(tmp_path: Path) -> tuple[str, UNet]:
    """A model folder of `VESSELS`, and the network in it."""
    return save(VESSELS, tmp_path / "vessels")


def taking(card: ModelCard, init_from: str, **settings: Any) -> tuple[UNet, Transfer, dict[str, Tensor]]:
    """A network of the card after taking over, what it says of that, and its entries as they were before."""
    card = with_settings(card, init_from=init_from, **settings)
    network = card.build()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return network, take_over(network, card.config, card), before


def fate_of(found: Transfer, part: str) -> set[str]:
    """What became of the entries in whose name this stands."""
    fates = {fate for name, fate in found.report if part in name}
    assert fates, part
    return fates


def message_of(refused: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        refused()
    assert "\n" not in str(error.value)
    return str(error.value)


def refusal_of(card: ModelCard, init_from: str, **settings: Any) -> str:
    """The line with which both ways refuse: before a training, and at its start."""
    early = message_of(lambda: check_init_from(with_settings(card, init_from=init_from, **settings).config))
    assert message_of(lambda: taking(card, init_from, **settings)) == early
    return early


def test_a_training_from_nothing_takes_nothing_and_has_nothing_to_report() -> None:
    check_init_from(VESSELS.config)
    network, found, before = taking(VESSELS, "")
    assert found == Transfer(taken=(), report=())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_transfer_none_does_not_even_look(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    check_init_from(with_settings(VESSELS, init_from=nowhere, transfer="none").config)
    network, found, before = taking(VESSELS, nowhere, transfer="none")
    assert found.taken == ()
    assert {fate for _, fate in found.report} == {"new: transfer=none takes nothing"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_a_model_for_the_same_classes_is_taken_whole_but_for_the_statistics_of_pixels(
    block: str, normalisation: str, tmp_path: Path
) -> None:
    card = with_settings(VESSELS, block=block, normalisation=normalisation, passes=2)
    folder, source = save(card, tmp_path / "model")
    check_init_from(with_settings(card, init_from=folder).config)
    network, found, before = taking(card, folder)
    assert found.taken == tuple(name for name, _ in network.named_parameters())
    assert [name for name, _ in found.report] == list(network.state_dict())
    for name, fate in found.report:
        if name in ("pixel_mean", "pixel_deviation"):
            assert fate == "new: counted from the pictures at hand"
            assert torch.equal(network.state_dict()[name], before[name])
        else:
            assert fate == "taken"
            assert torch.equal(network.state_dict()[name], source.state_dict()[name])
    network.pixel_mean.copy_(source.pixel_mean)
    network.pixel_deviation.copy_(source.pixel_deviation)
    images = torch.rand(2, 3, 16, 12) * 255
    assert torch.equal(network.eval()(images), source.eval()(images))


def test_taken_weights_stay_in_channels_last_memory(vessels: tuple[str, UNet]) -> None:
    network, _, _ = taking(VESSELS, vessels[0])
    weight = network.get_parameter("passes.0.encoder.levels.0.first.convolution.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.requires_grad


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (for_classes(VESSELS, "red", "bright"), "new: the head is made for other classes"),
        (for_classes(VESSELS, "lesion"), "new: the head is made for other classes"),
        (replace(VESSELS, label_mode="multiclass"), "new: the head is made for multiclass masks"),
    ],
    ids=["two", "other", "exclusive"],
)
def test_a_head_is_new_for_other_classes(card: ModelCard, reason: str, vessels: tuple[str, UNet]) -> None:
    folder, source = vessels
    network, found, before = taking(card, folder)
    assert fate_of(found, ".head.") == {reason}
    assert fate_of(found, "passes.0.encoder") == fate_of(found, "passes.0.decoder") == {"taken"}
    assert all(".head." not in name for name in found.taken)
    for name, tensor in network.state_dict().items():
        if ".head." in name:
            assert torch.equal(tensor, before[name])
        elif name.startswith("passes"):
            assert torch.equal(tensor, source.state_dict()[name])


def test_transfer_encoder_takes_the_way_down_alone(vessels: tuple[str, UNet]) -> None:
    folder, source = vessels
    network, found, before = taking(VESSELS, folder, transfer="encoder")
    assert fate_of(found, ".encoder.") == {"taken"}
    assert fate_of(found, ".decoder.") == fate_of(found, ".head.") == {"new: transfer=encoder leaves it"}
    assert found.taken
    for name, tensor in network.state_dict().items():
        was = source.state_dict() if ".encoder." in name else before
        assert torch.equal(tensor, was[name])


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize(("there", "here", "how"), [(3, 1, "summed"), (1, 3, "spread")])
def test_on_a_grey_picture_the_network_finds_the_same_in_colour_and_without(
    block: str, there: int, here: int, how: str, tmp_path: Path
) -> None:
    card = with_settings(replace(VESSELS, channels=there), block=block)
    folder, source = save(card, tmp_path / "model")
    network, found, _ = taking(replace(card, channels=here), folder)
    first = fate_of(found, "levels.0")
    assert first == {"taken", f"taken, {how} over colours"}
    for one in (source, network):
        one.pixel_mean.fill_(100.0)
        one.pixel_deviation.fill_(50.0)
    grey = torch.rand(2, 1, 16, 16) * 255
    expected = source.eval()(grey.expand(-1, there, -1, -1))
    torch.testing.assert_close(network.eval()(grey.expand(-1, here, -1, -1)), expected)


@pytest.mark.parametrize(("there", "here"), [(2, 3), (3, 2)])
def test_networks_of_different_depth_share_the_levels_that_both_have(there: int, here: int, tmp_path: Path) -> None:
    card = with_settings(VESSELS, depth=there)
    folder, source = save(card, tmp_path / "model")
    network, found, _ = taking(with_settings(card, depth=here), folder)
    assert fate_of(found, "encoder.levels.0") == fate_of(found, "encoder.levels.2") == {"taken"}
    finest_here, finest_there = f"decoder.up.{here - 1}.", f"decoder.up.{there - 1}."
    for name, tensor in network.state_dict().items():
        if finest_here in name:
            assert torch.equal(tensor, source.state_dict()[name.replace(finest_here, finest_there)])
            assert dict(found.report)[name] == f"taken, there {name.replace(finest_here, finest_there)}"
    if here == 3:
        new = {"new: not in the model"}
        assert fate_of(found, "encoder.levels.3") == fate_of(found, "up.0.") == fate_of(found, "enlarge.0.") == new


def test_a_second_pass_is_new_where_the_model_has_one(vessels: tuple[str, UNet]) -> None:
    _, found, _ = taking(VESSELS, vessels[0], passes=2)
    assert fate_of(found, "passes.0.") == {"taken"}
    assert fate_of(found, "passes.1.") == {"new: not in the model"}


def test_a_second_pass_that_looks_at_other_classes_begins_anew_with_its_first_convolution(tmp_path: Path) -> None:
    card = with_settings(VESSELS, passes=2)
    folder, _ = save(card, tmp_path / "model")
    _, found, _ = taking(for_classes(card, "red", "bright"), folder)
    convolution = "passes.1.encoder.levels.0.first.convolution.weight"
    assert fate_of(found, convolution) == {"new: shape (4, 4, 3, 3) there, (4, 5, 3, 3) here"}
    assert convolution not in found.taken
    assert fate_of(found, "passes.1.encoder.levels.1") == {"taken"}


@pytest.mark.parametrize(
    ("settings", "differing"),
    [
        ({"width": 8}, "width 4 there, 8 here"),
        ({"encoder": "resnet18", "transfer": "encoder", "width": 2}, "encoder 'own' there, 'resnet18' here; width"),
    ],
)
def test_a_model_of_which_nothing_fits_is_refused_with_what_differs(
    settings: dict[str, Any], differing: str, vessels: tuple[str, UNet]
) -> None:
    told = refusal_of(VESSELS, vessels[0], **settings)
    assert differing in told
    assert "depth" not in told


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_model_that_is_not_finite_is_refused_by_the_name_of_its_tensor(bad: float, tmp_path: Path) -> None:
    network = VESSELS.build()
    with torch.no_grad():
        network.get_parameter("passes.0.decoder.up.1.second.convolution.weight")[0, 0, 1, 1] = bad
    save_model(tmp_path, network, VESSELS, {})
    assert "tensor 'passes.0.decoder.up.1.second.convolution.weight' is not finite" in refusal_of(
        VESSELS, str(tmp_path)
    )


def test_no_model_a_broken_one_and_one_put_together_from_two_are_refused(
    vessels: tuple[str, UNet], tmp_path: Path
) -> None:
    folder = Path(vessels[0])
    assert f"init_from: model {str(tmp_path)!r} has no {CONFIG}; give a folder" in refusal_of(VESSELS, str(tmp_path))
    assert "does not exist" in refusal_of(VESSELS, str(tmp_path / "nowhere"))
    save_tensors(folder / WEIGHTS, with_settings(VESSELS, width=8).build().state_dict(), {})
    assert f"{WEIGHTS} does not fit its {CONFIG}" in refusal_of(VESSELS, str(folder))
    (folder / WEIGHTS).write_bytes(b"no weights")
    assert "is damaged" in refusal_of(VESSELS, str(folder))
    (folder / CONFIG).write_text("depth: 3", encoding="utf-8")
    assert f"model configuration {str(folder / CONFIG)!r}: entry 'depth' is " in refusal_of(VESSELS, str(folder))


@pytest.fixture(scope="module")
def classifier() -> dict[str, Tensor]:
    """The state_dict of torchvision's ResNet-18, with weights that nobody trained."""
    return dict(models.resnet18(weights=None).state_dict())


RESNET = with_settings(VESSELS, encoder="resnet18", width=2)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_weights_of_a_published_encoder_are_read_from_a_file(
    suffix: str, classifier: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"resnet{suffix}"
    if suffix == ".safetensors":
        save_file(classifier, path)
    else:
        torch.save(classifier, path)
    check_init_from(with_settings(RESNET, init_from=str(path)).config)
    network, found, _ = taking(RESNET, str(path))
    taken = {name: fate for name, fate in found.report if fate.startswith("taken")}
    assert set(taken.values()) == {"taken"}
    assert all(name.startswith("passes.0.encoder.levels.") for name in taken)
    assert set(found.taken) == set(taken) & {name for name, _ in network.named_parameters()}
    assert fate_of(found, ".decoder.") == fate_of(found, ".head.") == {"new: not in the file"}
    [convolution] = [name for name in taken if name.endswith(".conv1.weight") and "layer" not in name]
    assert torch.equal(network.get_parameter(convolution), classifier["conv1.weight"])
    grey, found_in_grey, _ = taking(replace(RESNET, channels=1), str(path))
    assert dict(found_in_grey.report)[convolution] == "taken, summed over colours"
    summed = classifier["conv1.weight"].sum(dim=1, keepdim=True)
    assert torch.equal(grey.get_parameter(convolution), summed)


def test_imagenet_is_fetched_for_the_encoder(classifier: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(encoder: str) -> dict[str, Tensor]:
        asked.append(encoder)
        return classifier

    monkeypatch.setattr(transfer, "fetch_imagenet_weights", fetch)
    check_init_from(with_settings(RESNET, init_from=IMAGENET).config)
    _, found, _ = taking(RESNET, IMAGENET)
    assert found.taken
    assert asked == ["resnet18", "resnet18"]


def test_our_own_encoder_has_no_published_weights(classifier: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(classifier, tmp_path / "resnet.pth")
    assert "encoder is 'own'; set encoder to resnet18" in refusal_of(VESSELS, str(tmp_path / "resnet.pth"))
    assert "'own'" in refusal_of(VESSELS, IMAGENET)


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def write_bytes(path: Path) -> None:
    path.write_bytes(b"no weights at all")


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_half(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    path.write_bytes(path.read_bytes()[:9000])


def write_trap(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1), "trap": Trap(path.with_name("marker"))}, path)


def write_old_trap(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap(path.with_name("marker"))))


def write_nested(path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"conv1.weight": torch.zeros(64, 3, 7, 7)}}, path)


def write_list(path: Path) -> None:
    torch.save([torch.zeros(2)], path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (write_bytes, "cannot be read as weights"),
        (write_nothing, "cannot be read as weights"),
        (write_half, "cannot be read as weights"),
        (write_trap, "cannot be read as weights"),
        (write_old_trap, "cannot be read as weights"),
        (write_nested, "holds no plain state_dict"),
        (write_list, "holds no plain state_dict"),
        (lambda path: None, "is not there"),
        (
            lambda path: torch.save({"conv1.weight": torch.full((1,), float("nan"))}, path),
            "'conv1.weight' is not finite",
        ),
    ],
    ids=["bytes", "empty", "half", "trap", "old-trap", "nested", "list", "nothing", "not-finite"],
)
def test_a_file_that_holds_no_sound_weights_is_refused_and_runs_nothing(
    write: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    write(path)
    told = refusal_of(RESNET, str(path))
    assert words in told
    assert str(path) in told or "conv1" in told
    assert not (tmp_path / "marker").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(VESSELS.build().state_dict(), tmp_path / "unet.pt")
    told = refusal_of(RESNET, str(tmp_path / "unet.pt"))
    assert "holds no weights of encoder 'resnet18'" in told
    assert "for a model of unet-search, name its folder" in told
    # as a wider network has: of the same names, and of other shapes
    torch.save({"layer1.0.conv1.weight": torch.zeros(9, 9, 3, 3)}, tmp_path / "wide.pt")
    assert "holds no weights of encoder 'resnet18'" in refusal_of(RESNET, str(tmp_path / "wide.pt"))


@pytest.mark.parametrize(
    ("build", "encoder"),
    [
        (models.resnet34, "resnet18"),  # has all of its tensors, and more
        (models.resnet18, "resnet34"),  # has some of its tensors, and no others
        (models.resnet18, "mobilenet_v3"),
        (models.mobilenet_v3_large, "resnet34"),
    ],
)
def test_weights_of_another_encoder_are_refused_by_its_name(
    build: Callable[[], nn.Module], encoder: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(build().state_dict(), path)
    name = "mobilenet_v3" if build is models.mobilenet_v3_large else build.__name__
    told = refusal_of(with_settings(RESNET, encoder=encoder), str(path))
    assert told.endswith(
        f"holds weights of encoder {name!r}, and encoder is {encoder!r}; "
        f"set encoder to {name}, or give weights of {encoder}."
    )


def test_the_report_is_told_tensor_by_tensor_in_aligned_lines() -> None:
    found = Transfer(
        taken=("a.weight", "a.long.weight"),
        report=(
            ("mean", "new: counted from the pictures at hand"),
            ("a.weight", "taken, summed over colours"),
            ("a.long.weight", "taken"),
            ("b", "new: shape (2,) there, (3,) here"),
            ("c", "new: other shape (2,) than (4,)"),
        ),
    )
    assert describe(found) == [
        "mean           new: counted from the pictures at hand",
        "a.weight       taken, summed over colours",
        "a.long.weight  taken",
        "b              new: shape (2,) there, (3,) here",
        "c              new: other shape (2,) than (4,)",
        "2 of 5 tensors taken; new: 1 (counted from the pictures at hand), 2 (of another shape)",
    ]
    assert describe(Transfer(taken=("a",), report=(("a", "taken"),)))[-1] == "1 of 1 tensors taken"


def test_what_was_taken_learns_at_its_own_rate() -> None:
    network = VESSELS.build()
    names = [name for name, _ in network.named_parameters()]
    config = replace(SMALL, learning_rate=0.01, transfer_rate=0.125)
    slow, fast = parameter_groups(network, config, names[:3])
    assert (slow["lr"], fast["lr"]) == (0.00125, 0.01)
    assert [id(one) for one in slow["params"]] == [id(network.get_parameter(name)) for name in names[:3]]
    assert [id(one) for one in fast["params"]] == [id(network.get_parameter(name)) for name in names[3:]]
    [only] = parameter_groups(network, config, names)
    assert only["lr"] == 0.00125
    for taken, rate in (((), 0.125), (names[:3], 1.0)):
        [only] = parameter_groups(network, replace(config, transfer_rate=rate), taken)
        assert only["lr"] == 0.01
        assert [id(one) for one in only["params"]] == [id(one) for one in network.parameters()]


def learn(network: UNet, steps: int = 2) -> set[str]:
    """Takes some steps, and says which entries changed."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.rand(2, 3, 16, 16) * 255).square().mean().backward()
        optimizer.step()
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("encoder", ["own", "resnet18", "mobilenet_v3"])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_what_is_held_still_does_not_change_and_all_else_does(encoder: str, block: str) -> None:
    network = with_settings(VESSELS, encoder=encoder, block=block).build()
    parts = network.taken_apart()
    taken = tuple(name for name, _ in network.named_parameters() if parts[name] == "encoder")
    network.train()
    freeze(network, taken, frozen=True)
    changed = learn(network)
    assert {parts[name] for name in changed} == {"decoder", "head"}
    learning = {name for name, _ in network.named_parameters() if parts[name] != "encoder"}
    # A bias before a normalisation has no gradient to speak of.
    assert {name for name in learning - changed if not name.endswith("bias")} == set()
    network.train()
    freeze(network, taken, frozen=False)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())
    assert "encoder" in {parts[name] for name in learn(network)}


def test_a_head_learns_even_where_all_was_taken() -> None:
    network = VESSELS.build().train()
    freeze(network, tuple(name for name, _ in network.named_parameters()), frozen=True)
    assert {name.rpartition(".")[0] for name in learn(network)} == {"passes.0.head"}


def test_where_nothing_was_taken_nothing_is_held() -> None:
    network = VESSELS.build().train()
    freeze(network, (), frozen=True)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_normalisation_beside_a_fresh_convolution_goes_on_counting() -> None:
    network = VESSELS.build().train()
    fresh = "passes.0.encoder.levels.0.first.convolution.weight"
    freeze(network, tuple(name for name, _ in network.named_parameters() if name != fresh), frozen=True)
    counting = [
        name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d) and module.training
    ]
    assert counting == ["passes.0.encoder.levels.0.first.normalisation"]


def trained(init_from: str, folder: Path, *, epochs: int | None = None, resume: bool = False, **settings: Any) -> Path:
    """Trains on squares of two classes with what a vessel model knows; after so many epochs it is interrupted."""
    data = colored_squares("multilabel", side=16)
    config = replace(
        SMALL, init_from=init_from, batch_size=2, max_epochs=3, crop_size=0, epoch_pixels=0, precision="float32"
    )
    config = replace(config, **settings)
    for report in train(config, data, split_in_two(data), folder=folder, resume=resume):
        if report.epoch == epochs:
            break
    return folder


def parts_that_differ(network: UNet, source: UNet) -> set[str]:
    """The parts of which a parameter is no longer as in the source."""
    parts, entries = network.taken_apart(), source.state_dict()
    same_shape = [(name, own) for name, own in network.named_parameters() if own.shape == entries[name].shape]
    return {parts[name] for name, own in same_shape if not torch.equal(own, entries[name])}


def test_a_training_holds_what_it_took_for_as_long_as_it_is_told(vessels: tuple[str, UNet], tmp_path: Path) -> None:
    folder, source = vessels
    held, _ = load_model(trained(folder, tmp_path / "held", freeze_epochs=3) / BEST)
    assert parts_that_differ(held, source) == set()
    assert torch.equal(
        held.state_dict()["passes.0.encoder.levels.1.block.second.normalisation.running_mean"],
        source.state_dict()["passes.0.encoder.levels.1.block.second.normalisation.running_mean"],
    )
    assert not torch.equal(held.pixel_mean, source.pixel_mean)
    last, _ = load_tensors(trained(folder, tmp_path / "thawed", freeze_epochs=2) / LAST)
    thawed = {name.removeprefix("network."): tensor for name, tensor in last.items() if name.startswith("network.")}
    network, _ = load_model(tmp_path / "thawed" / BEST)
    network.load_state_dict(thawed)
    assert parts_that_differ(network, source) == {"encoder", "decoder"}
    lines = (tmp_path / "held" / TRANSFER).read_text(encoding="utf-8").splitlines()
    assert lines[-1].endswith("; new: 2 (counted from the pictures at hand), 2 (the head is made for other classes)")


def test_an_interrupted_training_goes_on_without_the_model_it_began_from(
    vessels: tuple[str, UNet], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"freeze_epochs": 2, "transfer_rate": 0.25}
    whole = trained(vessels[0], tmp_path / "whole", **settings)
    part = trained(vessels[0], tmp_path / "part", epochs=1, **settings)
    shutil.rmtree(vessels[0])
    trained(vessels[0], part, resume=True, **settings)
    (expected, _), (found, _) = load_tensors(whole / LAST), load_tensors(part / LAST)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
