"""Every searcher, by its name, through the same contract; then what is each one's own."""

import math
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from data.input_error import InputError
from model.config import TrainConfig
from search import prior
from search.draft import always_drawn, distributions_of, draw
from search.samplers import SEARCHERS, grid_points, make_searcher, sobol_points, start_up_of
from search.searcher import StudySearcher
from search.space import parse_space
from search.unit_interval import place_of

pytestmark = pytest.mark.filterwarnings("error")

# Options, whole numbers, ranges, one by magnitude, and two parameters that not every trial has.
CONDITIONAL = [
    "only,depth=2:5,width=8|16,loss=dice|dice_ce|tversky,class_weight=none|square_root,tversky_alpha=0.1:0.9,"
    "learning_rate=1e-3:1:log,augmentation=0:1"
]
PINNED = ["only,learning_rate=0.01,loss=dice"]
names = pytest.mark.parametrize("name", SEARCHERS)


@pytest.fixture(autouse=True)
def no_prior(monkeypatch):
    """The searcher alone is to be seen."""
    monkeypatch.setattr(prior, "STRENGTH", 0.0)


def make(folder: Path, name: str, texts: list[str] = CONDITIONAL, **settings: Any) -> StudySearcher:
    settings = {"num_trials": 8, "seed": 0, "max_concurrent": 20} | settings
    folder.mkdir(exist_ok=True)
    return StudySearcher(journal=folder / "study.log", space=parse_space(texts), searcher=name, **settings)


def end(searcher: StudySearcher, ray_id: str, config: dict[str, Any]) -> None:
    """One of four endings, by the learning rate: it diverges, completes, or is stopped, with or without a value."""
    place = math.log10(config["learning_rate"])
    result = {"epoch": 3, "val_dice": 0.9 - abs(place + 2) / 4, "parameters": 1000 * config.get("width", 1)}
    if place > -1:
        searcher.on_trial_complete(ray_id, {"status": "diverged", "reason": "NaN"})
    elif place > -2.2:
        searcher.on_trial_complete(ray_id, result | {"status": "completed"})
    elif place > -2.9:
        searcher.on_trial_result(ray_id, result)
        searcher.on_trial_complete(ray_id)
    else:
        searcher.on_trial_complete(ray_id)


def search(searcher: StudySearcher, count: int, first: int = 0) -> list[dict[str, Any]]:
    """Trials one after the other."""
    configs = []
    for number in range(first, first + count):
        configs.append(searcher.suggest(f"r{number}"))
        end(searcher, f"r{number}", configs[-1])
    return configs


@names
def test_a_search_draws_trainings_of_the_space(tmp_path, name):
    searcher = make(tmp_path, name)
    space = parse_space(CONDITIONAL)
    for suggestion in search(searcher, 8):
        suggestion.pop("trial_id")
        config = TrainConfig(**suggestion)
        assert all(
            domain.holds(getattr(config, field)) or field == "class_weight" or field == "tversky_alpha"
            for field, domain in space.domains.items()
        )
    for trial in searcher.study.trials:
        assert ("tversky_alpha" in trial.params) == (trial.params["loss"] == "tversky")
        assert ("class_weight" in trial.params) == (trial.params["loss"] == "dice_ce")
    assert searcher.suggest("more") == Searcher.FINISHED


@names
def test_the_same_seed_draws_the_same_however_often_the_search_was_interrupted(tmp_path, name):
    once = search(make(tmp_path / "once", name), 8)
    resumed = [search(make(tmp_path / "twice", name), 4, first=4 * session) for session in range(2)]
    assert resumed[0] + resumed[1] == once
    assert len({str(config | {"trial_id": ""}) for config in once}) == 8
    other = search(make(tmp_path / "other", name, seed=1), 3)
    assert other != once[:3]


@pytest.mark.parametrize("name", [name for name in SEARCHERS if name != "cma_es"])
def test_with_several_objectives_a_search_draws_the_same_after_an_interrupt(tmp_path, name):
    weighed = {"objectives": ("val_dice", "parameters")}
    once = search(make(tmp_path / "once", name, **weighed), 8)
    resumed = [search(make(tmp_path / "twice", name, **weighed), 4, first=4 * session) for session in range(2)]
    assert resumed[0] + resumed[1] == once


@names
def test_a_pickled_search_goes_on_as_it_would_have(tmp_path, name):
    searcher = make(tmp_path / "one", name)
    search(searcher, 6)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "study.log").write_bytes((tmp_path / "one" / "study.log").read_bytes())
    copy = pickle.loads(pickle.dumps(searcher))
    copy._journal = tmp_path / "two" / "study.log"
    assert copy.suggest("next") == searcher.suggest("next")


@names
def test_trials_that_are_drawn_side_by_side_differ(tmp_path, name):
    searcher = make(tmp_path, name, num_trials=None)
    search(searcher, 12)
    drawn = [searcher.suggest(f"beside{number}") for number in range(4)]
    assert len({str(sorted(config.items())) for config in drawn if config.pop("trial_id")}) == 4


@names
def test_everything_may_be_pinned(tmp_path, name):
    searcher = make(tmp_path, name, PINNED, num_trials=3)
    assert len(search(searcher, 1)) == 1, "the same training again would tell nothing"
    assert not searcher.draws_more
    assert searcher.suggest("more") == Searcher.FINISHED


@names
def test_one_parameter_alone_may_be_searched(tmp_path, name):
    searcher = make(tmp_path, name, ["only,learning_rate=1e-3:1:log"], num_trials=4)
    assert len({config["learning_rate"] for config in search(searcher, 4)}) == 4


def late_learning_rates(
    folder: Path, name: str, count: int, seed: int, configs: list[dict[str, Any]] | None = None, **more: Any
) -> list[float]:
    """What the second half of a search tries (as powers of ten) that is the better the higher, until it diverges.

    The parameters of a network are the more, the more augmentation. configs: where all that is tried is put.
    """
    texts = ["only,learning_rate=1e-3:1:log,augmentation=0:1,dropout=0:0.5"]
    searcher = make(folder, name, texts, num_trials=count, seed=seed, **more)
    tried = []
    for number in range(count):
        config = searcher.suggest(f"r{number}")
        tried.append(math.log10(config["learning_rate"]))
        if configs is not None:
            configs.append(config)
        cost = {"parameters": round(1000 * (1 + config["augmentation"]))}
        if tried[-1] > -1:
            searcher.on_trial_complete(f"r{number}", {"status": "diverged", "reason": "NaN"})
        else:
            result = {"epoch": 1, "val_dice": 1 + tried[-1] / 3, "status": "completed"}
            searcher.on_trial_complete(f"r{number}", result | cost)
    return tried[count // 2 :]


@pytest.mark.parametrize(("name", "count"), [("tpe", 40), ("gp", 20), ("cma_es", 60)])
def test_a_searcher_that_learns_comes_to_the_edge_beyond_which_trials_fail(tmp_path, name, count):
    late = [place for seed in (1, 3) for place in late_learning_rates(tmp_path / str(seed), name, count, seed)]
    assert sum(abs(place + 1) for place in late) / len(late) < 0.5, "at random it would be 0.83"
    assert sum(place > -0.5 for place in late) / len(late) < 0.12, "at random it would be 0.17"


@pytest.mark.parametrize(("name", "count"), [("tpe", 40), ("gp", 20)])
def test_with_several_objectives_it_comes_there_at_little_cost(tmp_path, name, count):
    tried: list[dict[str, Any]] = []
    late = late_learning_rates(tmp_path, name, count, 1, tried, objectives=("val_dice", "parameters"))
    assert sum(abs(place + 1) for place in late) / len(late) < 0.6, "at random it would be 0.83"
    assert sum(place > -0.5 for place in late) / len(late) < 0.12, "at random it would be 0.17"
    assert sum(config["augmentation"] for config in tried[count // 2 :]) / len(late) < 0.3, "at random it would be 0.5"


@pytest.mark.parametrize("one_completes_of", [1, 20])
def test_tpe_keeps_away_from_what_only_costs_whether_trials_complete_or_are_stopped(tmp_path, one_completes_of):
    texts, weighed = ["only,width=4:64,augmentation=0:1"], ("val_dice", "parameters")
    searcher = make(tmp_path, "tpe", texts, num_trials=60, seed=2, objectives=weighed)
    configs = []
    for number in range(60):
        configs.append(config := searcher.suggest(f"r{number}"))
        cost = 100 * config["width"] + round(6000 * config["augmentation"])
        found = {"epoch": 1, "val_dice": config["width"] / 100, "parameters": cost}
        done = {"status": "completed"} if number % one_completes_of == 0 else {}
        searcher.on_trial_complete(f"r{number}", found | done)
    late = configs[30:]
    assert sum(config["augmentation"] for config in late) / len(late) < 0.3, "at random it would be 0.5"
    assert min(config["width"] for config in late) < 16, "the front has them all"
    assert max(config["width"] for config in late) > 40


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match=r"searcher 'cmaes' is not known; allowed: .*Did you mean 'cma_es'"):
        make_searcher("cmaes", parse_space(()), seed=0, start_up=1)


def test_half_of_a_small_search_and_ten_trials_at_most_are_drawn_before_a_searcher_learns():
    assert {count: start_up_of(count) for count in (1, 4, 12, 99, None)} == {1: 1, 4: 2, 12: 6, 99: 10, None: 10}


def test_a_grid_has_every_combination_once():
    space = parse_space(["only,depth=3:5,loss=dice|tversky,tversky_alpha=0.1:0.7,width=8|16"])
    points = list(grid_points(space, seed=0))
    assert len(points) == 3 * 2 + 3 * 2 * 4
    assert len({str(sorted(point.items())) for point in points}) == len(points)
    alphas = sorted({point["tversky_alpha"] for point in points if point["loss"] == "tversky"})
    assert alphas == pytest.approx([0.1, 0.3, 0.5, 0.7])
    assert {point["depth"] for point in points} == {3, 4, 5}
    other = list(grid_points(space, seed=1))
    assert other != points
    assert sorted(map(str, other)) == sorted(map(str, points))


def test_a_grid_ends_the_search_when_it_is_through(tmp_path):
    searcher = make(tmp_path, "grid", ["only,depth=3:4,width=8|16"], num_trials=None)
    assert searcher.draws_more
    drawn = {(config["depth"], config["width"]) for config in search(searcher, 4)}
    assert drawn == {(3, 8), (3, 16), (4, 8), (4, 16)}
    assert not searcher.draws_more
    assert searcher.suggest("more") == Searcher.FINISHED
    assert len(searcher.study.trials) == 4


def test_a_grid_too_large_to_be_listed_is_begun_at_once():
    large = parse_space(["learning_rate=1e-4:1:log,ema=0:0.999,warm_up=0:0.5,zoom=0:2,shear=0:2,noise=0:2,gamma=0:2"])
    points = grid_points(large, seed=0)
    assert len({str(next(points)) for _ in range(50)}) == 50


def test_sobol_points_are_even_in_every_parameter_that_is_searched():
    space = parse_space(CONDITIONAL)
    distributions = distributions_of(space)
    points = list(islice(sobol_points(space, 0), 64))
    for name, distribution in distributions.items():
        places = [place_of(distribution, point[name]) for point in points]
        assert sum(place < 0.5 for place in places) == pytest.approx(32, abs=0 if len(set(places)) == 64 else 17), name


def test_what_every_trial_has():
    always = always_drawn(parse_space(CONDITIONAL))
    assert list(always) == ["depth", "width", "loss", "learning_rate", "augmentation"]
    pinned_parent = parse_space([*CONDITIONAL, "loss=tversky"])
    assert "tversky_alpha" in always_drawn(pinned_parent)


def test_a_value_beside_its_distribution_is_no_draft():
    with pytest.raises(AssertionError):
        draw(parse_space(["only,depth=3:5"]), lambda _name, _distribution: 9)
