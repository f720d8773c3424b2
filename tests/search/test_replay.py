"""Searches on recorded curves: when which epoch happens, what is told to whom, and which curve stands for what."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.optuna import OptunaSearch

from benchmarks.curves.regret import regret
from benchmarks.curves.replay import Replay, System, Trace, report_like_others, report_like_ours
from benchmarks.curves.systems import SYSTEMS
from benchmarks.curves.table import (
    DOMAINS,
    Curve,
    Table,
    differences,
    encode,
    judge_table,
    learn_weights,
    make_table,
    search_space,
)
from search.domain import Choice


def curve(val_dice: list[float], seconds: float = 1.0, status: str = "completed") -> Curve:
    return Curve(
        values={},
        val_dice=tuple(val_dice),
        seconds=(seconds,) * len(val_dice),
        status=status,
        reason="" if status == "completed" else f"it {status}",
        last_seconds=seconds,
    )


# Two workers; b is slow.
CURVES = {
    "a": curve([0.1, 0.2, 0.3]),
    "b": curve([0.5, 0.6, 0.7], seconds=2),
    "c": curve([0.3, 0.4, 0.9]),
    "d": curve([0.4], status="diverged"),
    "e": curve([], status="collapsed"),
}


class ListSearcher(Searcher):
    """Hands out what is on a list, two at a time, and writes down what it is told."""

    def __init__(self, names: str) -> None:
        super().__init__()
        self.names = list(names)
        self.live: dict[str, str] = {}
        self.told: list[Any] = []

    def suggest(self, trial_id: str) -> Any:
        if len(self.live) == 2:
            return None
        if not self.names:
            return Searcher.FINISHED
        self.live[trial_id] = self.names.pop(0)
        return {"trial_id": trial_id, "name": self.live[trial_id]}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self.told.append((self.live[trial_id], result.get("val_dice")))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        name = self.live.pop(trial_id)
        self.told.append((name, "error" if error else (result or {}).get("val_dice"), "ended"))


def replay(names: str, scheduler: TrialScheduler, reports: Any = report_like_ours) -> tuple[Trace, ListSearcher]:
    searcher = ListSearcher(names)
    system = System(searcher=searcher, scheduler=scheduler, reports=reports)
    trace = Replay(system, lambda config: CURVES[config["name"]], workers=2).run(target=2.0, most_epochs=100)
    return trace, searcher


@pytest.mark.parametrize("reports", [report_like_ours, report_like_others])
def test_the_schedule_of_two_workers(reports):
    trace, searcher = replay("abc", FIFOScheduler(), reports)
    # a1 at 1 s, b1 and a2 at 2 s (b began first), a3 at 3 s, which c follows; b2 and c1 at 4 s, c2, then b3 and c3
    assert trace.seconds == (1, 2, 2, 3, 4, 4, 5, 6, 6)
    assert trace.best == (0.1, 0.5, 0.5, 0.5, 0.6, 0.6, 0.6, 0.7, 0.9)
    assert (trace.trials, trace.finished) == (3, True)
    reported = [told for told in searcher.told if len(told) == 2]
    ended = [told for told in searcher.told if len(told) == 3]
    assert ended == [("a", 0.3, "ended"), ("b", 0.7, "ended"), ("c", 0.9, "ended")]
    # Ray tells the searcher of a last result only in the end, unless the training returns after it without a word.
    last = reports is report_like_others
    assert reported == [
        ("a", 0.1),
        ("b", 0.5),
        ("a", 0.2),
        *[("a", 0.3)] * last,
        ("b", 0.6),
        ("c", 0.3),
        ("c", 0.4),
        *[("b", 0.7), ("c", 0.9)] * last,
    ]


def test_a_search_ends_where_it_has_found_enough_or_trained_enough():
    system = System(searcher=ListSearcher("abc"), scheduler=FIFOScheduler(), reports=report_like_ours)
    trace = Replay(system, lambda config: CURVES[config["name"]], workers=2).run(target=0.6, most_epochs=100)
    assert trace.best == (0.1, 0.5, 0.5, 0.5, 0.6)
    assert (trace.epochs_to(0.5), trace.epochs_to(0.6), trace.epochs_to(0.7)) == (2, 5, None)
    system = System(searcher=ListSearcher("abc"), scheduler=FIFOScheduler(), reports=report_like_ours)
    trace = Replay(system, lambda config: CURVES[config["name"]], workers=2).run(target=0.6, most_epochs=3)
    assert (trace.best, trace.finished) == ((0.1, 0.5, 0.5), False)


class Stopping(FIFOScheduler):
    """Stops whoever begins below 0.2."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return TrialScheduler.STOP if result["val_dice"] < 0.2 else TrialScheduler.CONTINUE


def test_a_stopped_trial_gives_its_worker_to_the_next():
    trace, searcher = replay("abc", Stopping())
    # a1 at 1 s, where c follows; b1 and c1 at 2 s, c2 at 3 s, b2 and c3 at 4 s, b3 at 6 s
    assert trace.seconds == (1, 2, 2, 3, 4, 4, 6)
    assert trace.best == (0.1, 0.5, 0.5, 0.5, 0.6, 0.9, 0.9)
    assert searcher.told[0] == ("a", 0.1, "ended"), "what it was stopped over comes with its end only"


class Promoting(FIFOScheduler):
    """Pauses everybody after the first epoch, lets go on who had 0.3, and ends the others when nothing runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []
        self.removed: list[str] = []

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.seen.append((trial.config["name"], result["epoch"]))
        first = self.seen.count((trial.config["name"], 1)) == 1
        return TrialScheduler.PAUSE if result["epoch"] == 1 and first else TrialScheduler.CONTINUE

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self.removed.append(trial.config["name"])

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        trials = tune_controller.get_trials()
        paused = [trial for trial in trials if trial.status == "PAUSED"]
        good = [trial for trial in paused if trial.last_result["val_dice"] >= 0.3]
        if not good and tune_controller.search_alg.is_finished():
            for trial in paused if not any(trial.status in ("RUNNING", "PENDING") for trial in trials) else ():
                tune_controller.stop_trial(trial)
        return good[0] if good else None


class EagerListSearcher(ListSearcher):
    """Does not count those that are paused."""

    def suggest(self, trial_id: str) -> Any:
        if not self.names:
            return Searcher.FINISHED
        self.live[trial_id] = self.names.pop(0)
        return {"trial_id": trial_id, "name": self.live[trial_id]}


def test_a_paused_trial_goes_on_where_it_stood_when_the_scheduler_says_so():
    searcher, scheduler = EagerListSearcher("abc"), Promoting()
    system = System(searcher=searcher, scheduler=scheduler, reports=report_like_ours)
    trace = Replay(system, lambda config: CURVES[config["name"]], workers=2).run(target=2.0, most_epochs=100)
    # a1 at 1 s, paused; c begins. b1 at 2 s, paused and called back at once; c1 at 2 s, the same.
    # c2 at 3 s, b2 and c3 at 4 s, b3 at 6 s; then a is ended.
    assert trace.seconds == (1, 2, 2, 3, 4, 4, 6)
    assert trace.best == (0.1, 0.5, 0.5, 0.5, 0.6, 0.9, 0.9)
    assert scheduler.seen == [("a", 1), ("b", 1), ("c", 1), ("b", 1), ("c", 1), ("c", 2), ("b", 2)], (
        "who goes on repeats the last report; the last one of all is not judged"
    )
    assert scheduler.removed == ["a"]
    assert searcher.told[-1] == ("a", None, "ended")
    assert trace.finished


def test_a_search_that_stands_still_says_so():
    class Forgetful(Promoting):
        def choose_trial_to_run(self, tune_controller: Any) -> None:
            return None

    system = System(searcher=EagerListSearcher("abc"), scheduler=Forgetful(), reports=report_like_ours)
    with pytest.raises(RuntimeError, match="stands still after 3 epochs; 3 trials wait"):
        Replay(system, lambda config: CURVES[config["name"]], workers=2).run(target=2.0, most_epochs=100)


def test_our_trial_says_itself_how_badly_it_ended():
    (first, ending) = report_like_ours(CURVES["d"], 0)
    assert (first.result["status"], first.result["done"], first.epochs) == ("running", False, 1)
    assert ending.result == {"status": "diverged", "reason": "it diverged", "done": True}
    assert (ending.epochs, ending.seconds) == (1, 1), "the epoch in which it ended was trained, too"
    trace, searcher = replay("de", FIFOScheduler())
    assert trace.best == (0.4, 0.4, 0.4)
    assert trace.seconds == (1, 1, 2)
    assert searcher.told == [("d", 0.4), ("e", None, "ended"), ("d", None, "ended")]


def test_a_trial_of_others_dies_without_a_word():
    steps = list(report_like_others(CURVES["d"], 0))
    assert [(step.epochs, step.dies) for step in steps] == [(1, False), (1, True)]
    trace, searcher = replay("de", FIFOScheduler(), report_like_others)
    assert trace.best == (0.4, 0.4, 0.4), "d1, e dies in its first epoch, and d in its second"
    assert searcher.told == [("d", 0.4), ("e", "error", "ended"), ("d", "error", "ended")]


def test_rays_own_searcher_and_its_limiter_are_driven_as_ray_does():
    searcher = OptunaSearch(
        lambda trial: {"name": trial.suggest_categorical("kind", ["d", "e"])}, metric="val_dice", mode="max", seed=0
    )
    system = System(
        searcher=ConcurrencyLimiter(searcher, max_concurrent=2), scheduler=FIFOScheduler(), reports=report_like_others
    )
    trace = Replay(system, lambda config: CURVES[config["name"]], workers=2).run(target=2.0, most_epochs=20)
    states = [trial.state.name for trial in searcher._ot_study.trials]
    assert set(states) == {"FAIL", "RUNNING"}
    assert states.count("RUNNING") <= 2
    assert trace.best[-1] == 0.4


def lines(count: int = 24) -> list[dict[str, Any]]:
    """Lines of a table, with a Dice that falls with the distance of the learning rate from 0.01."""
    draw = np.random.default_rng(0)
    made = []
    for number in range(count):
        values: dict[str, Any] = {}
        for name, domain in DOMAINS.items():
            if isinstance(domain, Choice):
                values[name] = domain.options[draw.integers(len(domain.options))]
            else:
                values[name] = type(domain.low)(draw.uniform(domain.low, domain.high))
        values["learning_rate"] = float(10 ** draw.uniform(-4, -1))
        if values["loss"] in ("dice", "tversky"):
            del values["class_weight"]
        dice = 0.8 - 0.2 * abs(math.log10(values["learning_rate"]) + 2)
        made.append(
            {
                "task": "toy",
                "number": number,
                "values": values,
                "status": "completed",
                "reason": "",
                "val_dice": [round(dice * share, 4) for share in (0.5, 0.8, 1.0)],
                "seconds": [1.0, 1.0, 1.0],
            }
        )
    return made


@pytest.fixture(scope="module")
def table() -> Table:
    return make_table(lines())


def test_values_are_scaled_as_the_space_draws_them():
    encoded = dict(
        zip(
            DOMAINS,
            encode(
                {
                    "depth": 3,
                    "learning_rate": 10**-2.5,
                    "width": 8,
                    "rare_crops": 0.5,
                    "loss": "focal",
                    "augmentation": 0.3,
                }
            ),
            strict=True,
        )
    )
    assert encoded.pop("depth") == 0.5
    assert encoded.pop("learning_rate") == pytest.approx(0.5)
    assert (encoded.pop("width"), encoded.pop("rare_crops")) == (0.5, 1)
    assert encoded.pop("loss") == 3
    assert encoded.pop("augmentation") == pytest.approx(0.3)
    assert np.isnan(list(encoded.values())).all()


def test_a_parameter_counts_only_where_both_have_it():
    one = encode({"loss": "dice", "depth": 2})
    other = encode({"loss": "focal", "depth": 4, "class_weight": "none"})
    apart = dict(zip(DOMAINS, differences(one, other[None])[0], strict=True))
    assert {name for name, value in apart.items() if value} == {"loss", "depth"}
    assert apart["loss"] == apart["depth"] == 1


def test_a_recorded_configuration_is_its_own_nearest(table):
    for its_curve in table.curves:
        assert table.nearest(its_curve.values) is its_curve
        # what means nothing beside the loss makes no difference, as in a full configuration
        assert table.nearest({"class_weight": "none", **its_curve.values}) is its_curve


def test_a_search_has_each_curve_once_and_then_all_again(table):
    answer, config = table.answer(), table.curves[3].values
    given = [answer(config) for _ in table.curves]
    assert given[0] is table.curves[3]
    assert {id(its_curve) for its_curve in given} == {id(its_curve) for its_curve in table.curves}
    assert answer(config) is table.curves[3]
    assert table.answer()(config) is table.curves[3], "of another search"


def test_the_order_of_the_lines_makes_no_difference(table):
    turned = make_table(list(reversed(lines())))
    assert turned.curves == table.curves
    assert np.array_equal(turned.weights, table.weights)
    assert turned.best == max(line["val_dice"][-1] for line in lines())


def test_the_parameter_that_matters_weighs_most():
    draw = np.random.default_rng(1)
    points = draw.uniform(size=(60, 4))
    apart = np.abs(points[:, None] - points[None])
    weights = learn_weights(apart, points[:, 2])
    assert weights.argmax() == 2
    assert weights.max() >= 4 * np.delete(weights, 2).max()


def test_a_table_says_how_well_it_answers(table):
    quality = judge_table(table, near=0.01, draws=200)
    assert quality.good == sum(its_curve.best >= table.best - 0.01 for its_curve in table.curves)
    assert 0 < quality.good_share < 1
    assert quality.spread > 0
    assert -1 <= quality.rank_correlation <= 1


@pytest.mark.parametrize("name", [name for name in SYSTEMS if "Syne" not in name])
def test_every_system_repeats_itself_with_the_same_seed(table, tmp_path, name):
    def search(seed: int, folder: Path) -> Trace:
        folder.mkdir()
        with SYSTEMS[name].made(seed, 4, folder) as system:
            return Replay(system, table.answer(), workers=4).run(target=2.0, most_epochs=24)

    first = search(1, tmp_path / "1")
    assert len(first.best) == 24
    assert first.trials >= 8
    assert search(1, tmp_path / "2") == first
    assert search(2, tmp_path / "3") != first


def test_every_system_searches_the_space_of_the_table(tmp_path):
    names = {name for name, domain in search_space().domains.items() if len(domain.ends) > 1}
    assert names == set(DOMAINS)
    for name in (name for name in SYSTEMS if "Syne" not in name):
        folder = tmp_path / name.replace(" ", "-").replace(":", "")
        folder.mkdir()
        with SYSTEMS[name].made(0, 4, folder) as system:
            suggested = system.searcher.suggest("00000")
        assert all(DOMAINS[parameter].holds(suggested[parameter]) for parameter in DOMAINS if parameter in suggested)
        assert suggested["max_epochs"] == 27


def test_regret_stays_where_a_search_ended():
    trace = Trace(seconds=(1, 2, 3), best=(0.2, 0.5, 0.695), trials=1, finished=False)
    assert regret(trace, np.array([1, 2, 3, 9]), 0.7, 0.005) == pytest.approx([0.5, 0.2, 0.005, 0.005])
