"""What each trial takes of the machines travels with it, so that it may change while a search runs."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import Searcher, SearchGenerator

from search.distributed_trial import places_of
from search.resources import Needs

NEEDS = "needs"  # where a trial's config, as Ray carries it, has them; no hyperparameter


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
            trial.config[NEEDS] = self.needs
        return trial


def resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What Ray sets aside for the trial with this config."""
    return _resources(config[NEEDS])


@cache  # Ray compares what trials take over and over, which is quick only where it is the same object
def _resources(needs: Needs) -> tune.PlacementGroupFactory:
    if needs.workers > 1:
        return places_of(needs)
    return tune.PlacementGroupFactory([{"CPU": needs.cpus, "GPU": needs.gpus}])
