"""The command `python -m search.run`: from a folder of pictures to a leaderboard and the best model."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from data.command_line import INTERRUPTED, OK, Given, python, read_config_option, read_yaml_settings, run_command
from data.doctor import examine
from data.input_error import InputError
from data.outlast import GaveUpError
from data.readers import load
from data.replacing import write_text
from data.segmentation_data import Preparation, SegmentationData, Split, Splitting
from data.split import split_data
from data.typed_record import read_values
from data.yaml_file import read_yaml
from search.budget import Limits, check_target, remedy
from search.contradictions import check_conditions, check_settings
from search.drivers import PACKING
from search.leftovers import disk_use, free_room
from search.mirror import Mirror, mirroring
from search.nodes import check_nodes, shared_paths
from search.objectives import LATENCY, costs_of
from search.packing import Packing, pack
from search.pareto import on_front
from search.record import records_from_study, split_warnings
from search.resources import Needs, check_outlives_job, joins_cluster, machines, running_ray
from search.run_folder import (
    RunFolder,
    check_same_data,
    choose_name,
    describe_data,
    find_run,
    held,
    keep_data,
    new_run,
    storage_at,
)
from search.settings import SearchSettings, check_same_run
from search.sources import check_sources, structure_of, with_whole_sources
from search.space import Space, describe, extremes, most, parse_space, space_texts
from search.storage import refusing
from search.study_address import check_database, read_address
from search.terms import terms_of

if TYPE_CHECKING:
    import optuna
    from rich.console import Console

    from search.driver import Outcome
    from search.prior import PastTrial
    from search.record import TrialRecord

NO_MODEL = NO_STORAGE = BROKEN = 1
TOP_ROWS = 10
HARDLY_FOUND = 0.05  # Dice of a class on the validation images


def run(
    settings: SearchSettings,
    *,
    config: Annotated[Path | None, "YAML file with these settings."] = None,  # noqa: ARG001 - for read_defaults
) -> int:
    """Searches for a good U-net: trains many, stops those that fall behind, keeps a leaderboard and the best model.

    Without any option it is a small search on synthetic retinas. The results lie in runs/NAME.
    """
    asked = parse_space(settings.space, pinned=structure_of(settings.init_from))
    settings = replace(settings, space=space_texts(with_whole_sources(asked)))
    if settings.print_config:
        print(settings.as_yaml(), end="")
        return OK
    space = parse_space(settings.space, pinned=settings.pinned)
    if not settings.resume:  # a run keeps what it began with
        check_settings(settings, space)
    check_conditions(space)
    check_sources(space)
    if settings.study is not None:
        check_database(read_address(settings.study))
    limits = settings.limits(most(space, "max_epochs"))
    data = load(settings.data, root=settings.data_root, preparation=settings.preparation)
    check_target(limits.target, data.class_names)
    splits = split_data(data, settings.splitting, as_before=settings.resume)
    warnings = check_data(data, splits, settings)

    from search.plain_console import PlainConsole

    console = PlainConsole()
    with opened_run(settings) as folder:
        try:
            return search_in(folder, settings, limits, space, data, splits, warnings, console)
        except GaveUpError as error:
            console.print(f"ended: {error}; all is kept, go on with: {resume_command(settings, folder)}")
            return NO_STORAGE
        except KeyboardInterrupt:  # while the search began, or was put in order at its end
            if settings.dry_run or not (folder.begun.is_set() or settings.resume):
                raise
            console.print(f"interrupted; go on with: {resume_command(settings, folder)}")
            return INTERRUPTED


def search_in(
    folder: RunFolder,
    settings: SearchSettings,
    limits: Limits,
    space: Space,
    data: SegmentationData,
    splits: tuple[Split, ...],
    warnings: Sequence[str],
    console: "Console",
) -> int:
    """Searches, or rehearses it, in the run's folder; gives the exit code. warnings: of the data doctor."""
    facts = describe_data(data, splits)
    check_same_data(folder, facts)
    study = find_study_of(folder, settings, facts)
    past = look_back(settings, study, data.fingerprint)
    with ExitStack() as running:
        with console.status("starting Ray"):
            running.enter_context(running_ray(settings.address))
        if folder.remote is None:
            check_outlives_job(folder.path)
        looked_at = check_nodes(shared_paths(folder, data)) if joins_cluster(settings.address) else None
        with console.status("measuring how many trials share a machine"):
            before = None if study is None or settings.dry_run else study.user_attrs.get(PACKING)
            packing = pack(settings, limits, space, data, splits[0], anew=settings.dry_run, before=before)
        needs = packing.needs
        introduce(folder, data, splits, needs.fit(machines()), console)
        if packing.words:
            console.print(packing.words)
        use = disk_use(
            extremes(space)[1], data, trials=limits.trials, folds=len(splits), at_once=max(1, needs.fit(machines()))
        )
        console.print(use.describe(free_room(folder.path)))
        if full := use.check(folder.place, free_room(folder.path)):
            console.print(f"warning: {full}", style="yellow")
        if past:
            runs = ", ".join(map(str, settings.warm_start))
            console.print(f"looks first near the {len(past)} best trials of {runs}")
        warn(warnings, settings, console)
        if settings.dry_run:
            return rehearse(settings, limits, space, data, splits[0], needs, folder, console)
        if study is not None:
            from search.driver import check_limits

            check_limits(study, limits, needs.devices)
        # Only now, that nothing is left to refuse: a run must never keep settings with which it cannot go on.
        folder.begun.set()
        write_text(folder.settings, settings.as_yaml())
        keep_data(folder, facts)
        settle(settings, folder, facts)
        if packing.facts is not None:
            keep_packing(settings, folder, packing)
        mirror = mirror_of(folder, console)
        with mirroring(mirror):
            outcome = search_with_progress(
                settings, limits, space, data, splits, folder, needs, console, past, mirror, looked_at
            )
        report = None
        if settings.report and not outcome.interrupted and not folder.lost():
            from search.reporting import make_report

            with console.status("making the report"):
                report = make_report(folder, console.print)
        if mirror is not None:
            mirror.finish()
            if mirror.lost():
                put_study_aside(folder)
        # Before Ray is put away, which hangs for a minute where a cluster was stopped together with this.
        return conclude(settings, folder, data, splits[0], outcome, report, console)


def look_back(settings: SearchSettings, study: "optuna.Study | None", fingerprint: str) -> Sequence["PastTrial"]:
    """What earlier runs have shown; nothing for a run that goes on, whose study remembers what it began with."""
    if not settings.warm_start:
        return ()
    from search.study import PAST
    from search.warm_start import past_trials

    if study is not None and PAST in study.user_attrs:
        return ()
    return past_trials(settings.warm_start, fingerprint, settings.objective)


def find_study_of(folder: RunFolder, settings: SearchSettings, facts: Mapping[str, Any]) -> "optuna.Study | None":
    """The study in which the search goes on, or takes part; None for one that begins.

    Raises InputError where that was begun with other settings or other data.
    """
    if settings.study is None and not folder.journal.is_file():
        return None
    from search.study import check_terms, find_study, study_place

    study = find_study(study_place(folder, settings.study), settings.objective)
    if study is not None:
        check_terms(study, terms_of(settings, facts))
    return study


def settle(settings: SearchSettings, folder: RunFolder, facts: Mapping[str, Any]) -> None:
    """Lets the drivers that come later to a shared study know what it was begun with."""
    if settings.study is None:
        return
    from search.study import agree, open_study, study_place

    agree(open_study(study_place(folder, settings.study), settings.objective), terms_of(settings, facts))


def keep_packing(settings: SearchSettings, folder: RunFolder, packing: Packing) -> None:
    """Notes how the trials of the run are packed, for when it goes on."""
    from search.study import open_study, study_place

    open_study(study_place(folder, settings.study), settings.objective).set_user_attr(PACKING, asdict(packing))


@contextmanager
def opened_run(settings: SearchSettings) -> Iterator[RunFolder]:
    """The folder to search in: that of the run which goes on, or a new one, which a dry run takes away again."""
    if settings.resume:
        assert settings.name is not None
        with held(find_run(storage_at(settings.storage), settings.name)) as folder:
            check_same_run(settings, read_saved(folder), settings.name)
            yield folder
    else:
        storage = storage_at(settings.storage)
        name = settings.name or choose_name(storage, settings.data)
        with new_run(storage, name, keep=not settings.dry_run) as folder:
            yield folder


def read_saved(folder: RunFolder) -> Mapping[str, Any]:
    """The settings with which a run began. Raises InputError for a file that holds none."""
    try:
        saved = read_yaml(folder.settings)
    except (OSError, ValueError):
        saved = None
    if not isinstance(saved, dict):
        raise InputError(
            f"{str(folder.settings)!r} holds no settings: bring it back, or start a run with another --name."
        )
    read_values(SearchSettings, saved, what=repr(str(folder.settings)))
    return saved


def read_defaults(given: Given) -> Mapping[str, Mapping[str, Any]]:
    """Settings that were not typed: those of the file after `--config`, and those of the run that goes on."""
    sources = dict(read_config_option(given))
    named = {
        name: value for source in reversed(sources.values()) for name, value in source.items() if value is not None
    }
    named |= {name: words[-1] for name, words in given.items()}
    if str(named.get("resume", "false")).lower() == "true" and "name" in named:
        storage = storage_at(str(named.get("storage", SearchSettings.storage)))
        folder = find_run(storage, str(named["name"]))
        sources[str(folder.settings)] = read_yaml_settings(folder.settings)
    return sources


def check_data(data: SegmentationData, splits: tuple[Split, ...], settings: SearchSettings) -> list[str]:
    """What the data doctor warns of. Raises InputError for data on which a search would be worthless."""
    findings = examine(data, splits)
    for found in findings:
        if found.level == "error":
            raise InputError(f"data {data.source!r} cannot be searched on: {found} More: {inspect_command(settings)}")
    return [str(found) for found in findings if found.level == "warning"]


def warn(warnings: Sequence[str], settings: SearchSettings, console: "Console") -> None:
    """Says what may spoil the search, and how to see more of it; of a run that goes on, which was told, how much."""
    if settings.resume and warnings:
        count = f"{len(warnings)} warning{'s' * (len(warnings) > 1)}"
        console.print(f"the data still have {count}: {inspect_command(settings)}", style="yellow")
        return
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow")
    if warnings:
        console.print(f"look closer: {inspect_command(settings)} --html data.html")


def inspect_command(settings: SearchSettings) -> str:
    """What a person types to look at the data as this search sees them."""
    usual = {**asdict(Preparation()), **asdict(Splitting()), "data_root": None}
    words = [python(), "-m", "data.inspect", shlex.quote(settings.data)]
    for name, default in usual.items():
        value = getattr(settings, name)
        if value != default:
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, shlex.quote(str(value))]
    return " ".join(words)


def introduce(
    folder: RunFolder, data: SegmentationData, splits: Sequence[Split], at_once: int, console: "Console"
) -> None:
    """Says where the results will lie, what there is to learn from, and how many trials run side by side."""
    count, height, width, _ = data.images.shape
    classes = ", ".join(data.class_names)
    console.print(
        f"{folder.place}: {count} images of {width} x {height} pixels, {data.label_mode} ({classes}); "
        f"{describe_splits(splits)}; "
        f"{at_once} trial{'s' * (at_once != 1)} at a time"
    )


def describe_splits(splits: Sequence[Split]) -> str:
    """How many images teach, choose, and are kept for the end, of one split or of all folds."""
    sizes = [sorted({len(part) for part in parts}) for parts in zip(*map(astuple, splits), strict=True)]
    train, validation, test = (" to ".join(map(str, dict.fromkeys([size[0], size[-1]]))) for size in sizes)
    if len(splits) == 1:
        return f"{train} to train on, {validation} to choose by, {test} kept for the end"
    return f"{len(splits)} folds of {train} to train on, {validation} to choose by; {test} kept for the end"


def rehearse(
    settings: SearchSettings,
    limits: Limits,
    space: Space,
    data: SegmentationData,
    split: Split,
    needs: Needs,
    folder: RunFolder,
    console: "Console",
) -> int:
    """Measures what the search would take, and says so; and what the trials of a run that goes on say of it."""
    from search.cost_model import fit_costs
    from search.dry_run import describe_costs, describe_estimates, estimate_extremes
    from search.study import open_study

    for line in describe(space):
        console.print(line)
    estimates = estimate_extremes(space, data, split, needs, LATENCY in settings.objective)
    for line in describe_estimates(estimates, limits, needs.fit(machines()), needs.devices):
        console.print(line)
    earlier = records_from_study(open_study(folder.journal, settings.objective)) if folder.journal.exists() else []
    model = fit_costs(earlier, data, split)
    if model is not None:
        for line in describe_costs(model, space):
            console.print(line)
    return OK


def search_with_progress(
    settings: SearchSettings,
    limits: Limits,
    space: Space,
    data: SegmentationData,
    splits: tuple[Split, ...],
    folder: RunFolder,
    needs: Needs,
    console: "Console",
    past: Sequence["PastTrial"],
    mirror: Mirror | None,
    looked_at: frozenset[str] | None,
) -> "Outcome":
    """The search, on the Ray that is running, shown on the console."""
    from search.cost_model import fit_costs
    from search.driver import search
    from search.progress import Progress
    from search.time_left import TimeLeft

    searched = [name for name, domain in space.domains.items() if len(domain.ends) > 1]
    left = TimeLeft(limits=limits, devices=needs.devices, fit=lambda records: fit_costs(records, data, splits[0]))
    with Progress(
        console,
        limits=limits,
        devices=needs.devices,
        searched=searched,
        time_left=left.after,
        objectives=settings.objective,
    ) as progress:
        return search(
            settings,
            space,
            data,
            splits,
            folder,
            needs,
            look=progress.update,
            looked_at=looked_at,
            say=console.print,
            version=installed_version(),
            past=past,
            mirror=mirror,
        )


def mirror_of(folder: RunFolder, console: "Console") -> Mirror | None:
    """What sends the run's files to its URL, where it has one; the settings lie there by then."""
    if folder.remote is None:
        return None
    mirror = Mirror(folder.path, folder.remote, folder.lost, console.print, folder.is_sure)
    with refusing(folder.remote):
        mirror.send()
    folder.trials.mkdir(exist_ok=True)
    return mirror


def put_study_aside(folder: RunFolder) -> None:
    """Keeps what this driver knew when the run was taken from it out of the way of what the URL has since."""
    if folder.journal.exists():
        folder.journal.replace(folder.journal.with_suffix(".lost"))


def conclude(
    settings: SearchSettings,
    folder: RunFolder,
    data: SegmentationData,
    split: Split,
    outcome: "Outcome",
    report: Path | None,
    console: "Console",
) -> int:
    """Shows the leaderboard and what to do next; gives the exit code."""
    from search.leaderboard import to_frame
    from search.terminal_table import render

    render(to_frame(outcome.records, data.class_names, settings.objective), console, top=TOP_ROWS)
    console.print(f"leaderboard: {folder.leaderboard if folder.remote is None else folder.remote / 'leaderboard.csv'}")
    if report is not None:
        console.print(f"report:      {report if folder.remote is None else folder.remote / report.name}")
    completed = sum(record.status == "completed" for record in outcome.records)
    if any(record.status in ("stopped", "running") for record in outcome.records):
        console.print(
            f"trials:      {completed} of {len(outcome.records)} came to their end; others are ranked by their best "
            "so far, after fewer epochs"
        )
    if outcome.ending:
        more = remedy(outcome.ending)
        console.print(f"ended:       {outcome.ending}" + (f"; to go on, --resume it with {more}" if more else ""))
    if outcome.best is not None:
        of_folds = "" if settings.folds == 1 else f", mean of {outcome.best.folds} of {settings.folds} folds"
        console.print(
            f"best model:  {folder.best} ({outcome.best.trial_id}, val_dice {outcome.best.val_dice:.4f}{of_folds})"
        )
        if outcome.best.folds < settings.folds:
            console.print(
                f"warning: no trial came through all its {settings.folds} folds, so this choice is rough: give a "
                "longer --max-time, or fewer --num-trials or --max-epochs",
                style="yellow",
            )
        if len(settings.objective) > 1:
            show_front(outcome.records, settings.objective, folder, console)
        show_classes(outcome.best, data.class_names, console)
        for warning in split_warnings(outcome.best.warnings):
            console.print(f"warning: the best model: {warning}", style="yellow")
        console.print(f"use it:      {python()} -m model.predict {shlex.quote(str(folder.best))} PICTURES")
        if split.test and not outcome.interrupted:
            console.print(f"test it:     {python()} -m search.finals {shlex.quote(folder.place)}")
    if outcome.interrupted:
        console.print(f"interrupted; go on with: {resume_command(settings, folder)}")
        return INTERRUPTED
    if folder.lost():
        return NO_STORAGE
    if outcome.broken:
        console.print(f"all is kept: mend what they died of, and go on with: {resume_command(settings, folder)}")
        return BROKEN
    if outcome.best is None:
        reasons = sorted({record.reason for record in outcome.records if record.reason}) or ["no trial was started"]
        if settings.study is not None and any(record.checkpoint for record in outcome.records):
            reasons = ["all that there are lie with other drivers"]
        console.print(f"no trial gave a model: {reasons[0]}")
        return NO_MODEL
    return OK


def show_front(
    records: Sequence["TrialRecord"], objectives: Sequence[str], folder: RunFolder, console: "Console"
) -> None:
    """Says which trials none other beats in all objectives, what they cost, and where their models lie."""
    best = sorted(on_front(records, objectives), key=lambda record: record.val_dice or 0.0, reverse=True)
    trials = "1 trial" if len(best) == 1 else f"{len(best)} trials"
    console.print(f"front:       {trials} that no other beats in {' and '.join(objectives)} at once")
    for record in best[:TOP_ROWS]:
        facts = f"val_dice {record.val_dice:.4f} after {record.epochs} epochs, {costs_of(record, objectives)}"
        console.print(f"  {record.trial_id}  {facts}: {folder.path / record.checkpoint}")
    if len(best) > TOP_ROWS:
        console.print(f"  ... and {len(best) - TOP_ROWS} more, which have pareto in the leaderboard")


def resume_command(settings: SearchSettings, folder: RunFolder) -> str:
    """What a person types to go on with the run."""
    storage = "" if settings.storage == SearchSettings.storage else f" --storage {shlex.quote(settings.storage)}"
    return f"{python()} -m search.run --resume --name {folder.path.name}{storage}"


def show_classes(best: "TrialRecord", class_names: tuple[str, ...], console: "Console") -> None:
    """Says how the best model does on each class, where there are several, and which of them it does not find."""
    dice = {name: best.metrics.get(f"val_dice_{name}") for name in class_names}
    known = {name: value for name, value in dice.items() if value is not None}
    if len(known) > 1:
        console.print("by class:    " + ", ".join(f"{name} {value:.4f}" for name, value in known.items()))
    hardly = [f"{name} (Dice {value:.4f})" for name, value in known.items() if value < HARDLY_FOUND]
    if hardly:
        console.print(
            f"warning: the best model hardly finds {', '.join(hardly)}, so empty masks there mean nothing: "
            "try more --max-epochs, a larger --size, or --space rare_crops=0.9,loss=dice_ce",
            style="yellow",
        )


def installed_version() -> str:
    """The version of this project, for the leaderboard; empty where it is not installed."""
    try:
        return version("unet-search")
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(run_command(run, defaults=read_defaults))
