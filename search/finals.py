"""The command `python -m search.finals RUN`: the best trials over several seeds, and then the test images, once."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from data.command_line import INTERRUPTED, OK, python, run_command
from data.input_error import InputError
from data.inside import inside
from search.budget import Limits
from search.drivers import PACKING
from search.final_training import FinalTraining, plan, train_all, unfinished
from search.finals_mirror import FINALS, finals_at_url
from search.held_out import (
    READINGS,
    Reading,
    begin_reading,
    describe_reading,
    finish_reading,
    is_same_reading,
    read_readings,
    score_models,
)
from search.nodes import check_nodes, shared_paths, versions_here
from search.packing import pack
from search.record import BAD_ENDINGS, TrialRecord, one_line, records_from_study
from search.resources import joins_cluster, machines, running_ray
from search.run import NO_MODEL, read_saved
from search.run_data import read_data
from search.run_folder import RunFolder, find_run, held
from search.settings import SearchSettings
from search.space import parse_space
from search.storage import is_url, parse_url, run_at
from search.trial import SharedWork

if TYPE_CHECKING:
    import ray
    from rich.console import Console

    from search.finalists import Finalist

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Finals:
    """What the steps of the finals have in common.

    run: its folder. shared: where Ray keeps `work`, whose folder is that of the finals. records: of all trials.
    """

    run: RunFolder
    work: SharedWork
    shared: "ray.ObjectRef[SharedWork]"
    records: Sequence[TrialRecord]
    console: "Console"

    @property
    def folder(self) -> Path:
        """The folder of the finals."""
        return self.run.path / FINALS

    def in_worker(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What a function gives that is called with these arguments and `work`, where there is room for a training."""
        import ray

        needs = self.work.needs
        task = ray.remote(num_cpus=needs.cpus, num_gpus=needs.gpus, max_retries=0)(function)
        try:
            result: Result = ray.get(task.remote(*arguments, self.shared))
        except ray.exceptions.RayTaskError as error:
            # A person's mistake is told in its own words, without those of Ray around it.
            raise error.cause if isinstance(error.cause, InputError) else error from None
        except ray.exceptions.RayError as error:
            raise InputError(
                f"run {str(self.run.path)!r}: the process that worked on its finals died ({one_line(error)}); "
                "what was trained is kept: call it again, where there is more memory if that was short."
            ) from error
        return result


def finals(
    run: Annotated[str, "Folder of a run, such as runs/NAME, or its URL."],
    /,
    *,
    top: Annotated[int, "How many of the best trials to train again."] = 3,
    seeds: Annotated[int, "How often to train each, every time with another seed; 2 or more."] = 3,
    cpus_per_trial: Annotated[float | None, "CPU cores of one training; otherwise as in the search."] = None,
    gpus_per_trial: Annotated[float | None, "GPUs of one training, 0.5 for half; otherwise as in the search."] = None,
    address: Annotated[str | None, "Ray cluster to join: host:port, or auto for this machine's."] = None,
) -> int:
    """Trains the best trials of a run again, ranks them by what they surely reach, and reads the test images once.

    Called again it goes on where it stopped; more --seeds or a larger --top add to what there is.
    """
    if top < 1:
        raise InputError(f"top {top} must be 1 or more: raise it.")
    if seeds < 2:
        raise InputError(f"seeds {seeds} must be 2 or more: one training says nothing of how far others would differ.")
    from search.plain_console import PlainConsole

    console = PlainConsole()
    with held(run_to_finish(run)) as folder, ExitStack() as on_ray:
        on_ray.enter_context(finals_at_url(folder, console.print))
        saved = read_saved(folder)
        asked = SearchSettings(
            cpus_per_trial=saved.get("cpus_per_trial") if cpus_per_trial is None else cpus_per_trial,
            gpus_per_trial=saved.get("gpus_per_trial") if gpus_per_trial is None else gpus_per_trial,
            deterministic=saved.get("deterministic", False),
        )
        records, trials = read_trials(folder, top)
        read_readings(folder.path / FINALS / READINGS)
        data, splits = read_data(folder, saved)
        try:
            with console.status("starting Ray"):
                on_ray.enter_context(running_ray(address))
            import ray  # not before it has been told to be quiet

            from search.study import read_study

            if joins_cluster(address):
                check_nodes(shared_paths(folder, data))
            limits = Limits(trials=len(trials) * seeds, max_epochs=trials[0].config["max_epochs"], folds=len(splits))
            space = parse_space(saved.get("space", ()), pinned=asked.pinned)
            before = read_study(folder.journal).user_attrs.get(PACKING)
            with console.status("measuring how many trainings share a machine"):
                packing = pack(asked, limits, space, data, splits[0], anew=False, before=before)
            if packing.words:
                console.print(packing.words)
            place = (folder.path / FINALS).absolute()
            place.mkdir(exist_ok=True)
            work = SharedWork(
                data=data, splits=splits, train=None, folder=place, needs=packing.needs, versions=versions_here()
            )
            stage = Finals(run=folder, work=work, shared=ray.put(work), records=records, console=console)
            train_finalists(stage, trials, seeds)
            return conclude(stage)
        except KeyboardInterrupt:
            asked_of_machines = {
                "--cpus-per-trial": cpus_per_trial,
                "--gpus-per-trial": gpus_per_trial,
                "--address": address,
            }
            again = [python(), "-m", "search.finals", shlex.quote(run), f"--top {top} --seeds {seeds}"]
            again += [
                f"{option} {shlex.quote(str(value))}"
                for option, value in asked_of_machines.items()
                if value is not None
            ]
            console.print(f"interrupted; go on with: {' '.join(again)}")
            return INTERRUPTED


def run_to_finish(run: str) -> RunFolder:
    """The run in this folder, or at this URL. Raises InputError where there is none."""
    if is_url(run):
        remote = run_at(run)
        return find_run(parse_url(str(remote.parent)), remote.name)
    folder = RunFolder(path=Path(run))
    if not folder.settings.is_file():
        there = "holds no search" if folder.path.is_dir() else "does not exist"
        raise InputError(f"run {run!r} {there}: name the folder of a run, such as runs/NAME.")
    return folder


def read_trials(run: RunFolder, top: int) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """All trials of a run, and the best of them. Raises InputError where none has come to an end with a model."""
    from search.finalists import choose_trials
    from search.study import read_study

    records = records_from_study(read_study(run.journal))
    trials = choose_trials(records, top)
    if not trials:
        raise InputError(
            f"run {run.path.name!r} has no trial that completed or was stopped, so there are no finalists: "
            "let it search first (python -m search.run --resume)."
        )
    return records, trials


def train_finalists(stage: Finals, trials: Sequence[TrialRecord], seeds: int) -> None:
    """Trains what of the finals is not done yet, and says so."""
    console, folds = stage.console, len(stage.work.splits)
    trainings = plan(trials, seeds, folds)
    left = unfinished(trainings, stage.work.folder)
    of_folds = "" if folds == 1 else f" in each of {folds} folds"
    console.print(
        f"{stage.run.path}: finalists: {len(trials)} of {len(stage.records)} trials; seeds: {seeds}{of_folds}; "
        f"trainings: {len(left)} to do, {len(trainings) - len(left)} done; "
        f"{stage.work.needs.fit(machines())} at a time"
    )
    epochs: dict[str, int] = {}
    total = sum(training.params["max_epochs"] for training in left)
    with console.status("") as status:

        def tell(training: FinalTraining, record: TrialRecord) -> None:
            epochs[training.place] = record.epochs
            status.update(f"epoch {sum(epochs.values())} of {total}")
            if record.status != "running":
                console.print(describe(training, record))

        train_all(left, stage.work, stage.shared, tell)


def describe(training: FinalTraining, record: TrialRecord) -> str:
    """How a training ended, in one line."""
    if record.status in BAD_ENDINGS:
        return f"{training.place} {record.status}: {record.reason}"
    return (
        f"{training.place} completed: val_dice {record.val_dice:.4f} ({record.epochs} epochs, {record.seconds:.0f} s)"
    )


def conclude(stage: Finals) -> int:
    """Ranks the finalists, chooses, writes the choice down, reads the test images, and says what came of it."""
    from search import finalists

    table = stage.run.path / finalists.TABLE
    ranking = finalists.read_finalists(stage.folder, stage.records, len(stage.work.splits))
    frame = finalists.to_frame(ranking, {})
    finalists.write(table, frame)
    winner = ranking[0]
    if winner.status in BAD_ENDINGS:
        finalists.render(frame, stage.console)
        stage.console.print(
            f"finalists: {table}\nno finalist came through with all its seeds, so nothing is chosen: {winner.reason}"
        )
        return NO_MODEL
    choice = choose(stage, ranking)
    readings = read_test_images(stage, winner, choice)
    if readings:
        scores = readings[-1]["models"][-1]["dice"]
        tested = dict(zip(finalists.TESTED, (scores["value"], scores["low"], scores["high"]), strict=True))
        frame = finalists.to_frame(ranking, {winner.trial.trial_id: tested})
        finalists.write(table, frame)
    finalists.render(frame, stage.console)
    tell_choice(stage, winner, choice)
    tell_test(stage, readings)
    best = stage.folder / "best"
    stage.console.print(f"finalists:  {table}")
    stage.console.print(f"use it:     {python()} -m model.predict {shlex.quote(str(best))} PICTURES")
    return OK


def choose(stage: Finals, ranking: "Sequence[Finalist]") -> dict[str, Any]:
    """The choice, written down: the winner's best model, or an ensemble where that is better on validation images."""
    from search.ensemble import choose_together
    from search.final_choice import candidates_of, settle

    candidates = candidates_of(ranking, stage.run.path)
    with stage.console.status("choosing by the validation images"):
        together = stage.in_worker(choose_together, candidates)
    return settle(ranking, candidates, together, stage.run.path, stage.folder)


def read_test_images(stage: Finals, winner: "Finalist", choice: Mapping[str, Any]) -> list[Reading]:
    """Reads the test images with what is chosen, and with the winner alone; all readings so far, this one the last.

    Nothing is read where there are none, nor again where nothing has changed since the last reading.
    """
    from search.final_choice import BEST

    data, test = stage.work.data, stage.work.splits[0].test
    if not test:
        return []
    models = [inside(stage.run.path, winner.checkpoint, what="checkpoint")]
    if choice["chosen"] != winner.trial.trial_id:
        models.insert(0, stage.folder / BEST)
    path = stage.folder / READINGS
    asked, before = describe_reading(models, stage.run.path, data, test), read_readings(path)
    if before and is_same_reading(before[-1], asked):
        return before
    reading = begin_reading(path, asked)
    with stage.console.status("reading the test images"):
        scores = stage.in_worker(score_models, [model.absolute() for model in models])
    finish_reading(path, reading, scores)
    return read_readings(path)


def tell_choice(stage: Finals, winner: "Finalist", choice: Mapping[str, Any]) -> None:
    """Says what was chosen, and why."""
    console, together = stage.console, choice["ensemble"]
    console.print(
        f"winner:     {winner.trial.trial_id}, val_dice {winner.mean:.4f} on average, surely {winner.lower:.4f}; "
        f"the search had seen {winner.trial.val_dice:.4f} after {winner.trial.epochs} epochs"
    )
    compared = (
        f"{together['val_dice']:.4f} on the validation images, {together['best_single']} alone "
        f"{together['best_single_val_dice']:.4f}"
    )
    if choice["chosen"] != winner.trial.trial_id:
        members = ", ".join(f"{name} x {weight}" for name, weight in together["members"].items())
        console.print(f"chosen:     an ensemble of {members}: {compared}")
    else:
        console.print(f"chosen:     {winner.checkpoint}; no ensemble is worth it ({compared})")


def tell_test(stage: Finals, readings: Sequence[Reading]) -> None:
    """Says what the test images showed, and how often they were read."""
    console = stage.console
    if not readings:
        console.print(
            "test:       no images were kept for the end, so there is no honest score; to keep some, start a search "
            "with --test-fraction 0.2, --test-ids or --train-ids"
        )
        return
    reading = readings[-1]
    for model in reading["models"]:
        by_class = "; ".join(f"{name} {_in_words(score)}" for name, score in model["dice_of_classes"].items())
        console.print(
            f"test:       {model['model']}: Dice {_in_words(model['dice'])} on {len(reading['images'])} images, "
            f"{_in_words(model['dice_per_image'])} by image"
            + (f"; {by_class}" if len(model["dice_of_classes"]) > 1 else "")
        )
    if reading["number"] > 1:
        console.print(
            f"warning: this was reading number {reading['number']} of the test images, the first was on "
            f"{readings[0]['when']}: a choice made after that one is no longer honest",
            style="yellow",
        )


def _in_words(score: Mapping[str, float | None]) -> str:
    """A score with its interval."""
    if score["value"] is None:
        return "not defined"
    interval = "" if score["low"] is None else f" (95 % interval {score['low']:.4f} to {score['high']:.4f})"
    return f"{score['value']:.4f}{interval}"


if __name__ == "__main__":
    sys.exit(run_command(finals))
