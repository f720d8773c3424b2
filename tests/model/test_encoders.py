"""Encoders: their levels are those of the published network, and so are weights that are put into them."""

import io
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from data.input_error import InputError
from model.blocks import PlainBlock
from model.config import ENCODERS
from model.encoders import PUBLISHED, Encoder, fetch_imagenet_weights, load_encoder_weights, recognise_encoder
from model.unet import UNet

# Where each level ends in the classifier itself: the module after which torchvision halves the size again.
ENDS = {
    "resnet18": ["relu", "layer1", "layer2", "layer3", "layer4"],
    "resnet34": ["relu", "layer1", "layer2", "layer3", "layer4"],
    "mobilenet_v3": ["features.1", "features.3", "features.6", "features.12", "features.15"],
}
BUILDERS: dict[str, Any] = {
    "resnet18": models.resnet18,
    "resnet34": models.resnet34,
    "mobilenet_v3": models.mobilenet_v3_large,
}


def encoder_of(kind: str, *, channels: int = 3, depth: int = 5, width: int = 4) -> Encoder:
    make_block: Any = partial(PlainBlock, normalisation="batch")
    return Encoder(kind, channels=channels, depth=depth, width=width, make_block=make_block).eval()


def levels_of_classifier(kind: str, classifier: nn.Module, pictures: Tensor) -> list[Tensor]:
    """What the classifier of torchvision itself has at the end of each level."""
    seen: dict[str, Tensor] = {}
    for name in ENDS[kind]:

        def keep(_module: nn.Module, _inputs: Any, features: Tensor, name: str = name) -> None:
            seen.setdefault(name, features.clone())

        classifier.get_submodule(name).register_forward_hook(keep)
    with torch.inference_mode():
        classifier.eval()(pictures)
    return [seen[name] for name in ENDS[kind]]


def statistics_stirred(network: nn.Module) -> nn.Module:
    """The network with other statistics in its normalisation than fresh ones, so that they are seen to be taken."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.rand(module.num_features) / 10
            module.running_var = 1 + torch.rand(module.num_features) / 10
    return network


def test_every_encoder_of_the_config_is_our_own_or_published() -> None:
    assert set(ENCODERS) == {"own", *PUBLISHED}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_levels_are_the_published_networks_with_its_weights(kind: str) -> None:
    classifier = statistics_stirred(BUILDERS[kind](weights=None))
    network: Any = UNet(channels=3, outputs=1, depth=5, width=4, encoder=kind).eval()
    report = load_encoder_weights(network, classifier.state_dict())
    pictures = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        _, *found = network.passes[0].encoder(pictures)
    for level, (ours, theirs) in enumerate(zip(found, levels_of_classifier(kind, classifier, pictures), strict=True)):
        assert ours.shape[2:] == (32 // 2**level, 48 // 2**level)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert list(report) == list(network.state_dict())
    for entry, became in report.items():
        inside = entry.startswith("passes.0.encoder.levels.") and not entry.startswith("passes.0.encoder.levels.0.")
        assert became == ("taken" if inside else "not in the file"), entry


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_grey_picture_is_seen_as_the_same_picture_in_grey_colours(kind: str) -> None:
    weights = BUILDERS[kind](weights=None).state_dict()
    colour: Any = UNet(channels=3, outputs=1, depth=2, width=4, encoder=kind).eval()
    grey: Any = UNet(channels=1, outputs=1, depth=2, width=4, encoder=kind).eval()
    load_encoder_weights(colour, weights)
    report = load_encoder_weights(grey, weights)
    assert list(report.values()).count("taken, summed over colours") == 1
    picture = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        expected = colour.passes[0].encoder(picture.expand(-1, 3, -1, -1))
        found = grey.passes[0].encoder(picture)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_stays_as_it_was_and_is_told() -> None:
    network: Any = UNet(channels=3, outputs=1, depth=2, width=4, encoder="resnet18", passes=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    weights = {"conv1.weight": torch.zeros(32, 3, 7, 7), "layer1.0.bn1.bias": torch.ones(64), "fc.bias": torch.ones(9)}
    report = load_encoder_weights(network, weights)
    first = "passes.0.encoder.levels.1.conv1.weight"
    assert report[first] == "other shape (32, 3, 7, 7) than (64, 3, 7, 7)"
    taken = [name for name, became in report.items() if became == "taken"]
    assert taken == ["passes.0.encoder.levels.2.layer1.0.bn1.bias"]
    changed = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == taken


def test_our_own_encoder_takes_nothing_of_a_published_one() -> None:
    network = UNet(channels=3, outputs=1, depth=2, width=4)
    report = load_encoder_weights(network, BUILDERS["resnet18"](weights=None).state_dict())
    assert set(report.values()) == {"not in the file"}


def entries_of(build: Any) -> list[str]:
    with torch.device("meta"):
        return list(build(weights=None).state_dict())


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_published_network_is_recognised_by_its_entries(kind: str) -> None:
    entries = entries_of(BUILDERS[kind])
    assert recognise_encoder(entries) == kind
    # with another head, without the deepest stages, and as torchvision wrote them once
    assert recognise_encoder([name for name in entries if "fc" not in name and "classifier" not in name]) == kind
    assert recognise_encoder([*entries, "fc.1.weight", "classifier.9.weight"]) == kind
    assert recognise_encoder([name for name in entries if "layer4" not in name and "features.15" not in name]) == kind
    assert recognise_encoder([name for name in entries if "num_batches_tracked" not in name]) == kind


@pytest.mark.parametrize("build", [models.resnet50, models.mobilenet_v3_small, models.efficientnet_b0, models.vgg11])
def test_another_network_is_not_recognised(build: Any) -> None:
    assert recognise_encoder(entries_of(build)) is None


def test_entries_of_no_published_network_are_not_recognised() -> None:
    network = UNet(channels=3, outputs=1, depth=2, width=4, encoder="resnet18")
    assert recognise_encoder(network.state_dict()) is None
    assert recognise_encoder([]) is None


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("channels", [1, 5])
def test_each_level_is_half_as_large_and_has_the_channels_it_says(kind: str, channels: int) -> None:
    encoder = encoder_of(kind, channels=channels, depth=6)
    with torch.inference_mode():
        found = encoder(torch.randn(1, channels, 64, 128))
    assert [features.shape[1] for features in found] == list(encoder.widths)
    assert [features.shape[2:] for features in found] == [(64 >> level, 128 >> level) for level in range(7)]
    # Below what the published network has, our own blocks go on, each level twice as wide.
    assert encoder.widths[6] == 2 * encoder.widths[5]


@pytest.mark.parametrize("kind", PUBLISHED)
def test_only_the_levels_that_are_needed_are_made(kind: str) -> None:
    assert len(encoder_of(kind, depth=2).levels) == 3
    whole = sum(parameter.numel() for parameter in BUILDERS[kind](weights=None).parameters())
    assert sum(parameter.numel() for parameter in encoder_of(kind, depth=3).parameters()) < 0.2 * whole


@pytest.mark.parametrize("kind", ["resnet18", "mobilenet_v3"])
def test_fresh_weights_begin_as_published_ones_did(kind: str) -> None:
    torch.manual_seed(1)
    ours = dict(encoder_of(kind).named_parameters())
    theirs = dict(BUILDERS[kind](weights=None).named_parameters())
    names = encoder_of(kind).published_names()
    for entry, tensor in ours.items():
        if entry not in names:
            continue
        other = theirs[names[entry]]
        assert tensor.isfinite().all()
        if tensor.numel() > 5000:
            assert float(tensor.detach().std() / other.detach().std()) == pytest.approx(1, abs=0.1), entry
        elif tensor.ndim == 1:
            assert torch.equal(tensor, other), entry


def test_a_published_encoder_learns_its_statistics_within_a_short_training() -> None:
    moments = {module.momentum for module in encoder_of("mobilenet_v3").modules() if isinstance(module, nn.BatchNorm2d)}
    assert moments == {0.1}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch hub's folder of weights, empty, without a network behind it."""

    def refuse(*_arguments: Any, **_more: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("kind", ["resnet18", "mobilenet_v3"])
def test_imagenet_weights_are_taken_from_torch_hubs_folder(kind: str, hub: Path) -> None:
    weights = BUILDERS[kind](weights=None).state_dict()
    hub.mkdir(parents=True)
    torch.save(weights, hub / Path(PUBLISHED[kind].weights.url).name)
    fetched = fetch_imagenet_weights(kind)
    assert list(fetched) == list(weights)
    assert all(torch.equal(fetched[name], tensor) for name, tensor in weights.items())


def test_without_a_network_the_message_says_which_file_goes_where(hub: Path) -> None:
    with pytest.raises(InputError) as refused:
        fetch_imagenet_weights("resnet18")
    message = str(refused.value)
    assert message.startswith("the ImageNet weights of resnet18 could not be downloaded (<urlopen error no route to ")
    assert message.endswith(
        f"put resnet18-f37072fd.pth from https://download.pytorch.org/models/resnet18-f37072fd.pth into {str(hub)!r}."
    )
    assert "\n" not in message


def test_a_download_of_something_else_is_refused_and_not_kept(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(io.BytesIO):
        def info(self) -> Message:
            return Message()

    monkeypatch.setattr("torch.hub.urlopen", lambda *_: Answer(b"<html>please log in</html>"))
    with pytest.raises(InputError, match=r"could not be downloaded .*hash"):
        fetch_imagenet_weights("resnet18")
    assert list(hub.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x02]."])
def test_a_damaged_file_is_named(content: bytes, hub: Path) -> None:
    hub.mkdir(parents=True)
    file = hub / "resnet18-f37072fd.pth"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"resnet18-f37072fd.pth' is damaged .*delete it"):
        fetch_imagenet_weights("resnet18")


def test_our_own_encoder_has_no_imagenet_weights() -> None:
    with pytest.raises(InputError, match="'own'; set encoder to resnet18, resnet34, mobilenet_v3"):
        fetch_imagenet_weights("own")
