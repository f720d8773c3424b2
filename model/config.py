"""Every hyperparameter of one training: declared once, one line each, checked at construction."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from data.augmentation import Augmentation
from data.input_error import InputError, unknown_name

ENCODERS = ("own", "resnet18", "resnet34", "mobilenet_v3")
BLOCKS = ("plain", "residual")
DROPOUT_PLACES = ("bottom", "blocks")
NORMALISATIONS = ("batch", "instance", "group", "none")
UPSAMPLINGS = ("transposed", "bilinear", "nearest")
TRANSFERS = ("all", "encoder", "none")
CLASS_WEIGHTS = ("none", "square_root", "inverse", "median_frequency")
LOSSES = ("dice", "dice_per_image", "weighted_ce", "dice_ce", "focal", "tversky")
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "constant", "one_cycle")
PRECISIONS = ("auto", "bfloat16", "float32")
IMAGENET = "imagenet"  # where `init_from` may take the weights of an encoder


def setting(default: Any, meaning: str, **rule: Any) -> Any:
    """A field with its meaning and its rule: `low`, `high` (both allowed values), `above` (not allowed) or `choices`."""
    return field(default=default, metadata={"meaning": meaning, **rule})


# fmt: off
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that one training depends on besides its data. Raises InputError for a value outside its rule."""

    encoder: str = setting("own", "the way down: blocks of our own, or a network of torchvision", choices=ENCODERS)
    block: str = setting("plain", "two convolutions, or two around which a shortcut leads", choices=BLOCKS)
    passes: int = setting(1, "U-nets in a row, each seeing the picture and what the one before found; 2 is a W-net", low=1, high=4)
    depth: int = setting(3, "down-samplings of the U-net", low=2, high=6)
    width: int = setting(8, "channels of the first level; each level below has twice as many", low=1, high=1024)
    dilation: int = setting(1, "distance in pixels between what a convolution sees, in the first two levels on the way down", low=1, high=16)
    normalisation: str = setting("batch", "normalisation after each convolution", choices=NORMALISATIONS)
    dropout: float = setting(0.0, "share of channels dropped", low=0.0, high=0.9)
    dropout_place: str = setting("bottom", "where they are: in the lowest level, or between the convolutions of every block", choices=DROPOUT_PLACES)
    upsampling: str = setting("transposed", "how the way up doubles the size", choices=UPSAMPLINGS)
    init_from: str = setting("", "what training begins from: a model folder, a file of encoder weights, or imagenet; empty for fresh weights")
    transfer: str = setting("all", "how much of it is taken over", choices=TRANSFERS)
    transfer_rate: float = setting(1.0, "factor on the learning rate of what was taken over", above=0.0, high=1.0)
    freeze_epochs: int = setting(0, "epochs at first in which what was taken over stays as it is", low=0, high=1_000_000)
    loss: str = setting("dice_ce", "what training makes small: Dice, class-weighted cross-entropy, their sum, and their kin", choices=LOSSES)
    class_weight: str = setting("none", "how the cross-entropy weighs rare classes, by their share of the training pixels", choices=CLASS_WEIGHTS)
    edge_weight: float = setting(0.0, "additional weight of the pixels along the edges of classes, in the cross-entropy", low=0.0, high=1000.0)
    focal_gamma: float = setting(2.0, "how much the focal loss forgets what is easy", low=0.0, high=10.0)
    tversky_alpha: float = setting(0.3, "what the Tversky loss counts an invented pixel; a missed one counts the rest to 1", low=0.0, high=1.0)
    optimizer: str = setting("adamw", "how steps are made from gradients", choices=OPTIMIZERS)
    learning_rate: float = setting(5e-3, "peak step size", above=0.0, high=10.0)
    momentum: float = setting(0.9, "momentum (Nesterov) of sgd", low=0.0, high=0.9999)
    schedule: str = setting("cosine", "learning rate over the steps", choices=SCHEDULES)
    warm_up: float = setting(0.05, "share of the training over which the learning rate rises", low=0.0, high=0.9)
    weight_decay: float = setting(1e-4, "pull of the weights towards zero", low=0.0, high=1.0)
    gradient_clip: float = setting(0.0, "longest gradient, as its norm, that a step follows; 0 is any", low=0.0, high=1e6)
    ema: float = setting(0.0, "decay of the moving average of the weights that is judged and kept; 0 is none", low=0.0, high=0.9999)
    batch_size: int = setting(8, "samples in one step", low=1, high=65536)
    accumulation: int = setting(1, "parts in which a batch is computed, one after the other, to save memory", low=1, high=65536)
    max_epochs: int = setting(60, "epochs of a training that is not stopped early", low=1, high=1_000_000)
    evaluate_every: int = setting(1, "epochs between two looks at the validation images", low=1, high=1_000_000)
    crop_size: int = setting(128, "side in pixels of the random crops; 0 trains on whole images", low=0, high=65536)
    epoch_pixels: int = setting(2**20, "pixels that an epoch shows at least; small data are seen several times", low=0, high=2**62)
    rare_crops: float = setting(0.5, "share of the crops that are cut around a pixel of a class, each of a picture's classes alike", low=0.0, high=1.0)
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
    collapse_epochs: int = setting(8, "looks in a row at empty (or full) masks after which a training ends", low=1, high=1_000_000)
    retries: int = setting(0, "how often a diverged training may go on from its last good state, at a third of the learning rate", low=0, high=10)
    deterministic: bool = setting(False, "the same curve to the last bit on devices of one kind; slower")
    precision: str = setting("auto", "arithmetic of the network; auto is bfloat16 where the device has it", choices=PRECISIONS)
    compiled: bool = setting(False, "training steps by a compiled network: faster ones, after up to minutes of compiling")
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
    if name not in _names():
        raise unknown_name("parameter", name, _names())


@cache  # a trial asks for every field
def _names() -> tuple[str, ...]:
    return tuple(declared.name for declared in fields(TrainConfig))


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
