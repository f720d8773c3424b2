"""What each trial takes of the machines travels with it, so that it may change while a search runs."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher, SearchGenerator

from search.distributed_trial import places_of
from search.record import TRIAL_ID
from search.resources import Needs
from search.restarts import Again

# What a trial's config, as Ray carries it, has beside our id. All hyperparameters are one text: Ray takes apart what a
# config holds, over and over, and sends it back with every result.
NEEDS = "needs"
PARAMS = "params"


class LightTrial(Trial):
    """A trial that keeps its last result alone: Ray's own keeps statistics of all that it was ever told, too.

    Many wait at a time where those that fall behind do, and each would hold 100 KiB of what the study has as well.
    """

    again: Again | None = None  # asked when its process died, in place of Ray, which only counts
    _recovers = False

    def handle_error(self, exc: Any = None) -> None:
        """Takes in that the process died; what of is decided here, once, and Ray asks for it next."""
        super().handle_error(exc)
        self._recovers = self.again is not None and exc is not None and self.again(self, exc)

    def should_recover(self) -> bool:
        """Whether it is to be started again."""
        return self._recovers

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "again": None}  # type: ignore[no-untyped-call]

    def update_last_result(self, result: dict[str, Any]) -> None:
        """Takes in a result."""
        self.run_metadata.last_result = result


class Placement(SearchGenerator):
    """Makes Ray's trials of what a searcher suggests, each with what it takes of a machine.

    needs: of the trials that are made from now on; those that run keep theirs.
    """

    def __init__(self, searcher: Searcher, needs: Needs, again: Again | None = None) -> None:
        """again: decides whether a trial is started again whose process died; None starts none again."""
        super().__init__(searcher)
        self.needs = needs
        self._again = again

    def next_trial(self) -> Trial | None:
        """The next trial; None where the searcher has none to give.

        Ray's own way to make one copies all settings of the search and reads them as a command line would be read.
        """
        if self.is_finished():
            return None
        ray_trial_id: str = Trial.generate_id()  # type: ignore[no-untyped-call]
        suggestion: Any = self.searcher.suggest(ray_trial_id)
        if suggestion is None or suggestion == Searcher.FINISHED:
            self._finished = suggestion is not None
            return None
        self._counter += 1
        experiment: Any = self._experiment
        our_id, spec = suggestion.pop(TRIAL_ID), experiment.spec
        trial = LightTrial(
            spec["run"],
            config={TRIAL_ID: our_id, PARAMS: json.dumps(suggestion), NEEDS: self.needs},
            trial_id=ray_trial_id,
            experiment_tag=our_id,
            storage=spec["storage"],
            checkpoint_config=spec["checkpoint_config"],
            max_failures=spec["max_failures"],
        )
        trial.again = self._again
        return trial


def resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What Ray sets aside for the trial with this config."""
    return _resources(config[NEEDS])


@cache  # Ray compares what trials take over and over, which is quick only where it is the same object
def _resources(needs: Needs) -> tune.PlacementGroupFactory:
    if needs.workers > 1:
        return places_of(needs)
    return tune.PlacementGroupFactory([{"CPU": needs.cpus, "GPU": needs.gpus}])
