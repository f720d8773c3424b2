"""What each trial of a search is to try: start points first, then what is expected to be good, then the searcher."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from model.config import TrainConfig
from search.draft import Draft, at_random, distributions_of, draw, from_point
from search.history import History
from search.prior import PastTrial, near_one_of, share_of_prior
from search.rough_cost import rough_cost
from search.samplers import LEARNING, make_searcher, start_up_of
from search.space import Space
from search.start import start_points

DEFAULTS_WEIGHT = 1.0  # of the defaults, among past trials of at most that weight
CHEAPEST_OF = 2  # draws of a thrifty search


class Proposals:
    """Drafts the trials of a search one after the other.

    A searcher that learns is asked when enough trials have ended; until then, and ever more rarely later, a trial is
    drawn near the defaults or near past trials, else at random; a thrifty search takes of two draws the one whose
    training costs less, as long as it knows nothing. Those that do not learn are asked for every trial; a
    grid leaves out the start points too, which are no combinations of its own.
    """

    def __init__(
        self,
        space: Space,
        searcher: str,
        *,
        past: Sequence[PastTrial],
        num_trials: int | None,
        seed: int,
        thrifty: bool = False,
    ) -> None:
        """Raises InputError for an unknown searcher."""
        self._space = space
        self._seed = seed
        self._draws = CHEAPEST_OF if thrifty else 1
        self._learning = searcher in LEARNING
        self._start_up = start_up_of(num_trials)
        self._pick_of_trial = make_searcher(searcher, space, seed=seed, start_up=self._start_up)
        self._starts = [] if searcher == "grid" else start_points(space, past)
        self._points = [PastTrial(values=asdict(TrainConfig()), weight=DEFAULTS_WEIGHT), *past]
        self._has_choices = bool(distributions_of(space))

    def draft(self, number: int, history: Callable[[], History]) -> tuple[dict[str, Any], Draft] | None:
        """Values for the trial of this number (from 0), and what was drawn; None where nothing is left to try.

        history: gives the trials so far, where they are needed.
        """
        if number and not self._has_choices:
            return None
        generator = np.random.default_rng((self._seed, number))
        if number < len(self._starts):
            return draw(self._space, from_point(self._starts[number], otherwise=at_random(generator)))
        if self._learning:
            return self._draft_of_learner(number, history(), generator)
        pick = self._pick_of_trial(number - len(self._starts), history)
        return None if pick is None else draw(self._space, pick)

    def has(self, number: int) -> bool:
        """Whether there is anything left to try in the trial of this number; where all is pinned, in the first only."""
        if number and not self._has_choices:
            return False
        if self._learning or number < len(self._starts):
            return True
        return self._pick_of_trial(number - len(self._starts), _nothing_to_learn) is not None

    def _draft_of_learner(
        self, number: int, history: History, generator: np.random.Generator
    ) -> tuple[dict[str, Any], Draft]:
        starting = history.ended < self._start_up
        expected = generator.random() < share_of_prior(number)
        if starting or expected:
            picks = [
                near_one_of(self._points, generator) if expected else at_random(generator)
                for _ in range(self._draws if starting else 1)
            ]
            return min((draw(self._space, pick) for pick in picks), key=lambda drawn: rough_cost(drawn[0]))
        pick = self._pick_of_trial(number, lambda: history)
        assert pick is not None
        values, draft = draw(self._space, pick)
        draft.notes = history.notes.kept
        return values, draft


def _nothing_to_learn() -> History:
    raise AssertionError("a searcher that does not learn asks for no history")
