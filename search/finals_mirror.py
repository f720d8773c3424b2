"""The finals of a run at a URL: made in this machine's folder of it, fetched before and sent afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from data.outlast import GaveUpError, Say, outlast
from search.run_folder import RunFolder
from search.sending import Sent, shots_of
from search.storage import refusing
from search.trial_mirror import LAST, is_of_training

FINALS, TABLE = "finals", "finalists.csv"


@contextmanager
def finals_at_url(run: RunFolder, say: Say) -> Iterator[None]:
    """Inside, the run's folder has what the URL has of its finals; afterwards the URL has what the folder has.

    Also when they are interrupted: those who go on elsewhere, and who count how often the test images were read, need
    to know. Nothing is removed there. Raises InputError when the URL cannot be read, SystemExit when it takes nothing
    for long.
    """
    if run.remote is None:
        yield
        return
    remote, sent = run.remote, Sent(run.path, run.remote)
    with refusing(remote):
        for name in remote.files():
            if _is_of_finals(name):
                sent.fetch(name)
    try:
        yield
    finally:
        try:
            outlast(lambda: _send(run, sent), f"storage {str(remote)!r}", say=say)
        except GaveUpError as error:
            say(f"ended: {error}; the finals are kept in {run.path}, and the same command sends them")
            raise SystemExit(1) from error
        if who := run.lost():
            say(f"ended: run taken over by {who}; what was made since is kept in {run.path} alone")
            raise SystemExit(1)


def _send(run: RunFolder, sent: Sent) -> None:
    """Sends what is new. Raises StorageError."""
    names = [path.relative_to(run.path).as_posix() for path in (run.path / FINALS).rglob("*") if path.is_file()]
    with shots_of(run.path, [name for name in [*sorted(names), TABLE] if _is_of_finals(name)]) as shots:
        sent.send(shots, may_go_on=lambda: not run.lost())


def _is_of_finals(name: str) -> bool:
    """Whether a file belongs to the finals, and is more than what a training of theirs would go on from."""
    return name == TABLE or (name.startswith(f"{FINALS}/") and is_of_training(name) and not name.endswith(LAST))
