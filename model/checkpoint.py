"""Models and trainings on disk: safetensors for numbers, YAML and JSON for words. Loading never runs code.

A model folder holds `model.safetensors` and `config.yaml`, and `scores.json` where it was judged; a training's
`last.safetensors` is enough to go on.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data.class_names import check_class_names
from data.input_error import InputError
from data.prepare import check_preparation
from data.replacing import replacing, write_text
from data.segmentation_data import LabelMode, Preparation, SegmentationData, Split
from model.config import TrainConfig
from model.unet import UNet, build_unet

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
SCORES = "scores.json"
CHECKSUM = "sha256"  # the entry of a file of tensors that has it
ENSEMBLE = "ensemble.yaml"  # in a folder of several models that answer together (model/ensemble.py)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model folder says about its weights.

    config: how it was trained. channels: of its pictures. class_names: in the order of its planes. thresholds: of each
    class, in 0..1, which a "multilabel" probability must reach to count as found. preparation: what pictures go through
    first.
    source and fingerprint: the data it was trained on. train_images, validation_images: the names of the pictures that
    it learnt from and was chosen by; empty where it was not trained.
    """

    config: TrainConfig
    channels: int
    class_names: tuple[str, ...]
    label_mode: LabelMode
    thresholds: tuple[float, ...]
    preparation: Preparation
    source: str
    fingerprint: str
    train_images: tuple[str, ...]
    validation_images: tuple[str, ...]

    @classmethod
    def of(
        cls, config: TrainConfig, data: SegmentationData, *, thresholds: tuple[float, ...], split: Split | None = None
    ) -> "ModelCard":
        """The card of a model for `data`. split: by which it is trained."""
        return cls(
            config=config,
            channels=data.channels,
            class_names=data.class_names,
            label_mode=data.label_mode,
            thresholds=thresholds,
            preparation=data.preparation,
            source=data.source,
            fingerprint=data.fingerprint,
            train_images=() if split is None else tuple(data.names[index] for index in split.train),
            validation_images=() if split is None else tuple(data.names[index] for index in split.validation),
        )

    def build(self) -> UNet:
        """The network that the card describes, with fresh weights."""
        return build_unet(
            self.config, channels=self.channels, classes=len(self.class_names), label_mode=self.label_mode
        )


def save_model(
    folder: Path,
    network: UNet,
    card: ModelCard,
    scores: Mapping[str, float],
    *,
    judged: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model folder; its scores go along in the weights' header. Each file is replaced as a whole.

    judged: plain JSON of how it was judged, such as `Judgement.as_mapping` gives, for `scores.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Before the weights, so that whoever finds new weights never finds the scores of older ones beside them.
    if judged is None:
        (folder / SCORES).unlink(missing_ok=True)
    else:
        write_text(folder / SCORES, json.dumps(judged, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / CONFIG, yaml.safe_dump(_plain(asdict(card)), sort_keys=False))
    save_tensors(folder / WEIGHTS, network.state_dict(), {"scores": dict(scores)})


def load_model(folder: Path, device: torch.device | str = "cpu") -> tuple[UNet, ModelCard]:
    """The network of a model folder, in evaluation mode on the device, and its card.

    Raises InputError where the folder holds no whole model.
    """
    require_model(folder)
    card = read_card(folder / CONFIG)
    network = card.build()
    tensors, _ = load_tensors(folder / WEIGHTS)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"model {str(folder)!r}: {WEIGHTS} does not fit its {CONFIG}; take both from one training."
        ) from error
    return network.to(device).eval(), card


def require_model(folder: Path) -> None:
    """Raises InputError unless the files of a model are in the folder."""
    if (folder / ENSEMBLE).is_file():
        members = sorted(path.name for path in folder.iterdir() if (path / CONFIG).is_file())
        raise InputError(
            f"model {str(folder)!r} is an ensemble, but one model is needed: give one of {', '.join(members)}."
        )
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            lacks = f"has no {name}" if folder.is_dir() else "does not exist"
            inside = folder / "best"
            other = f"did you mean {str(inside)!r}?" if (inside / CONFIG).is_file() else "such as runs/NAME/best."
            raise InputError(f"model {str(folder)!r} {lacks}; give a folder with {WEIGHTS} and {CONFIG}, {other}")


def read_card(path: Path) -> ModelCard:
    """The card in a `config.yaml`. Raises InputError when something in it is missing or wrong."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        card = ModelCard(
            config=TrainConfig.from_mapping(entries["config"]),
            channels=int(entries["channels"]),
            class_names=tuple(str(name) for name in entries["class_names"]),
            label_mode=entries["label_mode"],
            thresholds=_read_thresholds(entries),
            preparation=Preparation(**entries["preparation"]),
            source=str(entries["source"]),
            fingerprint=str(entries["fingerprint"]),
            train_images=tuple(str(name) for name in entries.get("train_images", ())),
            validation_images=tuple(str(name) for name in entries.get("validation_images", ())),
        )
        check_class_names(card.class_names)
        check_preparation(card.preparation)
    except InputError as error:
        raise InputError(f"{str(path)!r}: {error}") from error
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} is no model configuration ({error!r}); take it from a finished training."
        ) from error
    if card.label_mode not in get_args(LabelMode) or card.channels < 1 or not card.class_names:
        raise InputError(
            f"{str(path)!r} has an unknown label_mode, no channels or no classes; take it from a finished training."
        )
    if len(card.thresholds) != len(card.class_names) or not all(0 <= threshold <= 1 for threshold in card.thresholds):
        raise InputError(
            f"{str(path)!r} has the thresholds {list(card.thresholds)}; there must be one from 0 to 1 for each of its "
            f"{len(card.class_names)} classes; take it from a finished training."
        )
    return card


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes tensors and facts (JSON values) into one safetensors file that is replaced as a whole.

    Its head has a checksum of them all. Raises OSError when it cannot be written.
    """
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    words = json.dumps(facts)
    with replacing(path) as waiting:
        try:
            save_file(dense, waiting, metadata={"facts": words, CHECKSUM: _checksum(dense, words)})
        except SafetensorError as error:  # of a disk that is full, for one
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file by `save_tensors`. Raises InputError when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            written = file.metadata() or {}
            words = written.get("facts", "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if written.get(CHECKSUM, "") not in ("", _checksum(tensors, words)):  # older files have none
            raise ValueError("it does not have its checksum any more")
        return tensors, json.loads(words)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} is damaged ({error}); take another checkpoint, or begin anew elsewhere."
        ) from error


def _checksum(tensors: Mapping[str, Tensor], words: str) -> str:
    """SHA-256 of the words and of all tensors, which are dense and on the CPU, as hexadecimal digits."""
    digest = hashlib.sha256(words.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_thresholds(entries: Mapping[str, Any]) -> tuple[float, ...]:
    """The threshold of each class; older configurations have one for all classes."""
    if "thresholds" in entries:
        return tuple(float(threshold) for threshold in entries["thresholds"])
    return (float(entries["threshold"]),) * len(entries["class_names"])


def _plain(value: Any) -> Any:
    """The value with tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
