"""Which hyperparameters a search chooses, and from what: one line each, on top of which a person's own words go."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from data.input_error import InputError
from model.config import TrainConfig, check_name

if TYPE_CHECKING:
    import optuna

FIELD_TYPES: dict[str, Any] = {declared.name: declared.type for declared in fields(TrainConfig)}
CHOICES: dict[str, Any] = {declared.name: declared.metadata.get("choices") for declared in fields(TrainConfig)}
KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
TRUTHS = {"true": True, "false": False}
BETWEEN_OPTIONS = "[|,]"


@dataclass(frozen=True)
class Range:
    """Every number from `low` to `high`, both included; whole ones when both are. `log` draws evenly by magnitude."""

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        assert type(self.low) is type(self.high) and self.low < self.high

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values between which all others lie."""
        return (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return bool(self.low <= value <= self.high)

    def suggest(self, name: str, trial: "optuna.Trial") -> int | float:
        """A value for the trial."""
        if isinstance(self.low, int):
            return trial.suggest_int(name, self.low, int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{self.low} to {self.high}" + (" (log)" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """One of a few values; a single one is pinned, and nothing is searched."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        assert len(set(self.options)) == len(self.options) > 0

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values between which all others lie."""
        return self.options

    def holds(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return value in self.options

    def suggest(self, name: str, trial: "optuna.Trial") -> Any:
        """A value for the trial."""
        return self.options[0] if len(self.options) == 1 else trial.suggest_categorical(name, self.options)

    def __str__(self) -> str:
        return " or ".join(map(str, self.options))


Domain = Range | Choice


@dataclass(frozen=True)
class Condition:
    """That the parameter `parent` has one of these values, or, with `unless`, none of them."""

    parent: str
    values: tuple[Any, ...]
    unless: bool = False

    def holds(self, chosen: Mapping[str, Any]) -> bool:
        """Whether it is so beside these values of all parameters."""
        return (chosen[self.parent] in self.values) != self.unless

    def __str__(self) -> str:
        return f"{self.parent} is {'not ' * self.unless}{' or '.join(str(value) or 'empty' for value in self.values)}"


CROSS_ENTROPIES = ("weighted_ce", "dice_ce", "focal")  # the losses that weigh classes and pixels

# fmt: off
DEFAULT_DOMAINS: dict[str, Domain] = {
    "block":         Choice(("plain", "residual")),
    "depth":         Range(3, 4),
    "width":         Choice((8, 16)),
    "dropout":       Range(0.0, 0.3),
    "loss":          Choice(("dice", "weighted_ce", "dice_ce", "focal", "tversky")),
    "class_weight":  Choice(("none", "square_root", "median_frequency")),
    "learning_rate": Range(1e-3, 2e-2, log=True),
    "weight_decay":  Range(1e-6, 1e-2, log=True),
    "batch_size":    Choice((4, 8, 16)),
    "crop_size":     Choice((64, 128, 256)),
    "rare_crops":    Choice((0.0, 0.5)),
    "augmentation":  Range(0.2, 1.0),
}
# A parameter that means something only when another one does and has a value as told; it keeps its default otherwise.
ONLY_WHEN: dict[str, Condition] = {
    "dilation":      Condition("encoder", ("own",)),
    "dropout_place": Condition("dropout", (0.0,), unless=True),
    "transfer":      Condition("init_from", ("",), unless=True),
    "transfer_rate": Condition("transfer", ("encoder", "all")),
    "freeze_epochs": Condition("transfer", ("encoder", "all")),
    "class_weight":  Condition("loss", CROSS_ENTROPIES),
    "edge_weight":   Condition("loss", CROSS_ENTROPIES),
    "focal_gamma":   Condition("loss", ("focal",)),
    "tversky_alpha": Condition("loss", ("tversky",)),
    "momentum":      Condition("optimizer", ("sgd",)),
    "rare_crops":    Condition("crop_size", (0,), unless=True),
}
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Space:
    """What a search may try.

    domains: parameter name -> the values it may take, in the order of the fields of `TrainConfig`. A field that is
        not there keeps its default.
    """

    domains: Mapping[str, Domain]


def parse_space(texts: Sequence[str] | Mapping[str, Any] = (), *, pinned: Mapping[str, Any] | None = None) -> Space:
    """The default space with a person's own words on top of it.

    texts: one or more of `depth=3:5,width=8|16|32,learning_rate=1e-5:1e-2:log,loss=dice`, where a later word on a
        parameter replaces an earlier one; or a mapping from names to such values, lists or plain values
        (`{"depth": "3:5", "width": [8, 16], "loss": "dice"}`). `low:high` is a range with both ends, which is drawn
        as the default one is unless `:log` or `:linear` follows; `a|b` (or `a,b`) is a choice; one value is pinned.
    pinned: values that the caller sets, or tuples of values to choose from, unless `texts` has something else to say.

    Raises InputError for a name that is no field of `TrainConfig`, text that cannot be read, a range turned round, a
    log range that does not start above 0, an option named twice, or a value that `TrainConfig` does not allow.
    """
    domains = dict(DEFAULT_DOMAINS)
    for name, value in (pinned or {}).items():
        domains[name] = Choice(value if isinstance(value, tuple) else (_checked(name, value),))
    spoken = texts.items() if isinstance(texts, Mapping) else [pair for text in texts for pair in _pairs(text)]
    for name, value in spoken:
        check_name(name)
        domains[name] = _parse_domain(name, value)
    return Space(domains={name: domains[name] for name in FIELD_TYPES if name in domains})


def suggest(space: Space, trial: "optuna.Trial") -> dict[str, Any]:
    """Values for one training, drawn for an Optuna trial: what `TrainConfig` takes. Pinned values cost no draw."""
    return _choose(space, lambda name, domain: domain.suggest(name, trial))


def start_points(space: Space) -> list[dict[str, Any]]:
    """What a search tries first: the default of each parameter that is searched, where the space has it.

    Where it is searched how much to take over from another model, the same follows with nothing taken over.
    """
    defaults = asdict(TrainConfig())
    start = {name: defaults[name] for name, domain in space.domains.items() if domain.holds(defaults[name])}
    transfer = space.domains.get("transfer")
    if transfer is None or len(transfer.ends) == 1 or not transfer.holds("none"):
        return [start]
    return [start, start | {"transfer": "none"}]


def extremes(space: Space) -> tuple[TrainConfig, TrainConfig]:
    """The least and the most demanding training of the space, by passes, depth, width, batch size and crop size."""
    sizes = ("passes", "depth", "width", "batch_size", "crop_size")

    def size(value: int) -> float:
        return value or math.inf  # crop_size 0 is the whole image

    def choose(pick: Callable[..., Any]) -> TrainConfig:
        return TrainConfig(
            **_choose(space, lambda name, domain: pick(domain.ends, key=size) if name in sizes else domain.ends[0])
        )

    return choose(min), choose(max)


def most(space: Space, name: str) -> Any:
    """The highest value that a trial of the space may have of this parameter."""
    return max(space.domains[name].ends) if name in space.domains else getattr(TrainConfig(), name)


def means_something(name: str, values: Mapping[str, Any]) -> bool:
    """Whether the parameter makes a difference beside these values of all parameters."""
    condition = ONLY_WHEN.get(name)
    return condition is None or (condition.holds(values) and means_something(condition.parent, values))


def space_texts(space: Space) -> dict[str, str]:
    """The space as texts that `parse_space` reads back to the same space: parameter name -> `3:5`, `8|16`, `dice`."""
    return {name: _domain_text(name, domain) for name, domain in space.domains.items()}


def describe(space: Space) -> list[str]:
    """A line for each parameter, for people: `learning_rate  0.001 to 0.02 (log)`."""
    width = max(map(len, space.domains), default=0)
    lines = []
    for name, domain in space.domains.items():
        condition = f", only when {ONLY_WHEN[name]}" if name in ONLY_WHEN else ""
        lines.append(f"{name:{width}}  {domain}{condition}")
    return lines


def _choose(space: Space, pick: Callable[[str, Domain], Any]) -> dict[str, Any]:
    """What `pick` takes of each parameter that means something beside the values taken before it."""
    defaults = asdict(TrainConfig())
    chosen: dict[str, Any] = {}
    for name, domain in space.domains.items():
        if means_something(name, defaults | chosen):
            chosen[name] = pick(name, domain)
    return chosen


def _pairs(text: str) -> list[tuple[str, str]]:
    """Names and values of one text; a comma that no `name=` follows stands inside a value."""
    pairs = []
    for part in re.split(r",(?=[^,=]*=)", text):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"space {text!r} cannot be read: write name=value, as in depth=3:5,loss=dice.")
        pairs.append((name.strip(), value))
    return pairs


def _parse_domain(name: str, value: Any) -> Domain:
    """The domain that a value of a mapping, or a text, stands for."""
    options = re.split(BETWEEN_OPTIONS, value) if isinstance(value, str) else value
    if not isinstance(options, list | tuple):
        return Choice((_read_value(name, options),))
    if len(options) == 1 and isinstance(options[0], str) and ":" in options[0] and not _is_free_text(name):
        return _parse_range(name, options[0])
    if not options:
        raise InputError(f"{name} [] has no value to choose from: name one or more.")
    read = tuple(_read_value(name, option) for option in options)
    for option in read:
        if read.count(option) > 1:
            raise InputError(f"{name} names {option!r} twice: name each value once.")
    return Choice(read)


def _parse_range(name: str, text: str) -> Domain:
    """The range that `low:high`, `low:high:log` or `low:high:linear` stands for."""
    form = f"write {name}=low:high or {name}=low:high:log"
    if FIELD_TYPES[name] not in (int, float):
        raise InputError(f"{name} {text!r} is a range, but {name} is no number: name its values, with | between them.")
    ends, scale = text.split(":")[:2], [part.strip() for part in text.split(":")[2:]]
    if scale not in ([], ["log"], ["linear"]):
        raise InputError(f"{name} {text!r} cannot be read as a range: {form}.")
    low, high = (_read_value(name, end) for end in ends)
    if low > high:
        raise InputError(f"{name} {text!r} is turned round: {low} is more than {high}; write {name}={high}:{low}.")
    log = scale == ["log"] if scale else _default_log(name)
    if low == high:
        return Choice((low,))
    if log and low <= 0:
        raise InputError(f"{name} {text!r} cannot be drawn by magnitude from {low}: start above 0, or end in :linear.")
    return Range(low, high, log=log)


def _read_value(name: str, value: Any) -> Any:
    """One value of a parameter, read as its declared type and checked by `TrainConfig`."""
    if isinstance(value, str):
        kind = FIELD_TYPES[name]
        if _is_free_text(name) and re.search(BETWEEN_OPTIONS, value):
            raise InputError(f"{name} {value!r} has a comma or a bar in it, which stand between values: rename it.")
        try:
            value = TRUTHS[value.strip().lower()] if kind is bool else kind(value.strip())
        except (KeyError, ValueError):
            raise InputError(f"{name} {value!r} cannot be read as {KINDS[kind]}.") from None
    return _checked(name, value)


def _checked(name: str, value: Any) -> Any:
    """The value as `TrainConfig` takes it. Raises InputError for one that it does not allow."""
    return getattr(TrainConfig(**{name: value}), name)


def _is_free_text(name: str) -> bool:
    """Whether the parameter takes any text, such as the place of a file."""
    return FIELD_TYPES[name] is str and CHOICES[name] is None


def _domain_text(name: str, domain: Domain) -> str:
    """The text that `_parse_domain` reads back to the same domain."""
    if isinstance(domain, Choice):
        return "|".join(str(option).lower() if isinstance(option, bool) else str(option) for option in domain.options)
    scale = ":log" if domain.log else ":linear" if _default_log(name) else ""
    return f"{domain.low}:{domain.high}{scale}"


def _default_log(name: str) -> bool:
    """Whether the parameter is drawn by magnitude unless something else is said."""
    default = DEFAULT_DOMAINS.get(name)
    return isinstance(default, Range) and default.log
