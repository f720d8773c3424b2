"""What the driver of a run at a URL sends there while it searches: study, leaderboard, settings, and the best model."""

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from data.outlast import (
    FIRST_WAIT,
    LONGEST_WAIT,
    PATIENCE,
    Say,
    StorageError,
    outlast,
    reason_of,
)
from search.sending import Sent, Shot, shots_of
from search.storage import Storage
from search.trial_mirror import FOLD, LAST, remove_states, send_if_newer
from search.working_folder import FILES, JOURNAL

TRIALS, BEST = "trials", "best"
SECONDS_BETWEEN_LOOKS = 3.0  # for what has changed
SHARE_OF_SENDING = 0.1  # of the time at most: the study is sent as a whole, and grows


class Mirror:
    """Sends the driver's own files of a run from a thread, and at its end all that is left.

    failed: why the storage has been given up, or empty. lost: gives who has taken the run over, from when on nothing
    is sent any more. is_sure: whether it is known that nobody has; while it is not, nothing is sent either.
    """

    def __init__(
        self,
        folder: Path,
        remote: Storage,
        lost: Callable[[], str],
        say: Say,
        is_sure: Callable[[], bool] = lambda: True,
    ) -> None:
        self.failed = ""
        self.lost = lost
        self._is_sure = is_sure
        self._folder = folder
        self._remote = remote
        self._say = say
        self._sent = Sent(folder, remote)
        self._one_at_a_time = threading.Lock()
        self._finished: dict[str, int] = {}  # ids of trials that never go on -> the epochs that they had
        self._cleared: set[str] = set()  # those of them whose states are gone from the URL
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._send_over_and_over, name="mirror", daemon=True)

    @property
    def over(self) -> str:
        """Why the search must end, in words; empty while it need not."""
        if who := self.lost():
            return f"run taken over by {who}"
        return f"storage {str(self._remote)!r} failed for {PATIENCE:.0f} s ({self.failed})" if self.failed else ""

    def start(self) -> None:
        """Sends what changes from now on."""
        self._thread.start()

    def note_finished(self, epochs: Mapping[str, int]) -> None:
        """Takes note of trials that never go on: their states go from the URL once it has the study that says so.

        epochs: how many each had, by its id.
        """
        with self._one_at_a_time:
            self._finished.update(epochs)

    def send(self) -> None:
        """Sends what has changed. Raises StorageError."""
        with self._one_at_a_time:
            finished = self._finished.keys() - self._cleared
            with shots_of(self._folder, self._names()) as shots:
                lacking = [_of_whole_lines(shot) for shot in self._sent.lacks(shots)]
                self._sent.send(lacking, may_go_on=self._may_send)
            for trial_id in sorted(finished):
                if not self._may_send():
                    return
                clear_state(self._remote / TRIALS / trial_id)
                self._cleared.add(trial_id)

    def bring(self, place: str) -> None:
        """Fetches a folder of the run, such as that of a trial's best model, as the URL has it. Raises StorageError."""
        for name in (self._remote / place).files():
            (self._remote / place).fetch(name, self._folder / place / name)

    def send_trials(self) -> None:
        """Sends what trials left on this machine whose workers are gone. Raises StorageError."""
        for folder in sorted(path for path in (self._folder / TRIALS).glob("*") if path.is_dir()):
            for training in [folder, *sorted(folder.glob(f"{FOLD}*"))]:
                if not self._may_send():
                    return
                remote = self._remote / training.relative_to(self._folder).as_posix()
                send_if_newer(remote, training, ended_after=self._finished.get(folder.name))

    def _may_send(self) -> bool:
        """Whether the run is this driver's still. Raises StorageError while that is not known."""
        if self.lost():
            return False
        if not self._is_sure():
            raise StorageError("whether another driver has taken the run over is not known yet")
        return True

    def finish(self) -> None:
        """Sends all that is left; waits for the storage, and raises GaveUpError when that is in vain."""
        self.stop()

        def all_of_it() -> None:
            self.send_trials()
            self._cleared.clear()  # a worker may have sent a state after it had been cleared
            self.send()
            best = {name for name in self._sent.names_below(f"{BEST}/") if not (self._folder / name).is_file()}
            for name in best if (self._folder / BEST).is_dir() else ():
                self._sent.remove(name)  # of the model that the best one has replaced

        if not self.lost():
            outlast(all_of_it, f"storage {str(self._remote)!r}", say=self._say)
            remove_states(self._folder / TRIALS, self._finished)

    def stop(self) -> None:
        """Ends the thread."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def _names(self) -> list[str]:
        below = [path for part in (BEST,) for path in sorted((self._folder / part).rglob("*")) if path.is_file()]
        return [*FILES, *(path.relative_to(self._folder).as_posix() for path in below if path.suffix != ".part")]

    def _send_over_and_over(self) -> None:
        failing_since: float | None = None
        pause = SECONDS_BETWEEN_LOOKS
        while not self._end.wait(pause) and not self.failed and not self.lost():
            began = time.monotonic()
            try:
                self.send()
            except (StorageError, OSError) as error:
                if failing_since is None:
                    failing_since, pause = began, FIRST_WAIT
                    self._say(
                        f"storage {str(self._remote)!r} fails ({reason_of(error)}): the search goes on, and sends what "
                        "it has when that works again"
                    )
                if time.monotonic() - failing_since >= PATIENCE:
                    self.failed = reason_of(error)
                pause = min(2 * pause, LONGEST_WAIT)
            else:
                if failing_since is not None:
                    self._say(f"storage {str(self._remote)!r} works again after {began - failing_since:.0f} s")
                    failing_since = None
                pause = max(SECONDS_BETWEEN_LOOKS, (time.monotonic() - began) / SHARE_OF_SENDING)


def clear_state(remote: Storage) -> None:
    """Removes the states at the URL of a trial that never goes on, those of its folds too. Raises StorageError."""
    for name in remote.files():
        if name.rpartition("/")[2] == LAST:
            remote.remove(name)


@contextmanager
def mirroring(mirror: Mirror | None) -> Iterator[None]:
    """Inside, what the driver writes is sent, where there is a URL."""
    if mirror is None:
        yield
        return
    mirror.start()
    try:
        yield
    finally:
        mirror.stop()


def _of_whole_lines(shot: Shot) -> Shot:
    """The study without a line that is being written; anything else as it is."""
    if shot.name != JOURNAL:
        return shot
    content = shot.file.read(shot.mark[2])
    return Shot(name=shot.name, file=io.BytesIO(content[: content.rfind(b"\n") + 1]), mark=shot.mark)
