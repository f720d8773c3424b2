"""The cost model: laws worked out by hand, what its terms stand for, and what it makes of the records of a search."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from model.config import TrainConfig
from search.cost_model import CostModel, cost_terms, fit_costs, fit_law
from search.record import TrialRecord
from tests.toys import colored_squares, split_in_two

DATA = colored_squares("binary")
SPLIT = split_in_two(DATA)
PLAIN = TrainConfig(depth=2, width=4, batch_size=4, crop_size=16, epoch_pixels=0)


def test_a_law_is_found_again_in_what_follows_it() -> None:
    draw = np.random.default_rng(0)
    rows = list(draw.uniform(1, 100, (40, 3)) * [1, 1000, 1])
    law = fit_law(rows, [float(row @ [2.0, 0.003, 0.0]) for row in rows])
    assert law.weights == pytest.approx([2.0, 0.003, 0.0], rel=0.02, abs=0.02)
    assert 1 <= law.within < 1.02
    assert law.of(np.array([10.0, 1000.0, 5.0])) == pytest.approx(23.0, rel=0.02)


def test_no_weight_is_negative_and_errors_count_by_their_share() -> None:
    # By hand: one term of 1; the weight w makes the sum of (w / 1 - 1)^2 and (w / 2 - 1)^2 smallest at 6 / 5.
    one = fit_law([np.array([1.0]), np.array([1.0])], [1.0, 2.0])
    assert one.weights == pytest.approx([1.2], rel=0.01)
    # What falls as its only term grows is no cost of it.
    falling = fit_law([np.array([1.0, 1.0]), np.array([1.0, 9.0])], [9.0, 1.0])
    assert falling.weights.min() == 0


def test_the_factor_is_that_of_what_was_left_out() -> None:
    # Left out in turn, each of these is predicted by the others, which have 1, but the last, which has 4, by 4 less.
    law = fit_law([np.array([1.0])] * 4, [1.0, 1.0, 1.0, 4.0])
    assert law.within > 1.1
    assert fit_law([np.array([1.0])] * 4, [3.0] * 4).within == pytest.approx(1.0, abs=0.01)


def terms(parts: int = 1, **changes: Any) -> tuple[list[float], list[float]]:
    """The terms of seconds and of memory of a changed training."""
    of_seconds, of_memory = cost_terms(replace(PLAIN, **changes), parts, DATA, SPLIT)
    return of_seconds.tolist(), of_memory.tolist()


def test_terms_by_hand() -> None:
    # Four pictures of 32 x 32 to train on, covered by 16 crops of 16 x 16 in 4 steps; two pictures to judge.
    (work, planes, trained, steps, moved, always), (there, part, picture, weights) = terms()
    seen = (3 * 4096 + 2048) / 1e6
    assert trained == pytest.approx(4096 / 1e6)
    assert (steps, always, there) == (4, 1, 1)
    assert moved == pytest.approx(4 * weights)
    assert part == pytest.approx(planes / seen * 4 * 256 / 1e6)
    assert picture == pytest.approx(planes / seen * 1024 / 1e6)
    # Twice the width, hence twice the planes (but for the head's one) and about four times the work and the weights.
    (wide_work, wide_planes, *_), (*_, wide_weights) = terms(width=8)
    assert wide_planes + seen == pytest.approx(2 * planes)
    assert 3 < wide_work / work < 4
    assert 3.5 < wide_weights / weights < 4


def test_what_changes_which_term() -> None:
    of_seconds, of_memory = terms()
    assert terms(learning_rate=0.1, loss="focal") == (of_seconds, of_memory)
    assert terms(parts=2)[0][3] == 2 * of_seconds[3]
    assert terms(parts=2)[1][1] == of_memory[1] / 2
    assert terms(batch_size=8)[1][1] == 2 * of_memory[1]
    assert terms(evaluate_every=4)[0][0] == pytest.approx(of_seconds[0] * (3 * 4 + 2 / 4) / (3 * 4 + 2))
    assert terms(epoch_pixels=16384)[0][2] == 4 * of_seconds[2]


def records(count: int, **more: Any) -> list[TrialRecord]:
    """Trials whose epochs take 1 ms, and whose processes 1 MB, for each thousand planes of a training pixel."""
    made = []
    for number in range(count):
        config = replace(PLAIN, width=2 + 2 * number)
        of_seconds, of_memory = cost_terms(config, 1, DATA, SPLIT)
        made.append(
            TrialRecord(
                trial_id=f"t{number}",
                config=asdict(config),
                epochs=3,
                seconds=3e3 * float(of_seconds[1]),
                peak_memory_mb=100.0 + 1e3 * float(of_memory[1]),
            )
        )
    return made


def test_three_trials_are_enough_and_fewer_are_not() -> None:
    assert fit_costs(records(2), DATA, SPLIT) is None
    unknown = [replace(one, epochs=0) for one in records(3)]
    assert fit_costs([*records(2), *unknown], DATA, SPLIT) is None
    assert isinstance(fit_costs(records(3), DATA, SPLIT), CostModel)


def test_what_follows_from_the_network_is_foretold_for_a_larger_one() -> None:
    model = fit_costs(records(6), DATA, SPLIT)
    assert model is not None
    truth = records(9)[-1]
    cost = model.predict(TrainConfig(**truth.config))
    assert cost.seconds_an_epoch == pytest.approx(truth.seconds / 3, rel=0.1)
    assert cost.peak_memory_mb == pytest.approx(truth.peak_memory_mb, rel=0.1)
    assert 1 <= cost.seconds_within < 1.2
    assert 1 <= cost.memory_within < 1.2


@pytest.mark.parametrize("changes", [{"passes": 2}, {"encoder": "mobilenet_v3"}, {"depth": 6, "block": "residual"}])
def test_any_network_can_be_predicted(changes: dict[str, Any]) -> None:
    model = fit_costs(records(3), DATA, SPLIT)
    assert model is not None
    assert model.predict(replace(PLAIN, **changes)).seconds_an_epoch > model.predict(PLAIN).seconds_an_epoch
