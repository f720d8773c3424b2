"""Every parser of the project that a stranger's file or a person's words reach, each with a good input to spoil."""

import gzip
import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from data import convert, inspect
from data.command_line import run_command
from data.decoding import decode_array
from data.pictures import read_color
from data.readers import load
from data.segmentation_data import Preparation, SegmentationData, Split
from model import export, predict
from model import train as train_module
from model.checkpoint import CONFIG, ENSEMBLE, WEIGHTS, ModelCard, load_model, save_model
from model.config import TrainConfig
from model.ensemble import open_models, write_ensemble
from model.state import load_state
from model.transfer import check_init_from
from search import finals, leaderboard
from search.held_out import read_readings
from search.history import history_of
from search.record import TrialRecord, records_from_study
from search.run import read_defaults, run
from search.searcher import StudySearcher
from search.settings import SearchSettings
from search.sound_study import read_record_file
from search.space import parse_space
from search.study import objectives_of, read_study
from tests.fuzz.check import command
from tests.toys import colored_squares, write_folder

SMALL = replace(TrainConfig(), depth=2, width=2, precision="float32")


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One way in.

    make: writes what is good into a folder and gives the files to spoil, one of them each time. read: reads what is in
    the folder, as `check` takes it. words: instead of files, the words of command lines to spoil; `read` is then handed
    them.
    """

    make: Callable[[Path], list[Path]] = lambda folder: []
    read: Callable[..., None] = lambda folder: None
    words: tuple[tuple[str, ...], ...] = ()


def _card() -> ModelCard:
    data = colored_squares("multilabel")
    return ModelCard.of(SMALL, data, thresholds=(0.5,) * len(data.class_names))


def _make_model(folder: Path) -> Path:
    card = _card()
    torch.manual_seed(0)
    save_model(folder / "model", card.build(), card, {"val_dice": 0.5})
    return folder / "model"


def _make_ensemble(folder: Path) -> list[Path]:
    model = _make_model(folder)
    write_ensemble(folder / "both", {"first": (model, 1.0), "second": (model, 2.0)}, (0.5, 0.5))
    return [folder / "both" / ENSEMBLE, folder / "both" / "first" / CONFIG]


def _training() -> tuple[TrainConfig, SegmentationData, Split]:
    config = replace(SMALL, max_epochs=1, batch_size=2, crop_size=16, epoch_pixels=0)
    return config, colored_squares("multilabel", count=4, side=16), Split(train=(0, 1), validation=(2, 3))


def _make_state(folder: Path) -> list[Path]:
    config, data, split = _training()
    list(train_module.train(config, data, split, device="cpu", folder=folder / "training"))
    return [folder / "training" / "last.safetensors"]


def _read_state(folder: Path) -> None:
    config, data, split = _training()
    card = ModelCard.of(config, data, thresholds=(0.5,) * len(data.class_names), split=split)
    load_state(folder / "training" / "last.safetensors", card)


def _pictures(folder: Path) -> list[Path]:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
    made = []
    for name in ("a.png", "b.jpg", "c.tif", "d.bmp", "e.gif", "f.ppm"):
        Image.fromarray(pixels).save(folder / name)
        made.append(folder / name)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(folder / "g.tif")
    Image.fromarray(pixels).save(folder / "h.tif", compression="tiff_lzw")
    np.save(folder / "i.npy", pixels)
    content = io.BytesIO()
    np.save(content, pixels)
    (folder / "j.npy.gz").write_bytes(gzip.compress(content.getvalue()))
    (folder / "k.png.gz").write_bytes(gzip.compress((folder / "a.png").read_bytes()))
    return [*made, *(folder / name for name in ("g.tif", "h.tif", "i.npy", "j.npy.gz", "k.png.gz"))]


def _read_pictures(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if ".npy" in path.name:
            decode_array(path)
        else:
            read_color(path)


def _data_folder(folder: Path) -> Path:
    return write_folder(folder / "cells", colored_squares("multiclass", count=4, side=16))


def _make_classes(folder: Path) -> list[Path]:
    cells = _data_folder(folder)
    (cells / "classes.txt").write_text("0 background\n1 nucleus  # round\n2 cell wall\n255 ignore\n", encoding="utf-8")
    return [cells / "classes.txt"]


def _make_groups(folder: Path) -> list[Path]:
    cells = _data_folder(folder)
    (cells / "groups.txt").write_text("picture0 anna\npicture1\tanna b\npicture2 bob\n", encoding="utf-8")
    return [cells / "groups.txt"]


def _make_masks(folder: Path) -> list[Path]:
    return sorted((_data_folder(folder) / "masks").iterdir())


def _load_folder(folder: Path) -> None:
    load(str(folder / "cells"), preparation=Preparation(size=32))


def _make_weights(folder: Path, name: str) -> list[Path]:
    from safetensors.torch import save_file

    tensors = {"features.0.0.weight": torch.zeros(16, 3, 3, 3), "features.0.1.bias": torch.ones(16)}
    if name.endswith(".safetensors"):
        save_file(tensors, folder / name)
    else:
        torch.save(tensors, folder / name, _use_new_zipfile_serialization=name.endswith(".pt"))
    return [folder / name]


def _read_weights(folder: Path) -> None:
    (path,) = folder.iterdir()
    check_init_from(replace(SMALL, encoder="mobilenet_v3", init_from=str(path)))


def _make_run(folder: Path) -> Path:
    """A run's folder with three trials in its study."""
    home = folder / "runs" / "mine"
    home.mkdir(parents=True)
    searcher = _searcher(home)
    for number, ending in enumerate(("completed", "diverged", None)):
        searcher.suggest(f"r{number}")
        result: dict[str, Any] = {
            "epoch": 1,
            "val_dice": 0.5,
            "val_dice_vessel": 0.5,
            "checkpoint": "trials/best",
        }
        searcher.on_trial_result(f"r{number}", result)
        if ending:
            searcher.on_trial_complete(f"r{number}", result | {"epoch": 2, "status": ending, "reason": "=so [it] was"})
    records = records_from_study(searcher.study)
    leaderboard.write(home / "leaderboard.csv", leaderboard.to_frame(records, ["vessel"]))
    (home / "settings.yaml").write_text(SearchSettings(data="cells", name="mine").as_yaml(), encoding="utf-8")
    return home


def _searcher(home: Path) -> StudySearcher:
    space = parse_space(("only,depth=2:4,learning_rate=1e-4:1e-2:log,loss=dice|dice_ce,zoom=0:1",))
    return StudySearcher(
        journal=home / "study.log", space=space, searcher="cma_es", num_trials=9, seed=0, max_concurrent=4
    )


def _make_leaderboard(folder: Path) -> list[Path]:
    home = _make_run(folder)
    (home / "study.log").unlink()
    return [home / "leaderboard.csv"]


def _show(folder: Path) -> None:
    command(lambda: run_command(leaderboard.leaderboard, [str(folder / "runs/mine")]))()


def _make_study(folder: Path) -> list[Path]:
    home = _make_run(folder)
    (home / "leaderboard.csv").unlink()
    return [home / "study.log"]


def _read_study(folder: Path) -> None:
    study = read_study(folder / "runs/mine/study.log")
    records = records_from_study(study)
    leaderboard.to_frame(records, leaderboard.class_names_of(records), objectives_of(study))
    history_of(study)
    _show(folder)
    searcher = _searcher(folder / "runs/mine")
    searcher.suggest("again")
    searcher.suggest("once more")


def _make_settings(folder: Path) -> list[Path]:
    return [_make_run(folder) / "settings.yaml"]


def _read_settings(folder: Path) -> None:
    words = ["--resume", "--name", "mine", "--storage", str(folder / "runs"), "--data", "gone"]
    command(lambda: run_command(run, words, defaults=read_defaults))()


def _finish(folder: Path) -> None:
    command(lambda: run_command(finals.finals, [str(folder / "runs/mine")]))()


def _make_plan(folder: Path) -> list[Path]:
    text = (
        "# my plan\nnum_trials: 12\nmax_time: 15m\nspace:\n  depth: 3:5\n  loss: [dice, dice_ce]\n  width: 8|16\n"
        "objective: [val_dice, latency_ms]\nseed: 3\ndeterministic: true\npatience: ~\nmask_threshold: 0.5\n"
    )
    (folder / "plan.yaml").write_text(text, encoding="utf-8")
    return [folder / "plan.yaml"]


def _read_plan(folder: Path) -> None:
    words = ["--print-config", "--config", str(folder / "plan.yaml"), "--storage", str(folder / "runs")]
    command(lambda: run_command(run, words, defaults=read_defaults))()


def _make_finals(folder: Path) -> list[Path]:
    import json

    record = TrialRecord(trial_id="t0001", config=vars(SMALL), metrics={"val_dice": 0.5}, checkpoint="finals/best")
    (folder / "record.json").write_text(json.dumps(vars(record)), encoding="utf-8")
    reading = {"number": 1, "when": "2026-01-01", "fingerprint": "x", "images": ["a"], "models": []}
    (folder / "test.json").write_text(json.dumps({"readings": [reading]}), encoding="utf-8")
    return [folder / "record.json", folder / "test.json"]


def _read_finals(folder: Path) -> None:
    read_readings(folder / "test.json")
    read_record_file(folder / "record.json")


def _read_space(words: list[str]) -> None:
    parse_space(words)


# What a command is called with; nothing that it could begin is there, so that none does.
COMMANDS: Mapping[str, tuple[Callable[[list[str]], int], tuple[str, ...]]] = {
    "search.run": (
        lambda words: run_command(run, ["--print-config", *words], defaults=read_defaults),
        (
            *("--data", "stare", "--num-trials", "12", "--max-time", "15m", "--budget", "20x", "--stop-at"),
            *("val_dice=0.8", "--space", "depth=3:5,loss=dice|tversky", "--size", "256", "--train-ids", "1-9,im0044"),
            *("--objective", "val_dice,latency_ms", "--folds", "3", "--name", "mine", "--gpus-per-trial", "0.5"),
        ),
    ),
    "search.leaderboard": (lambda words: run_command(leaderboard.leaderboard, words), ("runs/gone", "--top", "3")),
    "search.finals": (
        lambda words: run_command(finals.finals, words),
        ("runs/gone", "--top", "3", "--seeds", "2", "--cpus-per-trial", "1.5", "--address", "127.0.0.1:1"),
    ),
    "data.inspect": (
        lambda words: run_command(inspect.main, words),
        ("gone", "--html", "gone/page.html", "--size", "64", "--color", "grey", "--validation-ids", "1-3"),
    ),
    "data.convert": (lambda words: run_command(convert.main, words), ("gone", "gone/out", "--data-root", "gone")),
    "model.train": (
        lambda words: run_command(train_module.main, [*words, "--data", "gone/folder"]),
        ("--depth", "3", "--learning-rate", "1e-3", "--loss", "dice", "--folder", "runs/x", "--folds", "1", "--device"),
    ),
    "model.predict": (
        lambda words: run_command(predict.main, words),
        ("gone/model", "gone/pictures", "--output", "gone/out", "--device", "cpu", "--uncertainty", "2"),
    ),
    "model.export": (
        lambda words: run_command(export.main, words),
        ("gone/model", "--format", "onnx", "--output", "out"),
    ),
}
_SPACES = (
    ("depth=3:5", "loss=dice|tversky", "learning_rate=1e-4:1e-2:log", "tversky_alpha=0.1:0.7"),
    ("small", "width=8|16,momentum=0.5:0.9 if optimizer=sgd", "init_from=|imagenet", "seed=3"),
)

PARSERS: dict[str, Parser] = {
    **{
        name: Parser(read=lambda words, call=call: command(lambda: call(words))(), words=(words,))
        for name, (call, words) in COMMANDS.items()
    },
    "space": Parser(read=_read_space, words=_SPACES),
    "config.yaml of a search": Parser(make=_make_plan, read=_read_plan),
    "settings.yaml": Parser(make=_make_settings, read=_read_settings),
    "settings.yaml in the finals": Parser(make=_make_settings, read=_finish),
    "leaderboard.csv": Parser(make=_make_leaderboard, read=_show),
    "study.log": Parser(make=_make_study, read=_read_study),
    "config.yaml of a model": Parser(
        make=lambda folder: [_make_model(folder) / CONFIG], read=lambda folder: void(load_model(folder / "model"))
    ),
    "model.safetensors": Parser(
        make=lambda folder: [_make_model(folder) / WEIGHTS], read=lambda folder: void(load_model(folder / "model"))
    ),
    "ensemble.yaml": Parser(make=_make_ensemble, read=lambda folder: void(open_models(folder / "both"))),
    "last.safetensors": Parser(make=_make_state, read=_read_state),
    **{
        f"init_from of {name}": Parser(make=lambda folder, name=name: _make_weights(folder, name), read=_read_weights)
        for name in ("weights.pt", "weights.pth", "weights.safetensors")
    },
    "pictures": Parser(make=_pictures, read=_read_pictures),
    "masks": Parser(make=_make_masks, read=_load_folder),
    "classes.txt": Parser(make=_make_classes, read=_load_folder),
    "groups.txt": Parser(make=_make_groups, read=_load_folder),
    "records of the finals": Parser(make=_make_finals, read=_read_finals),
}


def void(_result: object) -> None:
    """Nothing, whatever was read."""


def copied(source: Path, target: Path) -> Path:
    """A fresh copy of what a parser reads."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
