"""The folder of this machine in which a run at a URL is worked on: brought up to date with the URL, and found again."""

import hashlib
from pathlib import Path

from data.cache import cache_folder
from data.input_error import InputError
from search.storage import Storage

JOURNAL = "study.log"
DRIVER = "driver.txt"  # who searches here, where the study is in a database
# What lies beside the folders of a run.
FILES = ("settings.yaml", "dataset.json", DRIVER, JOURNAL, "leaderboard.csv", "finalists.csv", "report.html")
# What a driver needs of them to go on, and the study; all else is made again, or fetched where it is needed.
OF_THE_DRIVER = ("settings.yaml", "dataset.json", DRIVER)


def working_folder(remote: Storage) -> Path:
    """Where this machine keeps its part of a run: in the cache folder, under the run's name and a digest of its URL."""
    digest = hashlib.sha256(str(remote).encode()).hexdigest()[:16]
    return cache_folder().absolute() / "runs" / digest / remote.name


def fetch_run(remote: Storage, folder: Path) -> None:
    """Brings what a driver needs of a run at a URL into its working folder.

    The study is the longer one of the two: it only ever grows, so one that begins like the other and goes on is newer.
    Where it is in a database, the file is but a copy of it, which a driver does not read.
    Raises InputError when each has lines that the other has not, StorageError, and FileNotFoundError for no run.
    """
    for name in OF_THE_DRIVER:
        try:
            remote.fetch(name, folder / name)
        except FileNotFoundError:
            (folder / name).unlink(missing_ok=True)
    if (folder / DRIVER).is_file():
        return
    try:
        there = _whole_lines(remote.get(JOURNAL))
    except FileNotFoundError:
        there = b""
    path = folder / JOURNAL
    here = _whole_lines(path.read_bytes()) if path.is_file() else b""
    if here.startswith(there):
        return
    if not there.startswith(here):
        raise InputError(
            f"run {str(remote)!r} has gone on elsewhere, from before the last that {str(path)!r} knows: move that file "
            "away to go on with what is at the URL."
        )
    remote.fetch(JOURNAL, path)


def _whole_lines(content: bytes) -> bytes:
    """The content up to its last line break: a line that was torn off when a driver was killed counts for nothing."""
    return content[: content.rfind(b"\n") + 1]
