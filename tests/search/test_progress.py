"""What a search shows: each ending once, and where it stands, in a terminal and in a log."""

from dataclasses import asdict
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from model.config import TrainConfig
from search.budget import Limits, read_budget
from search.progress import Progress, ending_line, in_words, short_config
from search.record import Status, TrialRecord

SEARCHED = ("depth", "learning_rate")


def record(
    number: int, status: Status = "running", epochs: int = 0, dice: float | None = None, **more: Any
) -> TrialRecord:
    metrics = {} if dice is None else {"val_dice": dice}
    return TrialRecord(
        trial_id=f"t{number:04d}", config=asdict(TrainConfig()), status=status, epochs=epochs, metrics=metrics, **more
    )


def shown(
    *updates: list[TrialRecord],
    terminal: bool = False,
    num_trials: int | None = 4,
    budget: str | None = None,
    left: float | None = None,
    objectives: tuple[str, ...] = ("val_dice",),
) -> list[str]:
    """The lines that a console shows for these updates, half a minute apart."""
    out = StringIO()
    console = Console(file=out, force_terminal=terminal, width=60, markup=False, highlight=False, soft_wrap=True)
    limits = Limits(trials=num_trials, budget=None if budget is None else read_budget(budget), max_epochs=10)
    with Progress(
        console,
        limits=limits,
        devices=0.5,
        searched=SEARCHED,
        time_left=lambda *_: left,
        objectives=objectives,
    ) as progress:
        for records in updates:
            progress._next_line = 0.0
            progress.update(records, spent=100.0)
    return out.getvalue().splitlines()


def test_a_log_has_a_line_for_each_ending_once() -> None:
    running = record(0, epochs=3, dice=0.5)
    done = record(0, "completed", epochs=5, dice=0.75, seconds=42)
    bad = record(1, "diverged", epochs=1, reason="the loss [was] no number")
    lines = shown([running], [done, bad], [done, bad])
    assert [line for line in lines if line.startswith("t0")] == [
        "t0000 completed: val_dice 0.7500, 5 epochs in 42 s",
        "t0001 diverged: no val_dice, 1 epoch in 0 s: the loss [was] no number",
    ]


def test_a_trial_is_told_of_when_it_waits_goes_on_and_ends() -> None:
    waits = record(0, "stopped", epochs=1, dice=0.5, reason="waits: others were better")
    done = record(0, "completed", epochs=5, dice=0.75)
    told = shown([record(0)], [waits], [record(0, epochs=1)], [done])
    assert [line for line in told if line.startswith("t0")] == [
        "t0000 waits: val_dice 0.5000, 1 epoch in 0 s: others were better",
        "t0000 goes on",
        "t0000 completed: val_dice 0.7500, 5 epochs in 0 s",
    ]


def test_what_ended_in_an_earlier_session_is_not_told_again() -> None:
    earlier, now = record(0, "completed", epochs=5, dice=0.75), record(1, "stopped", epochs=1, dice=0.25)
    assert [line[:5] for line in shown([earlier], [earlier, now]) if line.startswith("t0")] == ["t0001"]


def test_the_standing_says_how_far_the_search_has_come() -> None:
    first = [record(0), record(1)]
    later = [record(0, "completed", epochs=5, dice=0.75), record(1, "failed", dice=0.9), record(2, epochs=1, dice=0.5)]
    waiting, *_ = shown(first, later, later)
    standing = shown(first, later, later, left=100.0)[-1]
    assert waiting == "0 of 4 trials done, 2 under way, no epoch yet"
    assert standing.startswith("2 of 4 trials done, 1 under way, 1 ended badly, ")
    assert " epochs/s, about 2 min left | " in standing
    assert standing.endswith(" | best so far t0000: val_dice 0.7500, depth 3, learning_rate 0.005")


def test_trials_that_wait_are_not_done() -> None:
    waits = record(0, "stopped", epochs=1, dice=0.5, reason="waits: others were better")
    assert shown([waits, record(1)], [waits, record(1)])[-1].startswith("0 of 4 trials done, 1 under way, 1 waiting, ")


def test_of_several_objectives_it_says_what_the_best_costs_and_how_many_are_on_the_front() -> None:
    good = record(0, "completed", epochs=5, dice=0.75, parameters=4321)
    light, poor = (record(number, "stopped", epochs=5, dice=0.5, parameters=99 * number) for number in (1, 2))
    standing = shown([good, light, poor], objectives=("val_dice", "parameters"))[-1].split(" | ")
    assert standing[1:] == [
        "best so far t0000: val_dice 0.7500, 4,321 parameters, depth 3, learning_rate 0.005",
        "2 trials on the front",
    ]
    assert shown([good], objectives=("val_dice", "parameters"))[-1].endswith(" | 1 trial on the front")
    unknown = shown([record(0, epochs=1, dice=0.5)], objectives=("val_dice", "latency_ms"))[-1]
    assert "best so far t0000: val_dice 0.5000, depth 3" in unknown


def test_without_a_number_of_trials_it_says_how_many_are_done() -> None:
    one, other = record(0, "completed", epochs=10, dice=0.5, seconds=30), record(1, "completed", epochs=10, dice=0.4)
    assert shown([one], num_trials=None)[-1].startswith("1 trial done, 0 under way, no epoch yet")
    assert shown([one, other], num_trials=None)[-1].startswith("2 trials done, ")


def test_it_says_how_much_of_the_budget_is_used() -> None:
    half = record(0, "completed", epochs=10, dice=0.5, seconds=30), record(1, epochs=10, dice=0.4, seconds=20)
    assert " under way, 25 % of the budget used, " in shown([*half], budget="8x")[-1]
    assert " under way, 25 % of the budget used, " in shown([*half], budget="100s")[-1], "half a device each"


def test_a_log_says_where_it_stands_only_now_and_then() -> None:
    out = StringIO()
    limits = Limits(trials=4, max_epochs=10)
    with Progress(Console(file=out), limits=limits, devices=1.0, searched=(), time_left=lambda *_: None) as progress:
        for _ in range(50):
            progress.update([record(0)], spent=1.0)
    assert out.getvalue() == ""


def test_a_terminal_keeps_the_endings_and_clears_the_standing() -> None:
    done = record(0, "completed", epochs=5, dice=0.75)
    text = "\n".join(shown([record(0)], [done], terminal=True))
    assert "t0000 completed: val_dice 0.7500" in text
    assert "1 of 4 trials done" in text
    assert text.endswith("\x1b[2K")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (8, "8 s"), (99, "99 s"), (180, "3 min"), (7500, "2 h 5 min")]
)
def test_durations_are_told_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_an_ending_names_what_did_not_look_right() -> None:
    warned = record(0, "stopped", 1, 0.5, reason="too poor", warnings="overfitting: it does; stop | loss_flat: so; do")
    assert ending_line(warned) == (
        "t0000 stopped: val_dice 0.5000, 1 epoch in 0 s, warnings: overfitting, loss_flat: too poor"
    )


def test_a_trial_is_told_from_others_by_what_means_something_in_it() -> None:
    assert short_config(record(0), ("depth", "loss", "class_weight", "focal_gamma")) == (
        "depth 3, loss dice_ce, class_weight none"
    )


def test_an_ending_without_searched_parameters_is_short() -> None:
    assert ending_line(record(0, "completed", 1, 0.5)) == "t0000 completed: val_dice 0.5000, 1 epoch in 0 s"


def test_a_mean_over_more_folds_is_the_best_so_far_and_says_so() -> None:
    sure, lucky = record(0, "completed", 6, 0.5, folds=2), record(1, "stopped", 1, 0.9)
    assert ending_line(sure) == "t0000 completed: val_dice 0.5000, mean of 2 folds, 6 epochs in 0 s"
    assert "best so far t0000: val_dice 0.5000" in shown([sure, lucky])[-1]
