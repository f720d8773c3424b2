"""The card of a model: what stands in it, and that names of strangers are text there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.checkpoint import SCORES, ModelCard, save_model
from model.config import TrainConfig
from search.bootstrap import bootstrap_mean
from search.model_card import MODEL_CARD, write_model_card
from search.record import TrialRecord
from search.scores_file import read_scores
from tests.toys import colored_squares, split_in_two

JUDGED = {
    "pooled": {"dice": 0.5},
    "classes": {"a|b": {"dice": 0.75, "iou": 0.6, "precision": 0.8, "recall": 0.7}, "class1": {"dice": None}},
    "images": {"one": {"a|b": 0.7, "class1": None}, "two": {"a|b": 0.8, "class1": None}},
}


def test_the_card_says_what_the_model_is_how_good_and_not_for_what(tmp_path: Path) -> None:
    data = replace(colored_squares("multilabel"), class_names=("a|b", "class1"), source="my <b>set</b>")
    config = TrainConfig(depth=2, width=2, loss="dice")
    card = ModelCard.of(config, data, thresholds=(0.25, 0.5), split=split_in_two(data))
    torch.manual_seed(0)
    save_model(tmp_path, card.build(), card, {}, judged=JUDGED)
    facts = {"version": "1.2", "parameters": 1234, "best_epoch": 7, "warnings": "odd: look | twice: so"}
    record = TrialRecord(trial_id="t0003", config=vars(config), **facts)
    write_model_card(tmp_path, record, "night_run")
    text = (tmp_path / MODEL_CARD).read_text()
    assert "trial t0003 of the search night\\_run, made by unet-search 1.2" in text
    assert "my \\<b\\>set\\</b\\>" in text
    assert "4 pictures to learn from, 2 by which it was chosen" in text
    assert "1,234 parameters: encoder own, depth 2, width 2." in text
    first, second = (line for line in text.splitlines() if "sky blue" in line or "yellow" in line)
    assert first.startswith(
        "| a\\|b | sky blue #56b4e9 | 0.750 | 0.750 (0.700 to 0.800) | 0.600 | 0.800 | 0.700 | 0.250 |"
    )
    assert second == "| class1 | yellow #f0e442 |  |  |  |  |  | 0.500 |"
    assert "- odd: look\n- twice: so\n- It is no medical device" in text


def test_without_scores_the_card_says_the_rest(tmp_path: Path) -> None:
    data = colored_squares("binary")
    card = ModelCard.of(TrainConfig(depth=2, width=2), data, thresholds=(0.5,))
    save_model(tmp_path, card.build(), card, {})
    for content in (None, "{", "[]", '{"classes": {"class0": 3}}', '{"images": []}'):
        if content is not None:
            (tmp_path / SCORES).write_text(content)
        assert read_scores(tmp_path / SCORES) == {}
        write_model_card(tmp_path, TrialRecord(trial_id="t0000", config={}), "run")
        assert "| class0 | sky blue #56b4e9 |  |  |  |  |  | 0.500 |" in (tmp_path / MODEL_CARD).read_text()


@pytest.mark.parametrize("values", [(), (0.5,)])
def test_of_one_picture_there_is_no_interval(values: tuple[float, ...]) -> None:
    assert bootstrap_mean(values) is None


def test_the_interval_of_a_mean_is_that_of_its_error() -> None:
    values = torch.linspace(0, 1, 101).tolist()
    interval = bootstrap_mean(values)
    assert interval is not None
    error = 1.96 * torch.tensor(values).std().item() / 101**0.5
    assert interval == pytest.approx((0.5 - error, 0.5 + error), abs=0.01)
