"""One training, as a generator of epoch reports: `for report in train(config, data, split): ...`."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch

from data.command_line import INTERRUPTED, python, run_command
from data.input_error import InputError
from data.replacing import write_text
from data.segmentation_data import Preparation, SegmentationData, Split, Splitting
from data.windows import place
from model.checkpoint import WEIGHTS, ModelCard, load_tensors, save_model
from model.config import IMAGENET, TrainConfig
from model.cost import network_cost
from model.device import (
    choose_device,
    device_name,
    is_out_of_memory,
    peak_memory_mb,
    reproducible,
    seeded,
)
from model.diagnose import Look, TrainingFailure
from model.distributed import ranks_here
from model.epoch import NotFinite, train_epoch
from model.history import HISTORY, add_to_history
from model.judge import judge
from model.kept_states import drop_states, keep_state, mend_state
from model.latency import measure_latency
from model.progress import EpochReport
from model.repeat import model_of_row, read_like, say_how_close, split_like
from model.start import TRANSFER, begin, go_back, prepare
from model.state import load_state, restore, take_snapshot
from model.transfer import check_init_from

SECONDS_BETWEEN_SAVES = 60.0  # of the state, inside an epoch and over epochs that are not judged
BEST = "best"  # model folder inside a training's folder
LAST = "last.safetensors"
FAILURE = "failure.txt"  # why a training ended badly


def train(
    config: TrainConfig,
    data: SegmentationData,
    split: Split,
    *,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    resume: bool = False,
    times_network: bool = False,
) -> Iterator[EpochReport]:
    """Trains on `split.train` and yields a report for every epoch that is judged on `split.validation`.

    folder: where the best model (`best/`), the last state (`last.safetensors`) and what was taken from another model
    (`transfer.txt`) are kept, all written before the epoch's report is yielded; None keeps nothing. resume: go on after
    the last step in `folder` when there is one; its last report is yielded again first. A resumed training goes the
    way of an uninterrupted one: on a CPU, to the last bit. times_network: measure how long the network takes for a
    picture, once, after the first epoch that is judged.

    Where this process has met others (`model.distributed`), they train together, and only the first uses its folder.

    Raises InputError when no training image holds any class, `config.init_from` cannot be used, this machine cannot
    compile for the device though `config.compiled` asks for it, or a batch has fewer samples than there are processes;
    TrainingFailure when the loss is not finite, memory does not suffice, or the masks stay empty or full.
    """
    if not data.statistics.class_pixels[list(split.train)].any():
        raise InputError(
            f"none of the {len(split.train)} training images of {data.source!r} holds a pixel of any class: "
            "there is nothing to learn; mend the masks or split otherwise (--train-ids, --split-seed)."
        )
    ranks = ranks_here()
    if config.batch_size < ranks.count:
        raise InputError(
            f"batch_size {config.batch_size} is less than one sample for each of {ranks.count} processes: raise it."
        )
    folder = folder if ranks.index == 0 else None
    device = torch.device(device)
    card = ModelCard.of(config, data, thresholds=(0.5,) * len(data.class_names), split=split)
    kept = load_state(folder / LAST, card) if resume and folder is not None and (folder / LAST).exists() else None
    kept = ranks.from_first(kept)
    judged = place(data, split.validation, device)
    lesson = prepare(config, data, split, device, ranks)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    state = begin(lesson, data, split, card, folder, kept)
    cost = network_cost(state.network)
    latency = None
    if state.progress.report is not None:
        latency = state.progress.report.latency_ms
        yield state.progress.report

    pending, kept, saved, started = kept, None, time.monotonic(), 0.0

    def is_due() -> bool:
        """Whether the state has not been written down for a while."""
        return folder is not None and time.monotonic() - saved >= SECONDS_BETWEEN_SAVES

    def keep() -> None:
        """Writes the state down, with the seconds of the epoch so far."""
        nonlocal saved
        if folder is None:
            return  # the first of several processes writes it
        before = state.progress.seconds
        state.moved(seconds=before + time.perf_counter() - started)
        keep_state(folder / LAST, state, card)
        state.moved(seconds=before)
        saved = time.monotonic()

    while state.progress.epoch < config.max_epochs:
        started = time.perf_counter()
        epoch = state.progress.epoch + 1
        judged_before = state.progress.report.epoch if state.progress.report else 0
        with (
            reproducible(config.deterministic, device),
            seeded(config.seed, epoch, device, ranks.index),
            telling_of_memory(),
        ):
            if state.progress.step and pending is not None:
                restore(state, pending)  # with the random numbers of the step after which it was interrupted
            elif state.progress.epoch == judged_before:
                state.sums.zero_()
            pending = take_snapshot(state)
            try:
                images_per_second = train_epoch(state, lesson, is_due=is_due, keep=keep)
            except NotFinite as error:
                pending = go_back(state, pending, lesson, error.step, started)
                continue
        state.moved(epoch=epoch, step=0)
        if epoch % config.evaluate_every and epoch < config.max_epochs:
            if is_due():
                keep()
            state.moved(seconds=state.progress.seconds + time.perf_counter() - started)
            continue
        with reproducible(config.deterministic, device), telling_of_memory():
            judgement = judge(state.judged, judged, data.label_mode, bfloat16=lesson.bfloat16, ranks=ranks)
            if times_network and latency is None:
                latency = measure_latency(
                    state.judged, judged, data.label_mode, bfloat16=lesson.bfloat16, tile=judgement.tile
                )
        loss_sum, norm_sum, norm_peak = state.sums.tolist()
        steps = lesson.steps * (epoch - judged_before)
        val = judgement.scores()
        look = Look(
            epoch=epoch,
            train_loss=loss_sum / steps,
            gradient_norm=norm_sum / steps,
            gradient_peak=norm_peak,
            learning_rate=state.last_rate,
            judgement=judgement,
            image_names=tuple(data.names[index] for index in split.validation),
        )
        watch = state.progress.watch.after(look)
        watch.check(config)
        seconds = state.progress.seconds + time.perf_counter() - started
        report = EpochReport(
            epoch=epoch,
            train_loss=look.train_loss,
            val=val,
            class_names=data.class_names,
            thresholds=judgement.thresholds,
            seconds=seconds,
            images_per_second=images_per_second,
            learning_rate=look.learning_rate,
            gradient_norm=look.gradient_norm,
            peak_memory_mb=peak_memory_mb(device),
            parameters=cost.parameters,
            gflops_per_megapixel=cost.gflops_per_megapixel,
            batch_parts=max(state.progress.batch_parts, min(config.accumulation, config.batch_size)),
            warnings=(*state.progress.notes, *watch.warnings(data.class_names)),
            device=f"{ranks.count} x {device_name(device)}" if ranks.count > 1 else device_name(device),
            latency_ms=latency,
        )
        best = state.progress.best_dice
        state.moved(report=report, watch=watch, seconds=seconds, best_dice=max(val.dice, best))
        if folder is not None:
            if val.dice > best:
                save_model(
                    folder / BEST,
                    state.judged,
                    replace(card, thresholds=judgement.thresholds),
                    {"epoch": epoch, "val_dice": val.dice},
                    judged={"epoch": epoch, **judgement.as_mapping(data.class_names, look.image_names)},
                )
            keep_state(folder / LAST, state, card)
            if epoch == config.max_epochs:
                drop_states(folder / LAST)
            saved = time.monotonic()
        yield report


@contextmanager
def telling_of_memory() -> Iterator[None]:
    """Raises TrainingFailure "out_of_memory" for whatever fails inside for lack of memory."""
    try:
        yield
    except TrainingFailure:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        words = str(error).strip().partition("\n")[0]
        raise TrainingFailure(
            "out_of_memory", f"memory did not suffice ({words}): try a smaller batch_size, crop_size, width or depth"
        ) from error


def main(
    *,
    data: Annotated[str, "name of a data set, or a folder with images/ and masks/"] = "synthetic",
    data_root: Annotated[Path | None, "folder in which the named data sets lie"] = None,
    folder: Annotated[Path, "where the model and the state to go on from are kept"] = Path("runs/training"),
    resume: Annotated[bool, "go on from the last epoch in the folder"] = False,
    like: Annotated[Path | None, "model folder whose settings and split are the defaults"] = None,
    from_: Annotated[Path | None, "folder of a run, of whose leaderboard one row is the default"] = None,
    rank: Annotated[int, "which row of it, 1 is the best"] = 1,
    device: Annotated[str, "auto, cpu, cuda, cuda:N or mps"] = "auto",
    preparation: Preparation,
    splitting: Splitting,
    config: TrainConfig,
) -> int:
    """Train one U-net without a search; or train one row of a leaderboard again, and see how close it comes.

    python -m model.train --data my-pictures --depth 3 --loss dice
    python -m model.train --from runs/NAME --rank 1
    """
    from data.doctor import examine
    from data.readers import load
    from data.split import check_splitting, split_data

    check_splitting(splitting)
    if splitting.folds > 1:
        raise InputError(f"folds {splitting.folds} belong to a search: leave --folds out, or start search.run with it.")
    prepared = load(data, root=data_root, preparation=preparation)
    if like is not None and from_ is not None:
        raise InputError(f"like {str(like)!r} and from {str(from_)!r} both name a model to repeat: give one of them.")
    repeated = like if from_ is None else model_of_row(from_, rank)
    split = split_like(repeated, prepared) if repeated is not None and splitting == Splitting() else None
    split = split or split_data(prepared, splitting)[0]
    chosen = choose_device(device)
    if config.init_from not in ("", IMAGENET):
        config = replace(config, init_from=str(Path(config.init_from).absolute()))
    mended = mend_state(folder / LAST) if resume else ""
    if mended:
        print(f"warning: {mended}")
    goes_on = resume and (folder / LAST).exists()
    if not goes_on:
        check_init_from(config)
    if (folder / LAST).exists() and not resume:
        raise InputError(f"folder {str(folder)!r} holds a training: add --resume to go on, or choose another --folder.")
    print(f"{data}: {len(split.train)} images to train on, {len(split.validation)} to validate, on {chosen}")
    best = (-1.0, 0)
    if resume and (folder / BEST / WEIGHTS).exists():
        kept = load_tensors(folder / BEST / WEIGHTS)[1]["scores"]
        best = (kept["val_dice"], kept["epoch"])
    for finding in examine(prepared, (split,)):
        if finding.level == "error":
            raise InputError(f"data {prepared.source!r} cannot be trained on: {finding}")
        if finding.level == "warning":
            print(f"warning: {finding}")
    told: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in (FAILURE,) if goes_on else (FAILURE, HISTORY, TRANSFER):
            (folder / old).unlink(missing_ok=True)
        for number, report in enumerate(train(config, prepared, split, device=chosen, folder=folder, resume=resume)):
            if number == 0 and (folder / TRANSFER).exists():
                summary = (folder / TRANSFER).read_text(encoding="utf-8").splitlines()[-1]
                print(f"from {config.init_from}: {summary}; tensor by tensor: {folder / TRANSFER}")
            if report.val.dice > best[0]:
                best = (report.val.dice, report.epoch)
            print(
                f"epoch {report.epoch}/{config.max_epochs}  loss {report.train_loss:.3f}  "
                f"val_dice {report.val.dice:.4f} (best {best[0]:.4f}, epoch {best[1]})  "
                f"{report.images_per_second:.0f} images/s  {report.seconds:.0f} s",
                flush=True,
            )
            add_to_history(folder / HISTORY, report)
            for warning in report.warnings:
                name = warning.partition(":")[0]
                if name not in told:
                    print(f"warning: {warning}", flush=True)
                told.add(name)
    except KeyboardInterrupt:
        if not (folder / LAST).exists():
            raise
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        return INTERRUPTED
    except TrainingFailure as failure:
        print(failure, file=sys.stderr)
        write_text(folder / FAILURE, f"{failure}\n")
        return 1
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be written ({error}): choose another --folder.") from error
    if repeated is not None and (words := say_how_close(repeated, best[0])):
        print(words)
    print(f"\nbest model: {folder / BEST}\nnext: {python()} -m model.predict {folder / BEST} PICTURES")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, defaults=read_like))
