"""One driver for a run: who has it, in a file or an object that outlives no crash, and that names its holder."""

import fcntl
import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from data.input_error import InputError
from data.outlast import StorageError
from data.replacing import write_text
from search.storage import Storage, refusing

HOLDER = "holder.json"  # in a run's folder, and at its URL
LOCK = ".lock"  # in a run's folder: what is locked, and never removed while the folder is there
CLAIM = ".claim-"  # begins the name of an object by which a driver asks the storage what time it is
SECONDS_BETWEEN_RENEWALS = 20.0
SECONDS_HELD = 120.0  # that a run at a URL stays held by a driver of which nothing more is heard
TRIES = 5  # to write a claim fast enough
SECONDS_TO_SETTLE = 2.0  # after which no driver is still about to write a claim that it began before


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who searches in a run. pid: of its driver. since: when it began, by its own clock. token: differs every time."""

    host: str
    pid: int
    user: str
    since: str
    token: str

    @classmethod
    def here(cls) -> "Holder":
        """This process, as a holder from now on."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container may run under a number that has no name
            user = str(os.getuid())
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(host=socket.gethostname(), pid=os.getpid(), user=user, since=since, token=uuid4().hex)

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (pid {self.pid}) since {self.since}"

    def as_text(self) -> str:
        """What is written down."""
        return json.dumps(asdict(self)) + "\n"


def read_holder(content: bytes) -> Holder | None:
    """Who was written down, or None for anything else."""
    try:
        said = json.loads(content)
        return Holder(**{name: type_(said[name]) for name, type_ in Holder.__annotations__.items()})
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def holding(folder: Path, run: str) -> Iterator[Holder | None]:
    """Holds a folder on a disk or NFS; the system lets it go when this process ends, however it ends.

    Gives who held it last, if that one never came to let it go. Raises InputError when somebody holds it, and when it
    cannot be locked. What is locked is a file: a lock on a folder does not reach beyond this machine on NFS.
    """
    lock, note = folder / LOCK, folder / HOLDER
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"run {run!r} cannot be written ({error.strerror}): make {str(folder)!r} yours.") from error
    try:
        before = read_holder(note.read_bytes()) if note.is_file() else None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _is_held(run, before) from None
        except OSError as error:
            raise InputError(
                f"run {run!r} cannot be locked ({error.strerror}): mount {str(folder)!r} with locks, or name another "
                "--storage."
            ) from error
        if not lock.exists() or not os.path.samestat(os.fstat(descriptor), lock.stat()):
            raise _is_held(run, before)  # somebody has just taken the folder away, or made it anew
        yield before
    finally:
        os.close(descriptor)


@contextmanager
def noted(folder: Path, holder: Holder) -> Iterator[None]:
    """Inside, the folder says who holds it. One that cannot be written is held all the same."""
    with suppress(OSError):
        write_text(folder / HOLDER, holder.as_text())
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)


class Lease:
    """Holds a run at a URL for this driver: an object with its token, written anew every so often.

    Whoever finds one that is older than `SECONDS_HELD`, by the storage's own clock, may take the run over; the driver
    that finds another token in its place has lost it.
    """

    def __init__(self, remote: Storage, holder: Holder) -> None:
        self.lost = ""  # who has the run now, once it is lost
        self._renewed = 0.0  # when it was last known to be held, by a clock that goes on while the machine sleeps
        self._remote = remote
        self._holder = holder
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._renew_over_and_over, name="lease", daemon=True)

    def take(self, before: Holder | None) -> None:
        """Takes the run. before: who last held this machine's folder of it, and does no longer: is known to be gone.

        Raises InputError when another driver holds the run, StorageError when the storage does not answer.
        """
        own = {self._holder.token} | ({before.token} if before is not None else set())
        for _ in range(TRIES):
            began = time.monotonic()
            there = self._there()
            if there is not None and there.token not in own:
                written = self._remote.find(HOLDER)
                if written is not None and self._time_there() - written.changed < SECONDS_HELD:
                    raise _is_held(self._remote.name, there, seconds=SECONDS_HELD)
            if time.monotonic() - began < SECONDS_TO_SETTLE / 2:
                self._write()
                if time.monotonic() - began < SECONDS_TO_SETTLE:
                    break
        else:
            raise StorageError(f"it takes more than {SECONDS_TO_SETTLE:g} s to write a few bytes")
        time.sleep(SECONDS_TO_SETTLE)
        there = self._there()
        if there is None or there.token != self._holder.token:
            raise _is_held(self._remote.name, there, seconds=SECONDS_HELD)
        self._thread.start()

    @property
    def is_sure(self) -> bool:
        """Whether nobody can have taken the run over since this was last renewed, also while the machine slept."""
        return not self.lost and _seconds_awake_or_asleep() - self._renewed < SECONDS_HELD / 2

    def renew(self) -> None:
        """Writes the object anew, or finds that the run is lost. Raises StorageError."""
        there = self._there()
        if there is None or there.token != self._holder.token:
            self.lost = str(there or "a driver that has let it go since")
        else:
            self._write()

    def let_go(self) -> None:
        """Ends the lease. What cannot be removed ends by itself."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(StorageError):
            there = None if self.lost else self._there()
            if there is not None and there.token == self._holder.token:
                self._remote.remove(HOLDER)

    def _renew_over_and_over(self) -> None:
        while not self._end.wait(SECONDS_BETWEEN_RENEWALS) and not self.lost:
            with suppress(OSError):  # what is sent meanwhile fails as well, and tells of it
                self.renew()

    def _there(self) -> Holder | None:
        try:
            return read_holder(self._remote.get(HOLDER))
        except FileNotFoundError:
            return None

    def _write(self) -> None:
        began = _seconds_awake_or_asleep()
        self._remote.put(HOLDER, self._holder.as_text().encode())
        self._renewed = began

    def _time_there(self) -> float:
        """What time it is by the storage's clock."""
        claim = f"{CLAIM}{self._holder.token}"
        self._remote.put(claim, b"may be removed")
        written = self._remote.find(claim)
        self._remote.remove(claim)
        return 0.0 if written is None else written.changed


@contextmanager
def leased(remote: Storage, holder: Holder, before: Holder | None) -> Iterator[Lease]:
    """Holds the run at the URL meanwhile. before: as for `Lease.take`, which says what is raised."""
    lease = Lease(remote, holder)
    try:
        with refusing(remote):
            lease.take(before)
        yield lease
    finally:
        lease.let_go()


def _seconds_awake_or_asleep() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _is_held(run: str, holder: Holder | None, *, seconds: float = 0.0) -> InputError:
    who = f" by {holder}" if holder is not None else " right now"
    ends = f"; one that was killed lets it go within {seconds:.0f} s" if seconds else ""
    return InputError(f"run {run!r} is being searched{who}: wait, or stop it first{ends}.")
