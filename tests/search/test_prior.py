"""What is tried before a searcher knows anything: start points, the prior around good points, and cheap ones first."""

from dataclasses import asdict
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from model.config import TrainConfig
from model.cost import network_cost
from model.unet import build_unet
from search import prior
from search.history import history_of
from search.prior import DEVIATION, KEPT, STRENGTH, PastTrial, near_one_of, share_of_prior
from search.proposals import Proposals
from search.rough_cost import rough_cost
from search.space import parse_space
from search.start import start_points
from search.unit_interval import place_of, value_at

WIDE = "learning_rate=1e-5:1e-1:log,optimizer=adam|adamw,depth=3:5"
RATE = FloatDistribution(1e-4, 1e-2, log=True)


def drawn(pick: prior.Pick, name: str, distribution: Any, count: int = 400) -> list[Any]:
    return [pick(name, distribution) for _ in range(count)]


@pytest.mark.parametrize(
    ("distribution", "places"),
    [
        (FloatDistribution(2.0, 4.0), {0.0: 2.0, 0.25: 2.5, 1.0: 4.0}),
        (RATE, {0.0: 1e-4, 0.5: 1e-3, 1.0: 1e-2}),
        (IntDistribution(3, 4), {0.0: 3, 0.25: 3, 0.75: 4, 1.0: 4}),
        (IntDistribution(1, 8, log=True), {0.0: 1, 0.5: 2, 1.0: 8}),  # 2 is nearest to the root of 0.5 x 8.5
        (CategoricalDistribution(("a", "b", "c", "d")), {0.0: "a", 0.125: "a", 0.3: "b", 0.999: "d", 1.0: "d"}),
    ],
)
def test_places_and_values(distribution, places):
    assert {place: value_at(distribution, place) for place in places} == pytest.approx(places)
    for place in np.linspace(0, 1, 41).tolist():
        value = value_at(distribution, place)
        found = place_of(distribution, value)
        assert found is not None
        assert value_at(distribution, found) == (pytest.approx(value) if isinstance(value, float) else value)


def test_a_value_that_is_not_there_has_no_place():
    assert place_of(RATE, 0.1) is None
    assert place_of(IntDistribution(3, 4), 2) is None
    assert place_of(CategoricalDistribution((8, 16)), 32) is None


def test_numbers_lie_normally_around_the_point_and_in_the_range():
    pick = near_one_of([PastTrial(values={"learning_rate": 1e-3, "depth": 3}, weight=1.0)], np.random.default_rng(0))
    rates = np.log10(drawn(pick, "learning_rate", RATE))
    assert rates.mean() == pytest.approx(-3, abs=0.05)
    assert rates.std() == pytest.approx(2 * DEVIATION, abs=0.05)
    assert -4 <= rates.min() < -3.8
    assert -2.2 < rates.max() <= -2
    assert np.mean(np.array(drawn(pick, "depth", IntDistribution(3, 4))) == 3) > 0.8


def test_options_are_mostly_the_point_s():
    pick = near_one_of([PastTrial(values={"loss": "dice"}, weight=1.0)], np.random.default_rng(0))
    losses = drawn(pick, "loss", CategoricalDistribution(("dice", "focal", "tversky")))
    assert losses.count("dice") / 400 == pytest.approx(KEPT + (1 - KEPT) / 3, abs=0.06)
    assert losses.count("focal") / 400 == pytest.approx((1 - KEPT) / 3, abs=0.05)


@pytest.mark.parametrize("values", [{}, {"learning_rate": 1.0}])
def test_what_the_point_does_not_have_is_any_value(values):
    pick = near_one_of([PastTrial(values=values, weight=1.0)], np.random.default_rng(0))
    rates = np.log10(drawn(pick, "learning_rate", RATE))
    assert rates.std() == pytest.approx(2 / 12**0.5, abs=0.04)


def test_a_point_is_chosen_by_weight_once_for_all_parameters():
    points = [PastTrial(values={"a": 0.0, "b": 0.0}, weight=0.9), PastTrial(values={"a": 1.0, "b": 1.0}, weight=0.3)]
    unit = FloatDistribution(0.0, 1.0)
    places = []
    for seed in range(300):
        pick = near_one_of(points, np.random.default_rng(seed))
        places.append([pick("a", unit), pick("b", unit)])
    low = np.array(places) < 0.5
    assert low[:, 0].mean() == pytest.approx(0.75, abs=0.08)
    assert (low[:, 0] == low[:, 1]).mean() > 0.95


def test_the_prior_fades():
    assert share_of_prior(0) == pytest.approx(STRENGTH / (STRENGTH + 1))
    assert share_of_prior(round(STRENGTH) - 1) == 0.5
    assert share_of_prior(10_000) < 0.001


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([WIDE], [("adamw", 5e-3, "dice_ce", 3), ("adam", 1e-4, "dice", 3), ("adam", 1e-4, "dice", 4)]),
        # Pinned values are none of a start point's business, and points that are alike are one.
        ([WIDE, "depth=3"], [("adamw", 5e-3, "dice_ce", None), ("adam", 1e-4, "dice", None)]),
        (
            [WIDE, "depth=4:5"],
            [("adamw", 5e-3, "dice_ce", None), ("adam", 1e-4, "dice", None), ("adam", 1e-4, "dice", 4)],
        ),
        (
            [WIDE, "optimizer=sgd", "loss=focal|tversky"],
            [(None, 5e-3, None, 3), (None, 1e-4, None, 3), (None, 1e-4, None, 4)],
        ),
        # Without its learning rate nothing is left of the article's point.
        ([WIDE, "learning_rate=1e-3:1e-2:log"], [("adamw", 5e-3, "dice_ce", 3)]),
        ([WIDE, "learning_rate=1e-4"], [("adamw", None, "dice_ce", 3)]),
    ],
)
def test_start_points(texts, found):
    points = start_points(parse_space(texts))
    named = [tuple(point.get(name) for name in ("optimizer", "learning_rate", "loss", "depth")) for point in points]
    assert named == found


def test_where_nothing_is_searched_there_is_nothing_to_start_with():
    pinned = {name: value for name, value in asdict(TrainConfig()).items() if name != "init_from"}
    assert start_points(parse_space(pinned)) == []


def test_with_another_model_one_start_takes_nothing_over_from_it():
    space = parse_space(["learning_rate=1e-3:1e-2:log"], pinned={"init_from": "a", "transfer": ("all", "none")})
    assert [point["transfer"] for point in start_points(space)] == ["all", "none"]


def test_the_best_of_each_past_run_is_tried_after_the_article():
    past = [
        PastTrial(values={"learning_rate": 2e-3, "width": 99}, weight=1.0, first=True),
        PastTrial(values={"learning_rate": 3e-3}, weight=1.0),
    ]
    assert start_points(parse_space([WIDE]), past)[3:] == [{"learning_rate": 2e-3}]


def test_rough_costs_are_in_the_order_of_the_counted_ones():
    kinds = ((2, 4, 1, "plain"), (4, 4, 1, "plain"), (3, 8, 1, "residual"), (3, 8, 2, "plain"), (3, 16, 1, "plain"))
    configs = [
        TrainConfig(depth=depth, width=width, passes=passes, block=block) for depth, width, passes, block in kinds
    ]
    counted = [
        network_cost(build_unet(config, channels=3, classes=1, label_mode="multilabel")).gflops_per_megapixel
        for config in configs
    ]
    rough = [rough_cost(asdict(config)) for config in configs]
    assert np.argsort(rough).tolist() == np.argsort(counted).tolist() == [0, 1, 2, 3, 4]
    ratios = [2e-3 * cost / count for cost, count in zip(rough, counted, strict=True)]
    assert min(ratios) > 0.7
    assert max(ratios) < 1.2


def drafts(count: int, searcher: str = "tpe", **settings: Any) -> list[dict[str, Any]]:
    study = optuna.create_study(direction="maximize")
    made = Proposals(parse_space([WIDE]), searcher, **{"past": (), "num_trials": None, "seed": 0} | settings)
    drawn = (made.draft(number, lambda: history_of(study)) for number in range(count))
    return [values for values, _ in drawn]


def test_as_long_as_it_knows_nothing_a_thrifty_search_takes_the_cheaper_of_two_draws():
    def mean_cost(thrifty: bool) -> float:
        return float(np.mean([rough_cost(values) for values in drafts(60, thrifty=thrifty)[3:]]))

    assert mean_cost(True) < 0.8 * mean_cost(False)


@pytest.mark.parametrize("searcher", ["random", "quasi_random"])
def test_searchers_that_do_not_learn_have_start_points_but_no_prior(searcher):
    rates = np.log10([values["learning_rate"] for values in drafts(131, searcher)])
    assert rates[:3].tolist() == pytest.approx(np.log10([5e-3, 1e-4, 1e-4]).tolist())
    assert np.histogram(rates[3:], bins=4, range=(-5, -1))[0].min() > 20


def test_a_grid_has_no_start_points():
    assert 5e-3 not in {values["learning_rate"] for values in drafts(4, "grid")}


def test_past_trials_draw_the_search_to_them(monkeypatch):
    monkeypatch.setattr(prior, "STRENGTH", 100.0)

    def close(past: list[PastTrial]) -> int:
        values = drafts(30, past=past)
        return sum(2e-2 < one["learning_rate"] < 1e-1 and one["depth"] == 5 for one in values)

    past = [PastTrial(values={"learning_rate": 4e-2, "depth": 5, "width": 8}, weight=1.0)] * 9
    assert close(past) >= close([]) + 4
