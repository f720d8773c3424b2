"""What is asked of a search besides the hyperparameters: data, budget, resources, where the results go."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from data.input_error import InputError, unknown_name
from data.segmentation_data import Preparation, Splitting
from data.split import check_splitting
from model.config import TRANSFERS
from search.sources import whole_source

CHOSEN_ONCE = (
    "data",
    *(declared.name for declared in fields(Preparation)),
    *(declared.name for declared in fields(Splitting)),
    "max_epochs",
    "space",
    "init_from",
    "deterministic",
    "seed",
    "scheduler",
)  # what all trials of a run must share, and so cannot change when the run goes on
THIS_TIME = ("name", "resume", "dry_run", "print_config")  # what concerns one start of the command, not the run

Scheduler = Literal["asha", "none"]  # the names in the table of search/schedulers.py, which only loads with Ray

LONGEST_SECONDS = 366 * 86400
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORBIDDEN_IN_NAMES = re.compile(r"[^\w.+-]")


# fmt: off
@dataclass(frozen=True, kw_only=True)
class SearchSettings(Splitting, Preparation):
    """What a search is asked to do, each setting with its help. Raises InputError for a value outside its rule."""

    data: Annotated[str, "Name of a data set, or a folder of pictures and masks."] = "synthetic"
    data_root: Annotated[Path | None, "Folder in which named data sets lie."] = None
    num_trials: Annotated[int, "Trainings to try."] = 12
    max_epochs: Annotated[int, "Epochs of a training that is not stopped early."] = 60
    max_time: Annotated[str | None, "Longest time of the whole search, such as 90s, 15m or 2h."] = None
    space: Annotated[tuple[str, ...], "What to try: depth=3:5 (range), depth=4 (value), 'width=8|16' (choice)."] = ()
    init_from: Annotated[str | None, "What to begin from: a model folder, a file of weights, or imagenet."] = None
    deterministic: Annotated[bool, "Trainings that repeat to the last bit on one kind of device; slower."] = False
    name: Annotated[str | None, "Name of the run's folder; otherwise made from the data and a number."] = None
    storage: Annotated[Path, "Folder of all runs; for a cluster, one that its machines share."] = Path("runs")
    address: Annotated[str | None, "Ray cluster to join: host:port, or auto for this machine's."] = None
    cpus_per_trial: Annotated[float, "CPU cores of one training."] = 1.0
    gpus_per_trial: Annotated[float | None, "GPUs of one training, 0.5 for half of one; 1 where there are any."] = None
    seed: Annotated[int, "Seed of the search and of every training."] = 0
    scheduler: Annotated[Scheduler, "What stops trainings that fall behind."] = "asha"
    resume: Annotated[bool, "Go on with the run of this --name, with its settings."] = False
    dry_run: Annotated[bool, "Check everything, estimate memory and time; train nothing."] = False
    print_config: Annotated[bool, "Print all settings as YAML and stop."] = False
# fmt: on

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "num_trials", "max_epochs")
        _require_at_least(self, 0, "seed")
        if not 0 < self.cpus_per_trial < float("inf"):
            raise InputError(f"cpus_per_trial {self.cpus_per_trial:g} must be above 0, such as 1.")
        if self.scheduler not in get_args(Scheduler):
            raise unknown_name("scheduler", self.scheduler, get_args(Scheduler))
        _check_gpus(self.gpus_per_trial)
        if self.max_time is not None:
            read_seconds(self.max_time)
        if self.name is not None:
            _check_name(self.name)
        check_splitting(self.splitting)
        if self.init_from is not None:
            object.__setattr__(self, "init_from", whole_source(self.init_from))
        if self.resume and self.name is None:
            raise InputError("--resume needs the run to go on with: add its --name.")

    @property
    def max_seconds(self) -> float | None:
        """Longest time of the whole search in seconds, or None for no limit."""
        return None if self.max_time is None else read_seconds(self.max_time)

    @property
    def pinned(self) -> dict[str, Any]:
        """What these settings say of the hyperparameters, for `parse_space`: values, and tuples of values to try."""
        pinned: dict[str, Any] = {"max_epochs": self.max_epochs, "seed": self.seed}
        if self.init_from is not None:
            pinned |= {"init_from": self.init_from, "transfer": TRANSFERS}
        if self.deterministic:
            pinned["deterministic"] = True
        return pinned

    @property
    def preparation(self) -> Preparation:
        """How the pictures are brought into one array."""
        return Preparation(**{declared.name: getattr(self, declared.name) for declared in fields(Preparation)})

    @property
    def splitting(self) -> Splitting:
        """Which images teach, choose, and are kept for the end."""
        return Splitting(**{declared.name: getattr(self, declared.name) for declared in fields(Splitting)})

    def as_mapping(self) -> dict[str, Any]:
        """The settings of the run as YAML values, without those that concern one start of the command."""
        values = {declared.name: getattr(self, declared.name) for declared in fields(self)}
        return {name: _plain(value) for name, value in values.items() if name not in THIS_TIME}

    def as_yaml(self) -> str:
        """The settings of the run as a file that `--config` reads."""
        import yaml

        return yaml.safe_dump(self.as_mapping(), sort_keys=False, allow_unicode=True)


def read_seconds(text: str) -> float:
    """Seconds of a duration such as 90s, 15m, 2h or 1h30m. Raises InputError for anything else, and for 0."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        raise InputError(f"max_time {text[:40]!r} has no unit: write {text[:40]}m for minutes, or s, h or d.")
    if parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    else:
        raise InputError(f"max_time {text!r} is no duration: write it like 90s, 15m or 1h30m.")
    if not 0 < seconds <= LONGEST_SECONDS:
        raise InputError(f"max_time {text[:40]!r} must be above 0 and at most a year: write it like 90s, 15m or 1h30m.")
    return seconds


def check_same_run(asked: SearchSettings, saved: Mapping[str, Any], name: str) -> None:
    """Raises InputError when a run that goes on is asked for something that its finished trials did not share."""
    for setting in CHOSEN_ONCE:
        value = asked.as_mapping()[setting]
        if setting in saved and value != saved[setting]:
            raise InputError(
                f"{setting} {value!r} differs from {saved[setting]!r}, with which run {name!r} began; its trials would "
                f"not compare: leave --{setting.replace('_', '-')} out, or start a run with another --name."
            )


def _require_at_least(settings: SearchSettings, least: int, *names: str) -> None:
    """Raises InputError when one of these settings is below `least`."""
    for name in names:
        if getattr(settings, name) < least:
            raise InputError(f"{name} {getattr(settings, name)} must be {least} or more: raise it.")


def _check_gpus(gpus: float | None) -> None:
    """Raises InputError for a number of GPUs that no training can have."""
    if gpus is None:
        return
    if not 0 <= gpus < float("inf"):
        raise InputError(f"gpus_per_trial {gpus:g} must be 0 or more, such as 1 or 0.5.")
    if gpus > 1 and gpus != int(gpus):
        raise InputError(f"gpus_per_trial {gpus:g} must be whole above 1: take {int(gpus)} or {int(gpus) + 1}.")


def _check_name(name: str) -> None:
    """Raises InputError for a name that makes no folder."""
    wrong = _FORBIDDEN_IN_NAMES.search(name)
    if not name or wrong or name.startswith("."):
        raise InputError(
            f"name {name!r} makes no good folder: use letters, digits, and _ - + or . between them; "
            "where the folder lies is --storage."
        )


def _plain(value: Any) -> Any:
    """The value as YAML writes it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
