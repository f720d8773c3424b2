"""Readings of the test images: each is counted before it begins, and says what was read, with which weights."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from data.input_error import InputError
from data.segmentation_data import Split
from data.windows import place
from model.checkpoint import WEIGHTS, ModelCard, load_model, save_model
from model.config import TrainConfig
from model.ensemble import write_ensemble
from model.judge import judge
from search.held_out import (
    READINGS,
    begin_reading,
    describe_reading,
    finish_reading,
    hash_weights,
    is_same_reading,
    read_readings,
    score_models,
)
from search.resources import Needs
from search.trial import SharedWork
from tests.toys import TASKS, colored_squares


def write_fresh(folder: Path, task: str, seed: int, threshold: float = 0.5) -> Path:
    """A model folder with fresh weights that follow from the seed."""
    data = colored_squares(task)
    config = TrainConfig(depth=2, width=2, precision="float32")
    card = ModelCard.of(config, data, thresholds=(threshold,) * len(data.class_names))
    torch.manual_seed(seed)
    save_model(folder, card.build(), card, {})
    return folder


def test_a_reading_counts_from_its_beginning(tmp_path: Path) -> None:
    path, data = tmp_path / "finals" / READINGS, colored_squares("binary")
    model = write_fresh(tmp_path / "finals/best", "binary", 0)
    assert read_readings(path) == []
    asked = describe_reading([model], tmp_path, data, (4, 5))
    first = begin_reading(path, asked)
    assert first == read_readings(path)[0]
    assert first["number"] == 1
    assert (first["fingerprint"], first["images"]) == ("toy", ["picture4", "picture5"])
    sha = hashlib.sha256((model / WEIGHTS).read_bytes()).hexdigest()
    assert first["models"] == [{"model": "finals/best", "weights_sha256": {WEIGHTS: sha}}]
    # It came to nothing, and counts.
    second = begin_reading(path, asked)
    finished = finish_reading(path, second, [{"dice": {"value": 0.5}}])
    assert (finished["number"], finished["models"][0]["dice"]) == (2, {"value": 0.5})
    assert read_readings(path) == [first, finished]
    assert json.loads(path.read_text())["times_read"] == 2
    assert not is_same_reading(first, asked), "it gave nothing"
    assert is_same_reading(finished, asked)
    assert not is_same_reading(finished, asked | {"images": ["picture4"]})
    write_fresh(tmp_path / "finals/best", "binary", 1)
    assert not is_same_reading(finished, describe_reading([model], tmp_path, data, (4, 5)))


@pytest.mark.parametrize("text", ["", "[]", '{"readings": [{}]}', '{"readings": 3}', '{"times_read": 1}'])
def test_a_record_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / READINGS).write_text(text)
    with pytest.raises(InputError, match="nobody knows how often the test images were"):
        read_readings(tmp_path / READINGS)


def test_the_weights_of_every_member_are_told(tmp_path: Path) -> None:
    members = {name: (write_fresh(tmp_path / name, "binary", seed), 1) for seed, name in enumerate("ab")}
    write_ensemble(tmp_path / "both", members, (0.5,))
    hashes = hash_weights(tmp_path / "both")
    assert list(hashes) == ["a/model.safetensors", "b/model.safetensors"]
    assert len(set(hashes.values())) == 2


@pytest.mark.parametrize("task", TASKS)
def test_models_are_judged_on_the_test_images_with_their_own_thresholds(tmp_path: Path, task: str) -> None:
    data, test = colored_squares(task, count=9), (5, 6, 7, 8)
    work = SharedWork(
        data=data,
        splits=(Split(train=(0, 1, 2), validation=(3, 4), test=test),),
        train=None,
        folder=tmp_path,
        needs=Needs(cpus=1, gpus=0),
    )
    low, high = (write_fresh(tmp_path / f"{at}", task, 0, at) for at in (0.25, 0.75))
    write_ensemble(tmp_path / "both", {"low": (low, 1), "high": (high, 1)}, load_model(low)[1].thresholds)
    first, second, both = score_models([low, high, tmp_path / "both"], work)
    network, card = load_model(low)
    pictures = place(data, test, torch.device("cpu"))
    judged = judge(network, pictures, data.label_mode, bfloat16=False, thresholds=card.thresholds)
    assert first["dice"]["value"] == judged.scores().dice
    assert first["dice_per_image"]["value"] == judged.scores().dice_per_image
    assert list(first["images"]) == ["picture5", "picture6", "picture7", "picture8"]
    assert first["dice"]["low"] <= first["dice"]["value"] <= first["dice"]["high"]
    assert [score["value"] for score in first["dice_of_classes"].values()] == pytest.approx(
        list(judged.scores().class_dice), nan_ok=True
    )
    # Of the same weights twice, the ensemble is one of them; its threshold is the first one's.
    assert both["dice"]["value"] == pytest.approx(first["dice"]["value"], abs=1e-3)
    assert (second["dice"] == first["dice"]) == (task == "multiclass"), "thresholds make the difference"
    json.dumps([first, second, both], allow_nan=False)
