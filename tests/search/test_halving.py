"""Successive halving: who is stopped and who waits at a rung, who goes on when, and how the search is wound up."""

import random
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from search import halving
from search.halving import HalvingScheduler, PromotingScheduler, Rung
from search.pareto import scores
from search.rungs import Rungs
from search.schedulers import make_scheduler
from tests.search.paper_search import PaperSearch, PaperTrial, curves, steady

# With nine epochs the rungs stand at 1, 3 and 9.
CURVES = curves(
    [0.30, 0.40, 0.50, 0.55, 0.60, 0.62, 0.64, 0.66, 0.68],
    [0.20, 0.70, 0.80, 0.80, 0.80, 0.80, 0.80, 0.80, 0.80],
    [0.40, 0.41, 0.42, 0.43, 0.44, 0.45, 0.46, 0.47, 0.48],
    [0.35, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90],
    [0.50, 0.60, 0.70, 0.80, 0.81, 0.82, 0.83, 0.84, 0.85],
    [0.45, 0.46, 0.49, 0.50, 0.51, 0.52, 0.53, 0.54, 0.55],
)


def ray_trial(our_id: str) -> Any:
    return PaperTrial(f"ray-{our_id}", {"trial_id": our_id})


def last_epochs(search: PaperSearch) -> dict[str, int]:
    return {our_id: max(values) for our_id, values in search.done.items()}


def test_a_trial_below_the_best_third_is_stopped_and_told_why() -> None:
    scheduler = make_scheduler("asha", max_epochs=9)
    search = PaperSearch(scheduler, CURVES, workers=6).run()
    # At epoch 1 the best third of [0.3] is 0.3, of [0.3, 0.2, 0.4] 0.333, of [... 0.35, 0.5] 0.383.
    # At epoch 3 of [0.5] 0.5, of [0.5, 0.42] 0.473, of [0.5, 0.42, 0.9, 0.7] 0.7.
    assert last_epochs(search) == {"t0000": 9, "t0001": 1, "t0002": 3, "t0003": 9, "t0004": 9, "t0005": 3}
    reasons = {our_id: scheduler.reason(f"ray1-{our_id}") for our_id in CURVES}
    assert reasons["t0001"] == "best val_dice 0.2000 by epoch 1 was not among the best third (0.3000 or more)"
    assert reasons["t0005"] == "best val_dice 0.4900 by epoch 3 was not among the best third (0.7000 or more)"
    assert reasons["t0000"] == ""


def test_trials_are_compared_by_the_best_that_they_have_shown() -> None:
    scheduler = make_scheduler("asha", max_epochs=9)
    search = PaperSearch(scheduler, curves([0.5, 0.6, 0.55] + [0.6] * 6, [0.5, 0.9, 0.1] + [0.6] * 6)).run()
    assert last_epochs(search) == {"t0000": 9, "t0001": 9}
    late = PaperSearch(scheduler, {"t0002": {1: 0.9, 2: 0.89, 3: 0.88, 9: 0.9}}, session="2").run(most_results=3)
    assert late.ended == {}, "0.9 at its first epoch is as good as the best by the third"


def test_the_mean_over_folds_takes_the_place_of_the_first_fold() -> None:
    # Rungs at 1, 3, 9: three epochs a fold, so the last rung is passed with all three folds.
    scheduler = make_scheduler("asha", max_epochs=3, folds=4)
    good, lucky = {1: 0.6, 2: 0.6, 3: 0.6, 6: 0.6, 9: 0.6, 12: 0.6}, {1: 0.9, 2: 0.9, 3: 0.9, 6: 0.6, 9: 0.5, 12: 0.5}
    search = PaperSearch(scheduler, {"t0000": good, "t0001": lucky}).run()
    assert last_epochs(search) == {"t0000": 12, "t0001": 9}
    assert (
        scheduler.reason("ray1-t0001")
        == "best val_dice 0.5000 by epoch 9 was not among the best third (0.6000 or more)"
    )


def test_new_trials_are_judged_by_those_of_earlier_sessions() -> None:
    earlier = PaperSearch(make_scheduler("none", max_epochs=9), {"t0000": {1: 0.6, 2: float("nan"), 9: 0.6}}).run()
    scheduler = make_scheduler("asha", max_epochs=9, study=earlier.study())
    assert last_epochs(PaperSearch(scheduler, steady(0.5))) == {}
    search = PaperSearch(scheduler, {"t0004": CURVES["t0004"]}).run()
    assert last_epochs(search) == {"t0004": 1}


def test_hyperband_deals_trials_to_brackets_which_they_keep() -> None:
    scheduler, again = (HalvingScheduler(Rungs(max_epochs=60), brackets=3) for _ in range(2))
    names = [f"t{number:04d}" for number in range(300)]
    brackets = [scheduler._brackets.index(scheduler._bracket_of(name)) for name in names]
    assert brackets == [again._brackets.index(again._bracket_of(name)) for name in reversed(names)][::-1]
    # Of three, two and one rungs: shares in the ratio of e to the power of these.
    shares = Counter(brackets)
    assert [shares[index] / 300 for index in range(3)] == pytest.approx([0.665, 0.245, 0.090], abs=0.05)
    last = next(name for name, bracket in zip(names, brackets, strict=True) if bracket == 2)
    for our_id, value in [(last, 0.1), (f"{last}x", 0.9)]:
        scheduler.on_trial_add(None, ray_trial(our_id))
        assert scheduler.on_trial_result(None, ray_trial(our_id), {"epoch": 20, "val_dice": value}) == "CONTINUE"
    assert HalvingScheduler(Rungs(max_epochs=2), brackets=3).rungs == [1, 2], "there are no more brackets than rungs"


# The first beats the next three; the fifth is poor, but much lighter than all others.
WEIGHTS = {f"t000{number}": {"parameters": cost} for number, cost in enumerate([100, 200, 300, 400, 5, 500])}


def test_a_light_trial_on_the_front_goes_on_before_better_ones_that_are_not() -> None:
    scheduler = make_scheduler("asha", max_epochs=9, costs=["parameters"])
    search = PaperSearch(scheduler, steady(0.9, 0.8, 0.7, 0.6, 0.1, 0.05), workers=6, costs=WEIGHTS).run()
    # At epoch 1 the fifth is the second of five, in the order of the fronts; at epoch 3 the second of two.
    assert last_epochs(search) == {"t0000": 9, "t0001": 1, "t0002": 1, "t0003": 1, "t0004": 3, "t0005": 1}
    assert scheduler.reason("ray1-t0003") == (
        "best val_dice 0.6000 by epoch 1, at 400 parameters, was not among the best third of 4 in all that counts"
    )
    promoting = make_scheduler("asha_promote", max_epochs=9, costs=["parameters"])
    search = PaperSearch(promoting, steady(0.9, 0.8, 0.7, 0.6, 0.1, 0.05), costs=WEIGHTS).run()
    assert {our_id for our_id, epoch in search.log if epoch == 3} == {"t0000", "t0004"}
    assert promoting.reason("ray1-t0004") == (
        "best val_dice 0.1000 by epoch 3, at 5 parameters, was not among the best third of 2 in all that counts"
    )


@pytest.mark.parametrize("name", ["asha", "asha_promote", "hyperband"])
def test_with_costs_an_interrupted_search_comes_to_the_same_ends(name: str) -> None:
    values, asked = steady(0.5, 0.8, 0.7, 0.6, 0.1, 0.9), {"max_epochs": 9, "costs": ["parameters"]}
    undisturbed = PaperSearch(make_scheduler(name, **asked), values, costs=WEIGHTS).run()
    for results in range(1, len(undisturbed.log), 4):
        first = PaperSearch(make_scheduler(name, **asked), values, costs=WEIGHTS).run(most_results=results)
        again = make_scheduler(name, **asked, study=first.study())
        known: dict[str, Any] = {"done": first.done, "ended": first.ended, "resting": first.resting}
        second = PaperSearch(again, values, **known, session="2", costs=WEIGHTS).run()
        assert (second.ended, second.done) == (undisturbed.ended, undisturbed.done)


@pytest.mark.parametrize("name", ["asha", "asha_promote"])
def test_trials_of_earlier_sessions_are_not_compared_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"max_epochs": 9, "costs": ["parameters"]}
    earlier = PaperSearch(make_scheduler(name, **asked), steady(0.9, 0.8), costs=WEIGHTS).run()
    monkeypatch.setattr(halving, "scores", None)  # a thousand trials would take as many times as long
    make_scheduler(name, **asked, study=earlier.study())


@pytest.mark.parametrize("name", ["asha", "asha_promote"])
def test_a_result_without_its_cost_counts_for_nothing(name: str) -> None:
    scheduler = make_scheduler(name, max_epochs=9, costs=["latency_ms"])
    search = PaperSearch(scheduler, steady(0.9, 0.1), workers=2, costs=WEIGHTS).run()
    assert last_epochs(search) == {"t0000": 9, "t0001": 9}


def test_a_trial_waits_until_it_is_among_the_best_third() -> None:
    scheduler = make_scheduler("asha_promote", max_epochs=9)
    search = PaperSearch(scheduler, steady(0.3, 0.5, 0.9, 0.6, 0.4, 0.2)).run()
    assert search.log == [
        *[("t0000", 1), ("t0001", 1)],
        # The best of three goes on, and is the first to come to epoch 3, where one in three does.
        *[("t0002", 1), ("t0002", 2), ("t0002", 3)],
        # Of six trials two go on: the other one had waited.
        *[("t0003", 1), ("t0004", 1), ("t0005", 1), ("t0003", 2), ("t0003", 3)],
        # There are no more trials, and none has come to its end: the best one does.
        *[("t0002", epoch) for epoch in range(4, 10)],
    ]
    assert search.ended.pop("t0002") == "completed"
    assert set(search.ended.values()) == {"stopped"}
    assert {our_id: scheduler.reason(f"ray1-{our_id}") for our_id in ("t0000", "t0002", "t0003")} == {
        "t0000": "best val_dice 0.3000 by epoch 1 was not among the best third (0.6000 or more)",
        "t0002": "",
        "t0003": "best val_dice 0.6000 by epoch 3 was not among the best third (0.9000 or more)",
    }


def test_the_last_to_go_on_is_the_next_best_where_the_best_one_fails() -> None:
    scheduler = PromotingScheduler(Rungs(max_epochs=9))
    values = steady(0.3) | {"t0001": {1: 0.5, 2: 0.5}}
    search = PaperSearch(scheduler, values, endings={"t0001": "diverged"}).run()
    assert search.starts == ["t0000", "t0001", "t0001", "t0000"]
    assert search.ended == {"t0000": "completed", "t0001": "diverged"}


# Three come to epoch 3, of which t0000 goes on to its end; then t0009 does, and t0010 waits there.
ONE_DIVERGES = steady(0.6, 0.5, 0.4, *[0.1] * 6, 0.9, 0.85) | {"t0009": {1: 0.9, 2: 0.9, 3: 0.9, 4: 0.9}}
DIVERGES = {"t0009": "diverged"}


def test_one_that_ended_badly_keeps_the_best_one_from_nothing() -> None:
    search = PaperSearch(make_scheduler("asha_promote", max_epochs=9), ONE_DIVERGES, endings=DIVERGES).run()
    assert search.log[-6:] == [("t0010", epoch) for epoch in range(4, 10)]
    assert {our_id for our_id, status in search.ended.items() if status == "completed"} == {"t0000", "t0010"}


def test_what_ended_badly_before_an_interrupt_is_remembered() -> None:
    first = PaperSearch(make_scheduler("asha_promote", max_epochs=9), ONE_DIVERGES, endings=DIVERGES)
    while "t0010" not in first.resting or 3 not in first.done["t0010"]:
        first.run(most_results=1)
    assert (first.ended, first.running) == ({"t0000": "completed", "t0009": "diverged"}, [])
    again = make_scheduler("asha_promote", max_epochs=9, study=first.study())
    known: dict[str, Any] = {"done": first.done, "ended": first.ended, "resting": first.resting}
    second = PaperSearch(again, ONE_DIVERGES, **known, session="2").run()
    assert second.starts == ["t0010"]
    assert second.ended["t0010"] == "completed"


@pytest.mark.parametrize(("starts_again", "ending"), [(False, "completed"), (True, "stopped")])
def test_one_whose_process_died_ended_badly_unless_it_is_started_again(starts_again: bool, ending: str) -> None:
    scheduler = PromotingScheduler(Rungs(max_epochs=9))
    search = PaperSearch(scheduler, steady(0.6, 0.5, 0.4, *[0.1] * 6, 0.9, 0.85))
    while ("t0009", 3) not in search.log:
        search.run(most_results=1)
    dying = search.running[0]
    scheduler.on_trial_error(search, dying)
    if starts_again:
        scheduler.on_trial_add(search, dying)
    else:
        search.running.clear()
        search._end(dying, "failed")
    assert search.run().ended["t0010"] == ending


def test_a_training_that_completed_without_any_number_is_not_the_one_that_comes_to_its_end() -> None:
    values = steady(0.5, 0.5) | {"t0002": {1: float("nan")}}
    search = PaperSearch(make_scheduler("asha_promote", max_epochs=9), values).run()
    assert search.ended == {"t0000": "completed", "t0001": "stopped", "t0002": "completed"}


def test_between_some_that_are_ended_and_the_next_the_search_may_be_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(halving, "ENDED_AT_ONCE", 2)
    scheduler = make_scheduler("asha_promote", max_epochs=9)
    search = PaperSearch(scheduler, steady(*[0.5] * 9))
    choose, ended = scheduler.choose_trial_to_run, []

    def choose_and_count(controller: Any) -> Any:
        before = len(search.ended)
        trial = choose(controller)
        ended.append(len(search.ended) - before)
        return trial

    monkeypatch.setattr(scheduler, "choose_trial_to_run", choose_and_count)
    search.run()
    assert Counter(search.ended.values()) == {"completed": 1, "stopped": 8}
    assert max(ended) == 2


def test_a_trial_that_is_the_best_at_its_rung_is_not_stopped_because_others_had_ended() -> None:
    first = PaperSearch(make_scheduler("asha_promote", max_epochs=9), steady(0.3, 0.5, 0.4)).run()
    assert last_epochs(first) == {"t0000": 1, "t0001": 9, "t0002": 1}
    again = make_scheduler("asha_promote", max_epochs=9, study=first.study())
    values = steady(0.3, 0.5, 0.4, 0.9, 0.1)
    second = PaperSearch(again, values, done=first.done, ended=first.ended, session="2").run()
    assert last_epochs(second) == {"t0000": 1, "t0001": 9, "t0002": 1, "t0003": 9, "t0004": 1}


@pytest.mark.parametrize(("trials", "objectives"), [(1000, 1), (100, 2)])
def test_who_may_go_on_is_who_is_among_the_best_third_of_all(trials: int, objectives: int) -> None:
    draw, rung, points, waiting = random.Random(0), Rung(), {}, set[str]()
    for number in range(trials):
        our_id = f"t{number:04d}"
        points[our_id] = tuple(round(draw.random(), 2) for _ in range(objectives))  # some are alike
        rung.add(our_id, points[our_id])
        found = dict(zip(points, scores([*points.values()]), strict=True))
        ordered = sorted(found, key=lambda one: (-found[one], one))
        best = ordered[: len(ordered) // 3]
        assert rung.may_go_on(our_id) == (our_id in best)
        assert rung.cutoff == found[(best or ordered)[-1 if best else 0]]
        if our_id not in best:
            rung.wait(our_id)
            waiting.add(our_id)
        next_one = next((one for one in best if one in waiting), None)
        assert rung.next == next_one
        for leaving in (next_one if draw.random() < 0.7 else None, draw.choice([*sorted(waiting), None])):
            if leaving in waiting and leaving is not None:
                rung.leave(leaving)
                waiting.remove(leaving)


def test_who_waits_is_told_once_why() -> None:
    scheduler = make_scheduler("asha_promote", max_epochs=9)
    search = PaperSearch(scheduler, steady(0.3, 0.5, 0.4, 0.6)).run(most_results=2)
    told = [
        "best val_dice 0.3000 by epoch 1 was the best of 1 so far, and one in three goes on",
        "best val_dice 0.5000 by epoch 1 was the best of 2 so far, and one in three goes on",
    ]
    assert [scheduler.reason(f"ray1-t000{number}") for number in range(2)] == told
    search.run(most_results=1)
    assert [scheduler.reason(f"ray1-t000{number}") for number in range(3)] == [
        told[0],
        "",  # it goes on
        "best val_dice 0.4000 by epoch 1 was not among the best third (0.5000 or more)",
    ]


def test_a_trial_that_waits_holds_no_place() -> None:
    search = PaperSearch(make_scheduler("asha_promote", max_epochs=9), steady(*[0.5] * 12), workers=2)
    while search.to_come:
        search.run(most_results=1)
        assert len(search.places) <= 2
        assert len(search.running) <= 2


@dataclass
class FewPlaces:
    """A searcher that has so many places left."""

    left: int = 0
    draws_more: bool = True

    @property
    def has_room(self) -> bool:
        return self.left > 0

    def set_aside(self, _trial_id: str) -> None:
        """Somebody else takes the place at once."""

    def take_place(self, _trial_id: str) -> None:
        self.left -= 1


def test_a_free_place_goes_to_the_highest_rung() -> None:
    scheduler, searcher = make_scheduler("asha_promote", max_epochs=27), FewPlaces()
    trials = {f"t{number:04d}": ray_trial(f"t{number:04d}") for number in range(12)}
    controller: Any = SimpleNamespace(
        search_alg=SimpleNamespace(searcher=searcher),
        pause_trial=lambda trial, should_checkpoint: trial.set_status(Trial.PAUSED),
    )

    def those_who_wait(epoch: int, dice: dict[str, float]) -> list[str]:
        for our_id, value in dice.items():
            trials[our_id].status = Trial.RUNNING
            scheduler.on_trial_result(controller, trials[our_id], {"epoch": epoch, "val_dice": value})
        return [our_id for our_id in dice if trials[our_id].status == Trial.PAUSED]

    for trial in trials.values():
        scheduler.on_trial_add(controller, trial)
    first = [0.7, 0.8, 0.9, 0.6, 0.5, 0.85, 0.1, 0.1, 0.88, 0.1, 0.1, 0.1]
    go_on = {"t0002", "t0005", "t0008"}  # as the best of three, one of the best two of six, and the best three of nine
    assert set(those_who_wait(3, dict(zip(trials, first, strict=True)))) == set(trials) - go_on
    assert set(those_who_wait(9, {"t0002": 0.9, "t0005": 0.85, "t0008": 0.5})) == go_on
    assert scheduler.choose_trial_to_run(controller) is None, "there is no place"
    # The best of three waits at epoch 9, and the fourth of twelve at epoch 3.
    for chosen in ("t0002", "t0001", None):
        searcher.left = 1
        trial = scheduler.choose_trial_to_run(controller)
        assert trial is (chosen and trials[chosen])
        if trial is not None:
            assert scheduler.choose_trial_to_run(controller) is trial, "until it runs"
            trial.status = Trial.RUNNING


def test_a_trial_that_waited_before_an_interrupt_is_not_started_again() -> None:
    values = steady(0.3, 0.5, 0.9, 0.6, 0.4, 0.2)
    first = PaperSearch(make_scheduler("asha_promote", max_epochs=9), values).run(most_results=7)
    assert first.log[-2:] == [("t0003", 1), ("t0004", 1)]
    assert first.resting == {"t0000", "t0001", "t0002", "t0003", "t0004"}
    again = make_scheduler("asha_promote", max_epochs=9, study=first.study())
    known: dict[str, Any] = {"done": first.done, "ended": first.ended, "resting": first.resting}
    second = PaperSearch(again, values, **known, session="2").run()
    assert second.starts == ["t0005", "t0003", "t0002"]
    assert second.ended.pop("t0002") == "completed"


def test_a_trial_that_had_left_its_rung_before_an_interrupt_goes_on_whoever_has_come_since() -> None:
    values = steady(0.5, 0.9, 0.4)
    known: dict[str, Any] = {"done": {"t0000": {1: 0.5}, "t0001": {1: 0.9}, "t0002": {1: 0.4}}}
    known["resting"] = {"t0001", "t0002"}
    scheduler = make_scheduler("asha_promote", max_epochs=9)
    study = PaperSearch(scheduler, values, **known).study()
    search = PaperSearch(make_scheduler("asha_promote", max_epochs=9, study=study), values, **known)
    search.run(most_results=3)
    assert (search.starts, search.log) == (["t0000"], [("t0000", 2), ("t0000", 3)])
    assert search.resting == {"t0000", "t0002"}, "the best one has its place"


def test_a_trial_that_was_set_aside_over_a_result_that_nobody_wrote_down_goes_on() -> None:
    """As where the driver was killed between the two."""
    known: dict[str, Any] = {"done": {"t0000": {1: 0.5}}, "resting": {"t0000"}}  # at epoch 3, where the first rung is
    study = PaperSearch(make_scheduler("asha_promote", max_epochs=90), steady(0.5), **known).study()
    search = PaperSearch(make_scheduler("asha_promote", max_epochs=90, study=study), steady(0.5), **known)
    search.run(most_results=2)
    assert (search.log, search.resting, len(search.places)) == ([("t0000", 2)], set(), 1)


def test_a_trial_whose_process_died_after_it_went_on_is_not_paused() -> None:
    scheduler = make_scheduler("asha_promote", max_epochs=9)
    search = PaperSearch(scheduler, steady(0.3, 0.5, 0.9)).run(most_results=4)
    trial = search.running[0]
    assert search.log[-1] == ("t0002", 2)
    scheduler.on_trial_error(search, trial)
    trial.repeats = True
    scheduler.on_trial_add(search, trial)
    search.run(most_results=2)
    assert (search.log[-1], trial.status, search.places) == (("t0002", 3), Trial.PAUSED, set())


def test_the_first_trial_is_not_spared_the_comparison() -> None:
    """What stopping wastes, as it has nobody to compare the first trials with, and promoting does not."""
    values = steady(*[0.1] * 3, *[0.9] * 9)
    epochs = {
        name: Counter(
            our_id for our_id, _ in PaperSearch(make_scheduler(name, max_epochs=9), values, workers=3).run().log
        )
        for name in ("asha", "asha_promote")
    }
    assert [epochs["asha"][our_id] for our_id in ("t0000", "t0001", "t0002")] == [9, 9, 9]
    assert [epochs["asha_promote"][our_id] for our_id in ("t0000", "t0001", "t0002")] == [3, 1, 1]
