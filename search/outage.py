"""When the database of a shared study is away: the search waits for it, says so, and goes on where it was."""

import time
from collections.abc import Callable
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from data.input_error import InputError

SECONDS_OF_PATIENCE = 600.0
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before the tries that follow the first; then always the last
SECONDS_BETWEEN_LOOKS = 0.1  # whether somebody interrupts


class Outage:
    """Calls a database, as often as it takes.

    Every call may be made twice, as nobody can tell whether one whose answer was lost has been heard; see `Patient`.
    """

    def __init__(self, name: str) -> None:
        """name: of the study, in messages."""
        self.say: Callable[[str], None] = lambda _: None
        self.interrupted: Callable[[], bool] = lambda: False
        self.refusal: InputError | None = None  # once it has given up, for good
        self._name = name

    def outlast(self, call: Callable[[bool], Any]) -> Any:
        """What the call gives in the end. call: is told whether it is made once more.

        Raises InputError when the database has been away for too long, or refuses; and KeyboardInterrupt when somebody
        interrupts meanwhile.
        """
        if self.refusal is not None:
            raise self.refusal
        tries, began = 0, time.monotonic()
        while True:
            try:
                result = call(tries > 0)
            except (StorageInternalError, SQLAlchemyError) as error:
                cause = error.__cause__ if isinstance(error, StorageInternalError) else error
                if not _is_away(cause):
                    raise self._refuse(f"does not do what the search needs ({_words(cause)}): mend it") from error
                if time.monotonic() - began >= SECONDS_OF_PATIENCE:
                    minutes = f"{SECONDS_OF_PATIENCE / 60:.0f} minutes"
                    raise self._refuse(f"has not answered for {minutes} ({_words(cause)}): start it") from error
                if tries == 1:  # a connection that was cut is soon made again, of which nobody need hear
                    self.say(f"study {self._name} does not answer ({_words(cause)}): the search waits for it")
                self._pause(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
            else:
                if tries > 1:
                    self.say(f"study {self._name} answers again after {time.monotonic() - began:.0f} s")
                return result

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.interrupted():
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, SECONDS_BETWEEN_LOOKS))
        raise KeyboardInterrupt

    def _refuse(self, why: str) -> InputError:
        self.refusal = InputError(f"study {self._name} {why}, then go on with --resume.")
        return self.refusal


class Patient:
    """A storage of Optuna's, each call of which outlasts an outage.

    A call that is repeated does no harm: an attribute or a value is set to the same, and the end of a trial that has
    come through the first time is not told a second one. A new trial has a number that nobody else may take, itself
    included (see `NumberedStorage`).
    """

    def __init__(self, storage: Any, outage: Outage) -> None:
        self._storage = storage
        self._outage = outage

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._storage, name)

        def patiently(*given: Any, **named: Any) -> Any:
            def call(once_more: bool) -> Any:
                try:
                    result = method(*given, **named)
                except UpdateFinishedTrialError:
                    if once_more and name == "set_trial_state_values":
                        return True
                    raise
                return True if once_more and name == "set_trial_state_values" else result

            return self._outage.outlast(call)

        return patiently


def _is_away(error: BaseException | None) -> bool:
    """Whether an error says that there is no connection, rather than what is wrong with the question."""
    return isinstance(error, OperationalError | InterfaceError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def _words(error: BaseException | None) -> str:
    """What the database, or the way to it, says: the last line of it."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
