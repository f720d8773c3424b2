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
from search.budget import Limits, read_budget, read_seconds, read_target
from search.objectives import VAL_DICE, read_objectives
from search.rungs import LEAST_FOLDS
from search.sources import whole_source
from search.storage import is_url, parse_url
from search.study_address import read_address

CHOSEN_ONCE = (
    "data",
    *(declared.name for declared in fields(Preparation)),
    *(declared.name for declared in fields(Splitting)),
    "max_epochs",
    "space",
    "init_from",
    "deterministic",
    "seed",
    "objective",
    "searcher",
    "scheduler",
    "warm_start",
    "study",
)  # what all trials of a run must share, and so cannot change when the run goes on
THIS_TIME = ("name", "resume", "dry_run", "print_config")  # what concerns one start of the command, not the run

# The names in the tables of search/schedulers.py and search/samplers.py, which take long to load.
Scheduler = Literal["asha", "asha_promote", "hyperband", "median", "wilcoxon", "none"]
SearcherName = Literal["tpe", "gp", "cma_es", "random", "quasi_random", "grid"]
# What knows of val_dice alone.
FOR_ONE_OBJECTIVE = {"searcher": ("cma_es",), "scheduler": ("median", "wilcoxon")}
USUAL_TRIALS = 12  # where nothing is said of how long to search

_FORBIDDEN_IN_NAMES = re.compile(r"[^\w.+-]")


# fmt: off
@dataclass(frozen=True, kw_only=True)
class SearchSettings(Splitting, Preparation):
    """What a search is asked to do, each setting with its help. Raises InputError for a value outside its rule."""

    data: Annotated[str, "Name of a data set, or a folder of pictures and masks."] = "synthetic"
    data_root: Annotated[Path | None, "Folder in which named data sets lie."] = None
    num_trials: Annotated[int | None, "Trainings to try; 12 where nothing else ends the search."] = None
    max_epochs: Annotated[int, "Epochs of a training that is not stopped early."] = 60
    max_time: Annotated[str | None, "Longest time of the whole search, such as 90s, 15m or 2h."] = None
    budget: Annotated[str | None, "Most that all trainings take: 20x (whole ones), 500epochs, 3h (of devices)."] = None
    stop_at: Annotated[str | None, "End as soon as a training is this good, such as val_dice=0.82."] = None
    patience: Annotated[int | None, "End when so many trainings in a row have brought nothing better."] = None
    space: Annotated[tuple[str, ...], "What to try: small, default or large; depth=3:5, depth=4, 'width=8|16'."] = ()
    warm_start: Annotated[tuple[Path, ...], "Folders of earlier runs that show where to look first."] = ()
    init_from: Annotated[str | None, "What to begin from: a model folder, a file of weights, or imagenet."] = None
    deterministic: Annotated[bool, "Trainings that repeat to the last bit on one kind of device; slower."] = False
    name: Annotated[str | None, "Name of the run's folder; otherwise made from the data and a number."] = None
    storage: Annotated[str, "Folder of all runs, which a cluster's machines share; or s3://, gs://, abfs://."] = "runs"
    study: Annotated[str | None, "Database to share the study in: postgresql://user@host/name; or a file here."] = None
    address: Annotated[str | None, "Ray cluster to join: host:port, or auto for this machine's."] = None
    cpus_per_trial: Annotated[float | None, "CPU cores of one training; measured where nothing is said."] = None
    gpus_per_trial: Annotated[float | None, "GPUs of one training: 0.5, or 4 that train together; or measured."] = None
    seed: Annotated[int, "Seed of the search and of every training."] = 0
    objective: Annotated[tuple[str, ...], "What counts: val_dice; or costs, too: val_dice,latency_ms."] = (VAL_DICE,)
    searcher: Annotated[SearcherName, "What proposes trainings, from those that it has seen."] = "tpe"
    scheduler: Annotated[Scheduler, "What holds back trainings that fall behind."] = "asha_promote"
    report: Annotated[bool, "Write report.html at the end of the search."] = True
    report_every: Annotated[str | None, "Also write it this often while the search runs, such as 5m."] = None
    resume: Annotated[bool, "Go on with the run of this --name, with its settings."] = False
    dry_run: Annotated[bool, "Check everything, estimate memory and time; train nothing."] = False
    print_config: Annotated[bool, "Print all settings as YAML and stop."] = False
# fmt: on

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "num_trials", "max_epochs", "patience")
        _require_at_least(self, 0, "seed")
        if self.cpus_per_trial is not None and not 0 < self.cpus_per_trial < float("inf"):
            raise InputError(f"cpus_per_trial {self.cpus_per_trial:g} must be above 0, such as 1.")
        if self.searcher not in get_args(SearcherName):
            raise unknown_name("searcher", self.searcher, get_args(SearcherName))
        if self.scheduler not in get_args(Scheduler):
            raise unknown_name("scheduler", self.scheduler, get_args(Scheduler))
        object.__setattr__(self, "objective", read_objectives(",".join(self.objective)))
        for setting, names in FOR_ONE_OBJECTIVE.items():
            if len(self.objective) > 1 and (name := getattr(self, setting)) in names:
                raise InputError(
                    f"{setting} {name!r} goes by val_dice alone, and objective is {','.join(self.objective)!r}: "
                    f"take another --{setting}, or leave --objective out."
                )
        _check_gpus(self.gpus_per_trial)
        object.__setattr__(self, "storage", str(self.storage))
        if is_url(self.storage):
            parse_url(self.storage)
        for text, read in ((self.max_time, read_seconds), (self.budget, read_budget), (self.stop_at, read_target)):
            if text is not None:
                read(text)
        if self.report_every is not None:
            read_seconds(self.report_every, "report_every")
        if self.name is not None:
            _check_name(self.name)
        check_splitting(self.splitting, as_before=self.resume)
        if self.scheduler == "wilcoxon" and self.folds < LEAST_FOLDS:
            raise InputError(
                f"scheduler 'wilcoxon' compares trials fold by fold, and cannot tell by {self.folds}: "
                f"add --folds {LEAST_FOLDS} or more, or take 'median'."
            )
        if self.warm_start and self.searcher == "grid" and not self.resume:
            raise InputError(
                "warm_start would do nothing with searcher 'grid', which tries every combination whatever is known: "
                "leave it out, or take another searcher."
            )
        object.__setattr__(self, "warm_start", tuple(Path(run).absolute() for run in self.warm_start))
        if self.init_from is not None:
            object.__setattr__(self, "init_from", whole_source(self.init_from))
        if self.study is not None:
            object.__setattr__(self, "study", str(read_address(self.study)))
            if self.name is None:
                raise InputError("--study needs the name under which its drivers share the search: add --name.")
        if self.resume and self.name is None:
            raise InputError("--resume needs the run to go on with: add its --name.")

    @property
    def trials_limit(self) -> int | None:
        """How many trials the whole run shall have; None where something else is to end it."""
        others = (self.max_time, self.budget, self.stop_at, self.patience)
        if self.num_trials is None and all(other is None for other in others):
            return USUAL_TRIALS
        return self.num_trials

    def limits(self, max_epochs: int) -> Limits:
        """What ends the whole run, whose trainings have at most so many epochs (which the space says)."""
        return Limits(
            trials=self.trials_limit,
            max_time=self.max_time,
            budget=None if self.budget is None else read_budget(self.budget),
            target=None if self.stop_at is None else read_target(self.stop_at),
            patience=self.patience,
            max_epochs=max_epochs,
            folds=self.folds,
        )

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


def check_same_run(asked: SearchSettings, saved: Mapping[str, Any], name: str) -> None:
    """Raises InputError when a run that goes on is asked for something that its finished trials did not share."""
    for setting in CHOSEN_ONCE:
        value = asked.as_mapping()[setting]
        if setting in saved and value != saved[setting]:
            asked_for, kept = _differing(value, saved[setting])
            raise InputError(
                f"{setting} {asked_for!r} differs from {kept!r}, with which run {name!r} began, and a run keeps "
                f"it: leave --{setting.replace('_', '-')} out, or start a run with another --name."
            )


def _differing(one: Any, other: Any) -> tuple[Any, Any]:
    """What two values do not have in common: of two lists, which differ in more than order, the entries that do."""
    if not (isinstance(one, list) and isinstance(other, list)) or sorted(map(str, one)) == sorted(map(str, other)):
        return one, other
    mine, others = ([entry for entry in these if entry not in those] for these, those in ((one, other), (other, one)))
    return ",".join(map(str, mine)), ",".join(map(str, others))


def _require_at_least(settings: SearchSettings, least: int, *names: str) -> None:
    """Raises InputError when one of these settings is below `least`; None is nothing that was asked."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise InputError(f"{name} {value} must be {least} or more: raise it.")


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
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
