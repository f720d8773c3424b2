"""A database that is away, or drivers that fall silent, as a driver sees them: without any server."""

from collections.abc import Callable
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from sqlalchemy.exc import OperationalError, ProgrammingError

import search.outage
from data.input_error import InputError
from search.drivers import LONGEST_GAP, SECONDS_TO_LIVE, Pulses
from search.outage import Outage, Patient


class Storage:
    """One whose calls fail as often as it is told, each in its way, before or after they have come through."""

    def __init__(self, *failures: Exception, heard: bool = False) -> None:
        self.failures = list(failures)
        self.heard = heard
        self.states: list[str] = []

    def set_trial_state_values(self, state: str) -> bool:
        if self.failures:
            if self.heard:
                self.states.append(state)
            raise self.failures.pop(0)
        if state in self.states:
            raise UpdateFinishedTrialError
        self.states.append(state)
        return True

    def get_trial(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "trial"


def away(words: str = "server closed the connection\nunexpectedly") -> Exception:
    """What Optuna makes of a connection that is gone."""
    lost = StorageInternalError("An exception is raised during the commit.")
    lost.__cause__ = OperationalError("SELECT", {}, Exception(words))
    return lost


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    monkeypatch.setattr(search.outage, "PAUSES", (0.0, 0.0))
    return Outage("'mine'")


def said_by(outage: Outage) -> list[str]:
    said: list[str] = []
    outage.say = said.append
    return said


def test_a_connection_that_is_made_again_is_nothing_to_speak_of(outage: Outage) -> None:
    said = said_by(outage)
    assert Patient(Storage(away()), outage).get_trial() == "trial"
    assert said == []


def test_an_outage_is_said_once_when_it_begins_and_once_when_it_is_over(outage: Outage) -> None:
    said = said_by(outage)
    assert Patient(Storage(away(), away(), away(), away()), outage).get_trial() == "trial"
    assert said == [
        "study 'mine' does not answer (unexpectedly): the search waits for it",
        "study 'mine' answers again after 0 s",
    ]


def test_an_end_that_was_heard_though_the_answer_was_lost_is_told_once(outage: Outage) -> None:
    storage = Storage(away(), heard=True)
    assert Patient(storage, outage).set_trial_state_values("COMPLETE") is True
    assert storage.states == ["COMPLETE"]


def test_a_trial_that_has_ended_before_takes_no_other_end(outage: Outage) -> None:
    storage = Storage()
    storage.states.append("COMPLETE")
    with pytest.raises(UpdateFinishedTrialError):
        Patient(storage, outage).set_trial_state_values("COMPLETE")


def test_patience_ends_in_one_line_and_nothing_is_waited_for_after(
    outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.outage, "SECONDS_OF_PATIENCE", 0.0)
    patient = Patient(Storage(away()), outage)
    told = r"^study 'mine' has not answered for 0 minutes \(unexpectedly\): start it, then go on with --resume\.$"
    for _ in range(2):
        with pytest.raises(InputError, match=told):
            patient.get_trial()
    assert outage.refusal is not None


def test_what_is_no_outage_is_not_waited_for(outage: Outage) -> None:
    refused = ProgrammingError("INSERT", {}, Exception("permission denied for table trials"))
    with pytest.raises(InputError, match=r"permission denied for table trials\): mend it, then go on with --resume"):
        Patient(Storage(refused), outage).get_trial()


def test_who_interrupts_does_not_wait(outage: Outage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.outage, "PAUSES", (1000.0,))
    outage.interrupted = lambda: True
    with pytest.raises(KeyboardInterrupt):
        Patient(Storage(away()), outage).get_trial()


def test_an_error_of_ours_goes_through(outage: Outage) -> None:
    with pytest.raises(KeyError):
        Patient(Storage(KeyError("x")), outage).get_trial()


def look(pulses: Pulses, moments: Callable[[int], float], *seen: Any) -> None:
    for count, one in enumerate(seen):
        pulses.take_in({"other": one}, moments(count))


def test_a_driver_is_silent_when_its_pulse_has_not_changed_for_a_minute() -> None:
    pulses = Pulses()
    assert not pulses.is_silent("other")
    steps = int(SECONDS_TO_LIVE / 5)
    look(pulses, lambda count: 5.0 * count, *["a"] * steps)
    assert not pulses.is_silent("other")
    pulses.take_in({"other": "a"}, SECONDS_TO_LIVE)
    assert pulses.is_silent("other")
    pulses.take_in({"other": "b"}, SECONDS_TO_LIVE + 5)
    assert not pulses.is_silent("other")


def test_while_nobody_could_look_nobody_falls_silent() -> None:
    pulses = Pulses()
    look(pulses, lambda count: 1000.0 * count, "a", "a")
    assert not pulses.is_silent("other")
    look(pulses, lambda count: 2000.0 + LONGEST_GAP * count, *["a"] * 6)
    assert pulses.is_silent("other")
