"""Reads the images that were kept for the end, and writes down that it did: each reading, by whom and what it gave."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data.input_error import InputError
from data.json_file import read_json
from data.replacing import write_text
from data.segmentation_data import SegmentationData
from search.trial import SharedWork

READINGS = "test.json"

Reading = dict[str, Any]


def read_readings(path: Path) -> list[Reading]:
    """All readings of the test images so far, the first one first. Raises InputError for a file that cannot be read."""
    if not path.is_file():
        return []
    try:
        readings: list[Reading] = read_json(path)["readings"]
        assert all(isinstance(reading["when"], str) for reading in readings)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read ({error!r}), so nobody knows how often the test images were: bring it back, "
            "or move it away if you know that it was never."
        ) from error
    return readings


def describe_reading(models: Sequence[Path], run: Path, data: SegmentationData, test: Sequence[int]) -> Reading:
    """What is to be read with which models. models: folders inside the run's. test: the images' places."""
    return {
        "fingerprint": data.fingerprint,
        "images": [data.names[index] for index in test],
        "models": [
            {"model": model.relative_to(run).as_posix(), "weights_sha256": hash_weights(model)} for model in models
        ],
    }


def is_same_reading(done: Reading, asked: Reading) -> bool:
    """Whether a reading that was finished has read these images with these very models, and could only say the same."""
    models = [{name: one.get(name) for name in ("model", "weights_sha256")} for one in done["models"]]
    same = (done["fingerprint"], done["images"], models) == (asked["fingerprint"], asked["images"], asked["models"])
    return same and all("dice" in one for one in done["models"])


def begin_reading(path: Path, asked: Reading) -> Reading:
    """Writes down that the test images are about to be read as `describe_reading` says; the reading, without scores.

    So a reading counts even if it is never heard of again.
    """
    readings = read_readings(path)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    reading = {"number": len(readings) + 1, "when": when, **asked}
    _write(path, [*readings, reading])
    return reading


def finish_reading(path: Path, reading: Reading, scores: Sequence[Mapping[str, Any]]) -> Reading:
    """Writes down what the reading gave, for each of its models; the reading with its scores."""
    models = [{**model, **of_model} for model, of_model in zip(reading["models"], scores, strict=True)]
    finished = {**reading, "models": models}
    _write(path, [*read_readings(path)[:-1], finished])
    return finished


def hash_weights(model: Path) -> dict[str, str]:
    """sha256 (hex) of every file of weights in a model's folder, or in those of an ensemble's members."""
    return {
        file.relative_to(model).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(model.rglob("*.safetensors"))
    }


def score_models(models: Sequence[Path], work: SharedWork) -> list[dict[str, Any]]:
    """What each of these models, single or an ensemble, is worth on the test images, as plain JSON.

    With the thresholds of its folder, inside the field of view, pixels pooled over all images; the intervals are those
    of `search.bootstrap`, None where there is none.
    """
    import torch

    from data.windows import place
    from model.ensemble import MeanNetwork, open_models
    from model.judge import judge
    from search.bootstrap import bootstrap_dice

    torch.set_num_threads(work.needs.threads)
    data, device, test = work.data, torch.device(work.needs.device), work.splits[0].test
    scored = []
    for folder in models:
        opened = open_models(folder, device)
        thresholds = opened[0].card.thresholds
        judgement = judge(
            MeanNetwork(opened), place(data, test, device), data.label_mode, bfloat16=False, thresholds=thresholds
        )
        intervals = bootstrap_dice(judgement.counts)
        judged = judgement.as_mapping(data.class_names, [data.names[index] for index in test])
        scored.append(
            {
                "dice": _with_interval(judged["pooled"]["dice"], intervals.mean),
                "dice_per_image": _with_interval(judged["pooled"]["dice_per_image"], intervals.per_image),
                "dice_of_classes": {
                    name: _with_interval(judged["classes"][name]["dice"], interval)
                    for name, interval in zip(data.class_names, intervals.classes, strict=True)
                },
                **judged,
            }
        )
    return scored


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {"value": value, "low": low, "high": high}


def _write(path: Path, readings: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = {"times_read": len(readings), "readings": readings}
    write_text(path, json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
