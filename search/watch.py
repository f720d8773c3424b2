"""Between the steps of Tune: keeps the leaderboard and the screen current, and counts the machines that there are."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from data.outlast import outlast
from search import leaderboard
from search.drivers import PACKING, SECONDS_SPENT, own_records
from search.events import Events
from search.leftovers import Leftovers
from search.newcomers import Newcomers
from search.packing import fewer_at_a_time
from search.placement import Placement
from search.record import TRIAL_ID, TrialRecord, records_from_study
from search.resources import machines
from search.run_folder import RunFolder
from search.searcher import StudySearcher
from search.steady_clock import SteadyClock
from search.trial import EVENT

SECONDS_BETWEEN_LOOKS = 1.0  # at the records, for the leaderboard and the screen
SHARE_OF_LOOKING = 0.05  # of the driver's time at most, however many trials there are
SECONDS_BETWEEN_COUNTS = 3.0  # of the machines, which may come and go
SECONDS_BETWEEN_MAKING_ROOM = 10.0

Look = Callable[[list[TrialRecord], float], None]


def forget(trial: Trial) -> None:
    """Takes from a trial of Tune's, which keeps all trials to the end, what the study has too (see `LightTrial`)."""
    trial.config.clear()
    trial.evaluated_params = {}
    trial.run_metadata.last_result = {"done": True}
    trial._default_result_or_future = None


class Watch(tune.Callback):
    """Looks at the study between the steps of Tune: for the leaderboard, the screen, and the machines there are."""

    def __init__(
        self,
        *,
        searcher: StudySearcher,
        placement: Placement,
        run: RunFolder,
        class_names: tuple[str, ...],
        objectives: tuple[str, ...],
        clock: SteadyClock,
        spent: float,
        look: Look,
        events: Events,
        newcomers: Newcomers,
        leftovers: Leftovers,
    ) -> None:
        self.records: list[TrialRecord] = []
        self._searcher = searcher
        self._placement = placement
        self._newcomers = newcomers
        self._run = run
        self._class_names = class_names
        self._objectives = objectives
        self._clock = clock
        self._spent_before = spent - clock.now()
        self._look = look
        self._events = events
        self._leftovers = leftovers
        self._of_earlier_needs: frozenset[str] | None = None  # ids of trials
        self._next_look = self._next_count = self._next_room = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of itself to disk when it starts, which nobody reads; the screen cannot be copied.
        return {}

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002 - Ray's signature
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        result: Mapping[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Tells what befell a trial in its worker."""
        if result.get(EVENT):
            self._events.tell(f"trial {trial.config[TRIAL_ID]}: {result[EVENT]}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Lets go of a trial that has ended."""
        forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Lets go of a trial whose process died too often."""
        forget(trial)

    def on_step_end(self, *_: Any, **_info: Any) -> None:
        """What Tune calls over and over."""
        self._searcher.sync_when_due()
        now = time.monotonic()
        if now >= self._next_look:
            self.look()
            taken = time.monotonic() - now
            self._next_look = now + max(SECONDS_BETWEEN_LOOKS, taken / SHARE_OF_LOOKING)
        if now >= self._next_room:
            self._make_room()
            self._next_room = now + SECONDS_BETWEEN_MAKING_ROOM
        if now >= self._next_count:
            self._count_machines()
            self._next_count = now + (SECONDS_BETWEEN_LOOKS if self._newcomers.asked else SECONDS_BETWEEN_COUNTS)

    def _count_machines(self) -> None:
        """Lets as many trials run as fit on the machines that there are now, and says who has joined."""
        joined, refused = self._newcomers.look()
        at_once = self._placement.needs.fit(machines(self._newcomers.shut_out))
        self._searcher.set_max_concurrency(max(1, at_once))
        for line in refused:
            self._events.tell(line)
        for address in joined:
            self._events.tell(f"machine {address} joined: {at_once} trial{'s' * (at_once != 1)} at a time")

    def _make_room(self) -> None:
        """Lets fewer trials share a GPU where its memory does not suffice for so many."""
        if self._of_earlier_needs is None:  # those of earlier sessions
            self._of_earlier_needs = frozenset(one.trial_id for one in self.records if one.status != "running")
        own = own_records(self._searcher.study)  # what others run out of is no memory of these machines
        needs = fewer_at_a_time(self._placement.needs, own, self._of_earlier_needs)
        if needs != self._placement.needs:
            self._placement.needs = needs
            self._of_earlier_needs = frozenset(one.trial_id for one in self.records)
            words = f"memory did not suffice for trials that share a GPU: from now on each has {needs.gpus:g} of one"
            self._events.tell(words)
            before = self._searcher.study.user_attrs.get(PACKING)
            if before is not None:
                changed = {**before, "needs": asdict(needs), "words": words}
                self._searcher.study.set_user_attr(PACKING, changed)

    @property
    def spent(self) -> float:
        """Seconds of the whole run, those of earlier sessions included."""
        return self._spent_before + self._clock.now()

    def look(self) -> None:
        """Brings the leaderboard and the screen up to date."""
        spent = self.spent
        self._searcher.study.set_user_attr(SECONDS_SPENT, spent)
        records = records_from_study(self._searcher.study)
        path = self._run.leaderboard

        def keep_current() -> None:
            if records != self.records or not path.exists():
                leaderboard.write(path, leaderboard.to_frame(records, self._class_names, self._objectives))

        outlast(keep_current, f"disk of {str(path)!r}", say=self._events.tell, home=path.parent)
        self.records = records
        self._leftovers.clear(self._searcher.study)
        self._look(records, spent)
