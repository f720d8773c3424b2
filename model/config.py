"""Every hyperparameter of one training: declared once, one line each, checked at construction."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from data.augmentation import Augmentation
from data.input_error import InputError, unknown_name

NORMALISATIONS = ("batch", "instance", "group", "none")
UPSAMPLINGS = ("transposed", "bilinear", "nearest")
CLASS_WEIGHTS = ("none", "square_root", "inverse", "median_frequency")
LOSSES = ("dice", "weighted_ce", "both")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("auto", "bfloat16", "float32")


def setting(default: Any, meaning: str, **rule: Any) -> Any:
    """A field with its meaning and its rule: `low`, `high` (both allowed values), `above` (not allowed) or `choices`."""
    return field(default=default, metadata={"meaning": meaning, **rule})


# fmt: off
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that one training depends on besides its data. Raises InputError for a value outside its rule."""

    depth: int = setting(3, "down-samplings of the U-net", low=2, high=6)
    width: int = setting(8, "channels of the first level; each level below has twice as many", low=1, high=1024)
    normalisation: str = setting("batch", "normalisation after each convolution", choices=NORMALISATIONS)
    dropout: float = setting(0.0, "share of channels dropped in the lowest level", low=0.0, high=0.9)
    upsampling: str = setting("transposed", "how the way up doubles the size", choices=UPSAMPLINGS)
    loss: str = setting("both", "Dice, class-weighted cross-entropy, or their sum", choices=LOSSES)
    class_weight: str = setting("none", "how the cross-entropy weighs rare classes, by their share of the training pixels", choices=CLASS_WEIGHTS)
    learning_rate: float = setting(5e-3, "peak step size of AdamW", above=0.0, high=10.0)
    schedule: str = setting("cosine", "learning rate over the epochs", choices=SCHEDULES)
    weight_decay: float = setting(1e-4, "AdamW's weight decay", low=0.0, high=1.0)
    batch_size: int = setting(8, "samples in one step", low=1, high=65536)
    max_epochs: int = setting(60, "epochs of a training that is not stopped early", low=1, high=1_000_000)
    crop_size: int = setting(128, "side in pixels of the random crops; 0 trains on whole images", low=0, high=65536)
    epoch_pixels: int = setting(2**20, "pixels that an epoch shows at least; small data are seen several times", low=0, high=2**62)
    rare_crops: float = setting(0.0, "share of the crops that are cut around a pixel of a class, each of a picture's classes alike", low=0.0, high=1.0)
    empty_images: float = setting(1.0, "how often images without any class are drawn, against the others; 0 leaves them out", low=0.0, high=1.0)
    augmentation: float = setting(0.5, "strength of the augmentation; 0 is none, 1 is strong", low=0.0, high=1.0)
    rotation: float = setting(1.0, "part of that strength for rotation", low=0.0, high=4.0)
    shift: float = setting(1.0, "part of that strength for shifts of the picture", low=0.0, high=4.0)
    zoom: float = setting(1.0, "part of that strength for enlarging and shrinking", low=0.0, high=4.0)
    shear: float = setting(1.0, "part of that strength for shear", low=0.0, high=4.0)
    flips: float = setting(1.0, "part of the full chance, one half, to be mirrored left to right, and upside down", low=0.0, high=1.0)
    elastic: float = setting(1.0, "part of that strength for elastic distortion", low=0.0, high=4.0)
    brightness: float = setting(1.0, "part of that strength for brightness", low=0.0, high=4.0)
    contrast: float = setting(1.0, "part of that strength for contrast", low=0.0, high=4.0)
    gamma: float = setting(1.0, "part of that strength for gamma: the midtones' brightness", low=0.0, high=4.0)
    color_cast: float = setting(1.0, "part of that strength for a cast of colour", low=0.0, high=4.0)
    noise: float = setting(1.0, "part of that strength for noise", low=0.0, high=4.0)
    collapse_epochs: int = setting(8, "epochs in a row of empty (or full) masks after which a training ends", low=1, high=1_000_000)
    precision: str = setting("auto", "arithmetic of the network; auto is bfloat16 where the device has it", choices=PRECISIONS)
    seed: int = setting(0, "seed of weights, samples and augmentation", low=0, high=2**31 - 1)
# fmt: on

    def __post_init__(self) -> None:
        for declared in fields(self):
            checked = _checked(declared.name, declared.type, getattr(self, declared.name), declared.metadata)
            object.__setattr__(self, declared.name, checked)

    @property
    def changes(self) -> Augmentation:
        """How strongly pictures are changed: `augmentation`, for each kind of change by its own part."""
        parts = {declared.name: getattr(self, declared.name) for declared in fields(Augmentation)}
        on = float(self.augmentation > 0)
        return Augmentation(**{name: part * (on if name == "flips" else self.augmentation) for name, part in parts.items()})

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The config with these fields set. Raises InputError for a name that is no field."""
        for name in values:
            check_name(name)
        return cls(**values)


def check_name(name: str) -> None:
    """Raises InputError unless a field of `TrainConfig` has this name."""
    known = [declared.name for declared in fields(TrainConfig)]
    if name not in known:
        raise unknown_name("parameter", name, known)


def _checked(name: str, kind: Any, value: Any, rule: Mapping[str, Any]) -> Any:
    """The value, with an int widened where a float is declared; raises InputError when it breaks the rule."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise InputError(f"{name} {value!r} must be of type {kind.__name__}, not {type(value).__name__}: {rule['meaning']}.")
    if "choices" in rule and value not in rule["choices"]:
        raise unknown_name(name, value, rule["choices"])
    if "above" in rule and not value > rule["above"]:
        raise InputError(f"{name} {value!r} must be above {rule['above']:g}: raise it.")
    if "low" in rule and not value >= rule["low"]:
        raise InputError(f"{name} {value!r} must be {rule['low']} or more: raise it.")
    if "high" in rule and not value <= rule["high"]:
        raise InputError(f"{name} {value!r} must be {rule['high']} or less: lower it.")
    return value
