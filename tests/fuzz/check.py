"""Holds a parser to its promise for one bad input: accepted, or refused in one line; and nothing else happens."""

import io
import os
import resource
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from data.input_error import InputError
from data.printable import printable

SECONDS = 20  # that one input may take
MOST_MEMORY = 3 * 2**30  # bytes that it may ask for beyond what the process has
LONGEST_MESSAGE = 20_000  # signs: it names the value, and what is allowed

Snapshot = Mapping[str, tuple[int, int, int]]


class BrokenPromiseError(AssertionError):
    """What a parser did with an input that it must never do."""


def snapshot(folder: Path, left_out: Path) -> Snapshot:
    """Every file and folder below `folder`, but for what is in `left_out`: its kind, size and time of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path != left_out and left_out not in path.parents:
            facts = path.lstat()
            size = 0 if path.is_dir() else facts.st_size
            found[str(path)] = (facts.st_mode, size, 0 if path.is_dir() else facts.st_mtime_ns)
    return found


def check(read: Callable[[], None], sandbox: Path, work: Path) -> str:
    """Calls a parser with an input and gives "accepted" or "refused".

    read: returns, or raises InputError. sandbox: the folder whose files must stay as they are, but for those in `work`.
    Raises BrokenPromiseError for any other exception, a warning, a word on the error stream, more than one line, signs
    that a terminal would obey, a file changed outside of `work`, and for taking too long or too much memory.
    """
    before = snapshot(sandbox, work)
    outcome = "accepted"
    with _told() as told:
        try:
            with _limited():
                read()
        except InputError as error:
            outcome = "refused"
            _check_message(str(error))
        except BaseException as error:
            raise BrokenPromiseError(f"{type(error).__name__}: {error}\n{traceback.format_exc()[-1500:]}") from error
    if said := "".join(told).strip():
        raise BrokenPromiseError(f"it says {said[:300]!r} on the error stream")
    if snapshot(sandbox, work) != before:
        changed = set(snapshot(sandbox, work).items()) ^ set(before.items())
        raise BrokenPromiseError(f"it changed {sorted(changed)[:3]}")
    return outcome


def _check_message(message: str) -> None:
    if "\n" in message or printable(message) != message or not message:
        raise BrokenPromiseError(f"no plain line: {message[:300]!r}")
    if len(message) > LONGEST_MESSAGE:
        raise BrokenPromiseError(f"a line of {len(message)} signs: {message[:100]!r}")


def command(call: Callable[[], int]) -> Callable[[], None]:
    """A command as `check` takes it: exit code 2 with one line on the error stream is a refusal in that line."""

    def read() -> None:
        said, out = io.StringIO(), io.StringIO()
        try:
            with redirect_stderr(said), redirect_stdout(out):
                code = call()
        except SystemExit as end:
            raise BrokenPromiseError(f"it left by itself with {end.code!r}") from end
        if code == 2:
            lines = said.getvalue().splitlines(keepends=True)
            if len(lines) != 1 or not lines[0].startswith("error: ") or not lines[0].endswith("\n"):
                raise BrokenPromiseError(f"no single line: {said.getvalue()[:300]!r}")
            raise InputError(lines[0].removeprefix("error: ")) if _is_plain(lines[0]) else BrokenPromiseError(lines[0])
        if code not in (0, 1) or said.getvalue():
            raise BrokenPromiseError(f"exit code {code} after {said.getvalue()[:300]!r}")
        if "\x1b" in out.getvalue():
            raise BrokenPromiseError("ESC in what it prints")

    return read


def _is_plain(line: str) -> bool:
    return printable(line.rstrip("\n")) == line.rstrip("\n")


@contextmanager
def _limited() -> Iterator[None]:
    """Inside, too long or too much memory is an exception, and a warning is, too."""

    def too_long(_number: int, _frame: object) -> None:
        raise TimeoutError(f"it took more than {SECONDS} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_size() + MOST_MEMORY, hard))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            warnings.filterwarnings("ignore", message=".*image file could be.*bomb.*|.*decompression bomb.*")
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_size() -> int:
    """Bytes of memory that the limit counts and that the process has already."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))


@contextmanager
def _told() -> Iterator[list[str]]:
    """What reached the error stream of the process inside, also from libraries that write past Python."""
    kept, words, told = os.dup(2), io.StringIO(), list[str]()
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stderr(words):
                yield told
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            told += [words.getvalue(), file.read().decode(errors="replace")]
