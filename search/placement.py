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

# What a trial's config, as Ray carries it, has beside our id. All hyperparameters are one text: Ray takes apart what a
# config holds, over and over, and sends it back with every result.
NEEDS = "needs"
PARAMS = "params"


class Placement(SearchGenerator):
    """Makes Ray's trials of what a searcher suggests, each with what it takes of a machine.

    needs: of the trials that are made from now on; those that run keep theirs.
    """

    def __init__(self, searcher: Searcher, needs: Needs) -> None:
        super().__init__(searcher)
        self.needs = needs

    def next_trial(self) -> Trial | None:
        """The next trial; None where the searcher has none to give."""
        trial: Trial | None = super().next_trial()  # type: ignore[no-untyped-call]
        if trial is not None:
            trial_id, params = trial.config.pop(TRIAL_ID), json.dumps(trial.config)
            trial.config.clear()
            trial.config |= {TRIAL_ID: trial_id, PARAMS: params, NEEDS: self.needs}
        return trial


def resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What Ray sets aside for the trial with this config."""
    return _resources(config[NEEDS])


@cache  # Ray compares what trials take over and over, which is quick only where it is the same object
def _resources(needs: Needs) -> tune.PlacementGroupFactory:
    if needs.workers > 1:
        return places_of(needs)
    return tune.PlacementGroupFactory([{"CPU": needs.cpus, "GPU": needs.gpus}])
