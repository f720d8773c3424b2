"""What is searched unless a person says otherwise: the presets by name, and when a parameter means something at all."""

from collections.abc import Mapping

from model.config import CLASS_WEIGHTS, LOSSES, NORMALISATIONS, OPTIMIZERS, SCHEDULES, UPSAMPLINGS
from search.domain import Choice, Condition, Domain, Range

CROSS_ENTROPIES = Choice(("weighted_ce", "dice_ce", "focal"))  # the losses that weigh classes and pixels
TAKEN = Choice(("encoder", "all"))  # the transfers that take something over

# fmt: off
# For a dozen trials on a laptop.
SMALL: dict[str, Domain] = {
    "depth":          Range(3, 4),
    "width":          Choice((8, 16)),
    "loss":           Choice(("dice", "weighted_ce", "dice_ce")),
    "learning_rate":  Range(1e-3, 2e-2, log=True),
}
DEFAULT: dict[str, Domain] = {
    "block":          Choice(("plain", "residual")),
    "depth":          Range(3, 4),
    "width":          Choice((8, 16)),
    "dropout":        Range(0.0, 0.3),
    "loss":           Choice(("dice", "weighted_ce", "dice_ce", "focal", "tversky")),
    "class_weight":   Choice(("none", "square_root", "median_frequency")),
    "optimizer":      Choice(("adamw", "adam")),
    "learning_rate":  Range(1e-4, 3e-2, log=True),
    "weight_decay":   Range(1e-6, 1e-2, log=True),
    "batch_size":     Choice((4, 8, 16)),
    "crop_size":      Choice((64, 128, 256)),
    "rare_crops":     Choice((0.0, 0.5)),
    "augmentation":   Range(0.2, 1.0),
}
# For hundreds of trials: everything that could plausibly matter.
LARGE: dict[str, Domain] = {
    "block":          Choice(("plain", "residual")),
    "passes":         Range(1, 2),
    "depth":          Range(2, 5),
    "width":          Choice((4, 8, 16, 32)),
    "dilation":       Choice((1, 2, 4)),
    "normalisation":  Choice(NORMALISATIONS),
    "dropout":        Range(0.0, 0.5),
    "dropout_place":  Choice(("bottom", "blocks")),
    "upsampling":     Choice(UPSAMPLINGS),
    "loss":           Choice(LOSSES),
    "class_weight":   Choice(CLASS_WEIGHTS),
    "edge_weight":    Range(0.0, 5.0),
    "focal_gamma":    Range(0.5, 5.0),
    "tversky_alpha":  Range(0.1, 0.7),
    "optimizer":      Choice(OPTIMIZERS),
    "learning_rate":  Range(1e-5, 1e-1, log=True),
    "momentum":       Range(0.8, 0.99),
    "schedule":       Choice(SCHEDULES),
    "warm_up":        Range(0.0, 0.3),
    "weight_decay":   Range(1e-6, 1e-1, log=True),
    "gradient_clip":  Choice((0.0, 1.0)),
    "ema":            Choice((0.0, 0.9, 0.98)),
    "batch_size":     Choice((2, 4, 8, 16)),
    "crop_size":      Choice((64, 128, 256, 512)),
    "rare_crops":     Range(0.0, 0.9),
    "augmentation":   Range(0.0, 1.0),
}
USUAL = "default"
BARE = "only"
PRESETS: Mapping[str, Mapping[str, Domain]] = {"small": SMALL, USUAL: DEFAULT, "large": LARGE, BARE: {}}

# A parameter that means something only when another one does and has a value as told; it keeps its default otherwise.
ONLY_WHEN: dict[str, Condition] = {
    "dilation":      Condition("encoder", Choice(("own",))),
    "dropout_place": Condition("dropout", Choice((0.0,)), unless=True),
    "transfer":      Condition("init_from", Choice(("",)), unless=True),
    "transfer_rate": Condition("transfer", TAKEN),
    "freeze_epochs": Condition("transfer", TAKEN),
    "class_weight":  Condition("loss", CROSS_ENTROPIES),
    "edge_weight":   Condition("loss", CROSS_ENTROPIES),
    "focal_gamma":   Condition("loss", Choice(("focal",))),
    "tversky_alpha": Condition("loss", Choice(("tversky",))),
    "momentum":      Condition("optimizer", Choice(("sgd",))),
    "rare_crops":    Condition("crop_size", Choice((0,)), unless=True),
}
# fmt: on


def drawn_by_magnitude(name: str) -> bool:
    """Whether a range of the parameter is drawn by magnitude unless something else is said."""
    widest = LARGE.get(name)
    return isinstance(widest, Range) and widest.log
