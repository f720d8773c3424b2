"""The folder of one training and its place at a URL: fetched where the training begins, sent while it goes on."""

import fnmatch
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data.outlast import FIRST_WAIT, LONGEST_WAIT, PATIENCE, GaveUpError, StorageError, outlast, reason_of
from search.sending import Sent, Shot, is_whole, shots_of
from search.storage import Storage

LAST = "last.safetensors"  # model.train.LAST, without loading torch
SPARE = (".previous.safetensors", ".next.safetensors")  # those of model.kept_states: the one before it, and the next
FETCHED = ".fetched"
FOLD = "fold-"  # begins the folders of folds in that of a trial, each of which is a training's own
SECONDS_TO_SEND = 30.0  # that a training which is stopped waits for its files to be sent

Progress = tuple[int, int, int]


def names_in(folder: Path) -> list[str]:
    """The files of one training, its state last: what goes on from that finds all others there."""
    names = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and is_of_training(path.relative_to(folder).as_posix())
    ]
    return sorted(names, key=lambda name: (name == LAST, name))


def is_of_training(name: str) -> bool:
    """Whether a file of this name, below the folder of a training, is one that others may want."""
    hidden = any(part.startswith(".") or part.endswith(".part") for part in name.split("/"))
    return not hidden and not name.startswith(FOLD)


def bring(remote: Storage, folder: Path) -> None:
    """Brings the folder of a training up to date with the URL, if the URL has more of it. Raises StorageError.

    The state that has come further is the newer one, whatever the clocks say; a damaged one counts for nothing.
    """
    there = [name for name in remote.files() if is_of_training(name)]
    if LAST in there:
        fetched = folder / FETCHED
        try:
            remote.fetch(LAST, fetched)
            newer = progress_of(fetched) > progress_of(folder / LAST)
            if newer:
                _fetch(remote, folder, [name for name in there if name != LAST])
                fetched.replace(folder / LAST)
        finally:
            fetched.unlink(missing_ok=True)
    elif there and not (folder / LAST).exists():
        _fetch(remote, folder, there)


def progress_of(path: Path) -> Progress:
    """How far a state has come: how often it began again, epochs, steps; all -1 for none, or a damaged one."""
    with shots_of(path.parent, [path.name]) as shots:
        for shot in shots:
            named = Shot(name=LAST, file=shot.file, mark=shot.mark)
            if is_whole(named):
                shot.file.seek(0)
                header = json.loads(shot.file.read(int.from_bytes(shot.file.read(8), "little")))
                try:
                    progress = json.loads(header["__metadata__"]["facts"])["progress"]
                    return int(progress["retries"]), int(progress["epoch"]), int(progress["step"])
                except (ValueError, KeyError, TypeError):
                    return -1, -1, -1
    return -1, -1, -1


def remove_states(trials: Path, trial_ids: Iterable[str]) -> None:
    """Removes the states of these trials, which never go on, and of their folds; their best models stay."""
    for trial_id in trial_ids:
        for folder in (trials / trial_id, *(trials / trial_id).glob(f"{FOLD}*")):
            for name in (LAST, *SPARE):
                (folder / name).unlink(missing_ok=True)


def bring_files(remote: Storage, folder: Path, wanted: str) -> None:
    """Fetches the files whose names from here fit a pattern, in which * stands for any text. Raises StorageError."""
    _fetch(remote, folder, fnmatch.filter(remote.files(), wanted))


def _fetch(remote: Storage, folder: Path, names: Iterable[str]) -> None:
    for name in names:
        try:
            remote.fetch(name, folder / name)
        except FileNotFoundError:  # it went between the two
            continue


def send_if_newer(remote: Storage, folder: Path, *, ended_after: int | None = None) -> None:
    """Sends what a training left here whose process is gone, unless it went on elsewhere since. Raises StorageError.

    ended_after: the epochs of its trial, over all folds, if that never goes on: then the URL has no state of it any
    more to compare with.
    """
    sent = Sent(folder, remote)
    with shots_of(folder, names_in(folder)) as shots:
        lacking = sent.lacks(shots)
        if not lacking:
            return
        there = remote.files()
        if ended_after is not None and LAST not in there and there:
            if folder.name.startswith(FOLD) or progress_of(folder / LAST)[1] < ended_after:
                return
        elif LAST in there and any(shot.name == LAST for shot in lacking):
            fetched = folder / FETCHED
            try:
                remote.fetch(LAST, fetched)
                if progress_of(fetched) > progress_of(folder / LAST):
                    return
            finally:
                fetched.unlink(missing_ok=True)
        elif LAST in there and not (folder / LAST).exists():
            return
        sent.send(lacking)


class TrialMirror:
    """Sends the folder of a training from a thread: the newest that was offered, when the one before is through."""

    def __init__(self, remote: Storage, folder: Path) -> None:
        self.failing = ""  # why the storage does not take it, while it does not
        self._folder = folder
        self._sent = Sent(folder, remote)
        self._changed = threading.Condition()
        self._waiting: tuple[ExitStack, list[Shot]] | None = None
        self._busy = self._closing = self._abandoned = False
        self._thread = threading.Thread(target=self._send_over_and_over, name="sender", daemon=True)
        self._thread.start()

    def take(self, done: bool) -> None:
        """Takes the folder as it is after a report; after the last one it waits until it is sent.

        So an end is told when the storage has the model. It waits longer than the driver does for its own files, which
        gives up first. Raises GaveUpError.
        """
        self.offer()
        if done and not self.wait(2 * PATIENCE):
            raise GaveUpError(f"the storage has not taken it for {2 * PATIENCE:.0f} s ({self.failing})")

    def offer(self) -> None:
        """Takes the folder as it is now to be sent; what was offered before and has not begun is left out."""
        opened = ExitStack()
        shots = opened.enter_context(shots_of(self._folder, names_in(self._folder)))
        with self._changed:
            if self._waiting is not None:
                self._waiting[0].close()
            self._waiting = opened, shots
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Waits until all that was offered is sent; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting is None and not self._busy, seconds)

    def drop_state(self) -> None:
        """Removes the states here, of which the URL has the last: where the training goes on, it is fetched again."""
        with shots_of(self._folder, [LAST]) as shots:
            if shots and not self._sent.lacks(shots):
                for name in (*SPARE, LAST):
                    (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the thread once all is sent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Ends the thread, whatever is not sent yet: from now on another one may send from this folder."""
        with self._changed:
            self._closing = self._abandoned = True
            if self._waiting is not None:
                self._waiting[0].close()
            self._waiting = None
            self._changed.notify_all()

    def _send_over_and_over(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closing)
                if self._waiting is None:
                    return
                (opened, shots), self._waiting, self._busy = self._waiting, None, True
            try:
                with opened:
                    self._send(shots)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _send(self, shots: list[Shot]) -> None:
        wait = FIRST_WAIT
        while True:
            try:
                self._sent.send(shots, may_go_on=lambda: not self._abandoned)
            except (StorageError, OSError) as error:
                self.failing = reason_of(error)
            else:
                self.failing = ""
                return
            with self._changed:
                if self._changed.wait_for(lambda: self._waiting is not None or self._abandoned, wait):
                    return  # there is something newer, or it is not wanted any more
            wait = min(2 * wait, LONGEST_WAIT)


@contextmanager
def mirrored(remote: Storage | None, folder: Path) -> Iterator[TrialMirror | None]:
    """Inside, a training may go on in the folder, from the newest state that there is of it; None where none is sent.

    remote: the folder's place at the URL, or None where it lies on a disk that all machines share. Raises GaveUpError
    when the storage does not answer for long.
    """
    if remote is None:
        yield None
        return
    outlast(lambda: bring(remote, folder), f"storage {str(remote)!r}", patience=2 * PATIENCE)
    mirror = TrialMirror(remote, folder)
    try:
        yield mirror
    finally:
        mirror.close()
        if mirror.wait(SECONDS_TO_SEND):
            mirror.drop_state()
        else:
            mirror.abandon()
