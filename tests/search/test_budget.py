"""What ends a search, as it is typed, and when hand-made records of its trials have come to it."""

from typing import Any

import pytest

from data.input_error import InputError
from search.budget import Budget, Limits, Target, check_target, read_budget, read_seconds, read_target, remedy
from search.record import Status, TrialRecord


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("0.5s", 0.5), ("15m", 900), ("2h", 7200), ("1h30m", 5400), ("1d", 86400), ("1.5h", 5400)],
)
def test_a_duration_is_read_in_any_unit(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


def test_a_duration_without_a_unit_is_refused() -> None:
    with pytest.raises(InputError, match="max_time '3' has no unit: write 3m for minutes"):
        read_seconds("3")


@pytest.mark.parametrize(
    "text", ["", "soon", "-5m", "0s", "5 minutes", "m", "15m!", "1h-5m", "inf", "nan", "1e3", "367d", "9" * 500 + "d"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"max_time '.*15m") as refusal:
        read_seconds(text)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("20x", "trainings", 20),
        ("2.5x", "trainings", 2.5),
        (" 20 x ", "trainings", 20),
        ("500epochs", "epochs", 500),
        ("1 epoch", "epochs", 1),
        ("3h", "seconds", 10800),
        ("1d12h", "seconds", 129600),
        ("400d", "seconds", 400 * 86400),
    ],
)
def test_a_budget_is_so_many_trainings_epochs_or_seconds(text: str, unit: Any, amount: float) -> None:
    assert read_budget(text) == Budget(text=text.strip(), unit=unit, amount=amount)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("20", "budget '20' has no unit: write 20x for whole trainings, 20epochs, or 20h of devices; the number of "),
        ("x20", "budget 'x20' is turned round: write 20x."),
        ("0x", "budget '0x' must be above 0: write it like 20x"),
        ("0epochs", "budget '0epochs' must be above 0"),
        ("0h", "budget '0h' must be above 0"),
        ("-3h", "budget '-3h' is none: write it like 20x (whole trainings), 500epochs, or 3h (of devices)."),
        ("1.5epochs", "budget '1.5epochs' is none"),
        ("", "budget '' is none"),
        ("lots", "budget 'lots' is none"),
        ("infx", "budget 'infx' is none"),
        ("9" * 400 + "x", "... must be above 0"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_budget(text)
    assert words.replace("... ", "...' ") in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("val_dice=0.82", ("val_dice=0.82", "val_dice", 0.82)),
        ("val_dice>=0.82", ("val_dice=0.82", "val_dice", 0.82)),
        (" val_iou = .5 ", ("val_iou=.5", "val_iou", 0.5)),
        ("val_dice_white cell=1", ("val_dice_white cell=1", "val_dice_white cell", 1.0)),
        ("val_dice_additive=3.2", ("val_dice_additive=3.2", "val_dice_additive", 3.2)),
    ],
)
def test_a_target_is_a_metric_and_what_it_has_to_reach(text: str, target: tuple[str, str, float]) -> None:
    words, metric, value = target
    assert read_target(text) == Target(text=words, metric=metric, value=value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dice=0.8", "Did you mean 'val_dice'?"),
        ("val_dise=0.8", "Did you mean 'val_dice'?"),
        ("loss=0.1", "stop_at 'loss' is not known; allowed: val_accuracy, "),
        ("0.82", "stop_at '0.82' is no target: write it like val_dice=0.82."),
        ("val_dice", "stop_at 'val_dice' is no target"),
        ("=0.8", "stop_at '=0.8' is no target"),
        ("val_dice=", "stop_at 'val_dice=' has no number: write it like val_dice=0.82."),
        ("val_iou=good", "stop_at 'val_iou=good' has no number: write it like val_iou=0.82."),
        ("val_dice=82", "stop_at 'val_dice=82' must be above 0 and at most 1: write it like val_dice=0.82."),
        ("val_dice=0", "must be above 0 and at most 1: write it like val_dice=0.82."),
        ("val_dice=nan", "must be above 0 and at most 1"),
        ("val_dice=1.5", "write it like val_dice=0.82."),
        ("val_dice_additive=inf", "must be above 0: "),
    ],
)
def test_what_is_no_target_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_target(text)
    assert words in str(refusal.value)


def test_a_target_for_a_class_needs_the_class() -> None:
    check_target(None, ["vessel"])
    check_target(read_target("val_dice=0.8"), ["vessel"])
    check_target(read_target("val_dice_per_image=0.8"), ["vessel"])
    check_target(read_target("val_dice_vessel=0.8"), ["disc", "vessel"])
    with pytest.raises(InputError, match=r"stop_at 'val_dice_vesel' is not known.*Did you mean 'val_dice_vessel'\?"):
        check_target(read_target("val_dice_vesel=0.8"), ["disc", "vessel"])


def limits(
    max_time: str | None = None,
    budget: str | None = None,
    target: str | None = None,
    patience: int | None = None,
    **more: Any,
) -> Limits:
    return Limits(
        max_time=max_time,
        budget=None if budget is None else read_budget(budget),
        target=None if target is None else read_target(target),
        patience=patience,
        **{"max_epochs": 10} | more,
    )


def trial(
    status: Status = "completed", dice: float | None = None, epochs: int = 10, folds: int = 1, **more: Any
) -> TrialRecord:
    metrics = {} if dice is None else {"val_dice": dice, "val_dice_vessel": dice / 2}
    given: dict[str, Any] = {"trial_id": "t0007", "seconds": 2.0 * epochs} | more
    return TrialRecord(config={}, status=status, metrics=metrics, epochs=epochs, folds=folds, **given)


@pytest.mark.parametrize(
    ("budget", "counts"),
    [(None, False), ("20x", False), ("500epochs", False), ("3h", True), ("90s", True), ("1d12h", True)],
)
def test_a_cheap_training_leaves_more_for_others_where_time_of_devices_is_the_budget(
    budget: str | None, counts: bool
) -> None:
    assert limits(budget=budget, max_time="2h", patience=3).counts_device_time == counts


def test_without_limits_it_is_never_over() -> None:
    nothing = limits(trials=1)
    assert nothing.over([trial(dice=1.0)] * 9, 1e9, 1.0) == ""
    assert not nothing.reads_records
    assert nothing.seconds is None
    assert nothing.budget_amount is None


@pytest.mark.parametrize(("spent", "reason"), [(899.9, ""), (900.0, "max_time 15m reached")])
def test_it_is_over_when_the_time_is(spent: float, reason: str) -> None:
    assert limits("15m").over([], spent, 1.0) == reason
    assert not limits("15m").reads_records


@pytest.mark.parametrize(
    ("asked", "records", "devices", "reason"),
    [
        (limits(budget="2x"), [trial(epochs=19)], 1.0, ""),
        (limits(budget="2x"), [trial(epochs=10), trial("running", epochs=10)], 1.0, "2x used up (20 of 20 epochs)"),
        (limits(budget="2x"), [trial("diverged", epochs=23)], 1.0, "2x used up (23 of 20 epochs)"),
        (limits(budget="2x", folds=3), [trial(epochs=59)], 1.0, ""),
        (limits(budget="2x", folds=3), [trial(epochs=60)], 1.0, "2x used up (60 of 60 epochs)"),
        (limits(budget="2x", max_epochs=3), [trial(epochs=6)], 0.5, "2x used up (6 of 6 epochs)"),
        (limits(budget="1epoch", folds=3), [trial(epochs=1)], 4.0, "1epoch used up (1 of 1 epochs)"),
        (limits(budget="1m"), [trial(epochs=29)], 1.0, ""),
        (limits(budget="1m"), [trial(epochs=15), trial(epochs=15)], 1.0, "1m used up (60 of 60 s of devices)"),
        (limits(budget="1m"), [trial(epochs=59)], 0.5, ""),
        (limits(budget="1m"), [trial(epochs=60)], 0.5, "1m used up (60 of 60 s of devices)"),
        (limits(budget="1m", folds=3), [trial(epochs=8)], 4.0, "1m used up (64 of 60 s of devices)"),
        # Memory did not suffice for trials that share a GPU, or another session gave them more of it.
        (limits(budget="1m"), [trial(devices=0.5), trial(devices=1.0)], 4.0, ""),
        (limits(budget="25s"), [trial(devices=0.5), trial(devices=1.0)], 4.0, "25s used up (30 of 25 s of devices)"),
    ],
)
def test_a_budget_is_what_all_trainings_took_together(
    asked: Limits, records: list[TrialRecord], devices: float, reason: str
) -> None:
    assert asked.over(records, 1e9, devices) == (f"budget {reason}" if reason else "")
    assert asked.reads_records


@pytest.mark.parametrize(
    ("text", "records", "reached"),
    [
        ("val_dice=0.8", [trial(dice=0.79)], ""),
        ("val_dice=0.8", [trial(dice=0.79), trial("running", dice=0.8)], "val_dice=0.8 reached by t0007 (0.8000)"),
        ("val_dice=0.8", [trial("stopped", dice=0.81234)], "val_dice=0.8 reached by t0007 (0.8123)"),
        ("val_dice=0.8", [trial("diverged", dice=0.9)], ""),
        ("val_dice=0.8", [trial("running")], ""),
        ("val_dice=0.8", [trial(dice=0.9, folds=2)], ""),
        ("val_dice_vessel=0.4", [trial(dice=0.79)], ""),
        ("val_dice_vessel=0.4", [trial(dice=0.81)], "val_dice_vessel=0.4 reached by t0007 (0.4050)"),
        ("val_iou=0.1", [trial(dice=0.81)], ""),
    ],
)
def test_a_target_is_reached_by_one_sound_training(text: str, records: list[TrialRecord], reached: str) -> None:
    assert limits(target=text).over(records, 0.0, 1.0) == (f"stop_at {reached}" if reached else "")


def test_a_target_counts_over_all_folds() -> None:
    asked = limits(target="val_dice=0.8", folds=3)
    assert asked.over([trial("running", dice=0.9, folds=2)], 0.0, 1.0) == ""
    assert asked.over([trial(dice=0.9, folds=3)], 0.0, 1.0) != ""


@pytest.mark.parametrize(
    ("records", "in_a_row", "best"),
    [
        ([trial(dice=0.5), trial(dice=0.4)], 1, "0.5000"),
        ([trial(dice=0.5), trial(dice=0.4), trial(dice=0.5)], 2, "0.5000"),
        # A hair is no improvement, and many of them are one.
        ([trial(dice=0.5), trial(dice=0.5009), trial(dice=0.4)], 2, "0.5000"),
        ([trial(dice=0.5), trial(dice=0.5009), trial(dice=0.5018)], 0, "0.5018"),
        ([trial(dice=0.5), trial("diverged", dice=0.9), trial("failed")], 2, "0.5000"),
        ([trial(dice=0.5), trial("stopped", dice=0.2), trial("stopped")], 2, "0.5000"),
        ([trial(dice=0.5), trial("stopped", dice=0.6)], 0, "0.6000"),
        ([trial("out_of_memory"), trial("failed")], 2, ""),
        # What still runs is not counted, and what has got better already is worth going on.
        ([trial(dice=0.5), trial(dice=0.4), trial("running", dice=0.3), trial("running")], 1, "0.5000"),
        ([trial(dice=0.5), trial(dice=0.4), trial("running", dice=0.6)], 0, "0.6000"),
        # A mean over more folds is the surer one, be it lower or not.
        ([trial(dice=0.5), trial(dice=0.4, folds=3)], 0, "0.4000"),
        ([trial(dice=0.4, folds=3), trial("stopped", dice=0.5)], 1, "0.4000"),
    ],
)
def test_patience_counts_the_trials_since_the_last_better_one(
    records: list[TrialRecord], in_a_row: int, best: str
) -> None:
    assert limits(patience=in_a_row + 1).over(records, 0.0, 1.0) == ""
    if in_a_row:
        brought = f"bettered val_dice {best} by no more than 0.001" if best else "brought no val_dice"
        assert limits(patience=in_a_row).over(records, 0.0, 1.0) == (
            f"patience {in_a_row} at its end: the last {in_a_row} trials {brought}"
        )


def test_the_first_of_several_reasons_is_told_and_each_has_a_remedy() -> None:
    records = [trial(dice=0.5), trial(dice=0.4)]
    all_of_them: dict[str, Any] = {"max_time": "1s", "budget": "1x", "target": "val_dice=0.4", "patience": 1}
    for setting, remedied in (
        ("max_time", "a longer --max-time"),
        ("budget", "a larger --budget"),
        ("target", "a higher --stop-at"),
        ("patience", "a larger --patience"),
    ):
        reason = limits(**all_of_them).over(records, 9.0, 1.0)
        assert reason.startswith("stop_at" if setting == "target" else setting)
        assert remedy(reason) == remedied
        del all_of_them[setting]
    assert remedy("num_trials 12 reached") == "a larger --num-trials"
    assert remedy("nothing is left to try") == ""
