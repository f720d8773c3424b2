"""Storage at a URL (s3://, gs://, abfs://, file://): whole files put, fetched, listed and removed, by pyarrow."""

import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlsplit

from data.input_error import InputError, unknown_name
from data.outlast import StorageError
from data.replacing import replacing

SCHEMES = ("s3", "gs", "abfs", "file")
# What may stand behind a `?`: where a server is, and no secret. A run keeps its URL in settings.yaml.
QUERIES = ("endpoint_override", "region", "scheme")
SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 5.0, 10.0  # the latter without a single byte
TRIES = 2  # of one request; who asks waits and asks again (data/outlast.py)
PIECE = 8 << 20  # bytes that are read and sent at once
SECRETS = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|ACCOUNT_KEY")  # in the names of environment variables


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One file at a storage. size: in bytes. changed: when it was written, in seconds by the storage's own clock."""

    size: int
    changed: float


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A folder at a URL. Its methods raise StorageError, one plain line, where the storage does not do as asked.

    root: the URL that was given. below: names of folders under it, with / between them.
    """

    root: str
    below: str = ""

    def __truediv__(self, name: str) -> "Storage":
        return Storage(root=self.root, below=f"{self.below}/{name}" if self.below else name)

    def __str__(self) -> str:
        place, mark, query = self.root.partition("?")
        return f"{place}/{self.below}{mark}{query}" if self.below else self.root

    def __reduce__(self) -> tuple[Any, ...]:
        return _storage, (self.root, self.below)

    @property
    def name(self) -> str:
        """The last part of the folder's name."""
        return self.below.rpartition("/")[2]

    @property
    def parent(self) -> "Storage":
        """The folder that this one lies in; it must not be the root."""
        assert self.below, "the root has none"
        return Storage(root=self.root, below=self.below.rpartition("/")[0])

    def put(self, name: str, content: bytes) -> None:
        """Writes a file as a whole: whoever reads finds the old one or the new one."""
        self.put_stream(name, io.BytesIO(content))

    def put_stream(self, name: str, source: BinaryIO) -> None:
        """Writes a file of all that can still be read from the source.

        A Ctrl-C meanwhile is heard when it is done: a store of objects would keep the beginning of one that breaks off.
        """
        with self._told(writing=True):
            files, path = _files(self.root), self._path(name)
            if _is_local(files):  # a folder is no store of objects: there, a new file takes the old one's place
                target = Path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                with replacing(target) as waiting, waiting.open("wb") as file:
                    _copy(source, file)
                return

            def upload() -> None:
                with files.open_output_stream(path) as file:
                    _copy(source, file)

            _uninterrupted(upload)

    def get(self, name: str) -> bytes:
        """What a file holds. Raises FileNotFoundError where there is none."""
        with self._told(), _files(self.root).open_input_stream(self._path(name)) as file:
            content: bytes = file.read()
        return content

    def fetch(self, name: str, target: Path) -> None:
        """Writes what a file holds to `target`, which is replaced as a whole. Raises FileNotFoundError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(target) as waiting,
            waiting.open("wb") as file,
            self._told(local=True),
            _files(self.root).open_input_stream(self._path(name)) as source,
        ):
            _copy(source, file)

    def find(self, name: str) -> Stored | None:
        """What there is to know of a file, or None where there is none."""
        with self._told():
            return _stored(_files(self.root).get_file_info(self._path(name)))

    def files(self) -> dict[str, Stored]:
        """Every file in this folder and below it, by its name from here; none where there is no such folder."""
        from pyarrow.fs import FileSelector  # type: ignore[import-untyped]

        base = self._path("").rstrip("/")
        with self._told():
            found = _files(self.root).get_file_info(FileSelector(base, allow_not_found=True, recursive=True))
        known = {info.path[len(base) :].lstrip("/"): _stored(info) for info in found}
        # A stranger's bucket may have names that lead out of the folder into which they are fetched.
        return {name: one for name, one in sorted(known.items()) if one is not None and ".." not in name.split("/")}

    def folders(self) -> list[str]:
        """The names of the folders right below this one."""
        from pyarrow.fs import FileSelector, FileType

        with self._told():
            found = _files(self.root).get_file_info(FileSelector(self._path("").rstrip("/"), allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.Directory)

    def remove(self, name: str) -> None:
        """Removes one file, if it is there."""
        try:
            with self._told():
                _files(self.root).delete_file(self._path(name))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        parts = [_place(self.root), self.below, name]
        return "/".join(part for part in parts if part) if parts[0] != "/" else "/" + "/".join(filter(None, parts[1:]))

    @contextmanager
    def _told(self, *, local: bool = False, writing: bool = False) -> Iterator[None]:
        """Turns what pyarrow raises into a StorageError. local: whether a disk of this machine takes part, too.

        writing: whether nothing is looked for that need not be there.
        """
        try:
            yield
        except StorageError:
            raise
        except FileNotFoundError as missing:
            if writing:
                raise StorageError(_plain(missing)) from missing
            raise
        except OSError as error:
            if local and error.errno is not None:
                raise
            raise StorageError(_plain(error)) from error
        except Exception as error:  # pyarrow has errors of its own, of no common kind
            raise StorageError(_plain(error)) from error


def _uninterrupted(do: Callable[[], None]) -> None:
    """Does it in a thread of its own, to which no signal comes; what is raised meanwhile here, goes on afterwards."""
    if threading.current_thread() is not threading.main_thread():
        do()
        return
    raised: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            raised.append(error)

    apart = threading.Thread(target=run, name="upload")
    try:
        apart.start()
        apart.join()
    finally:
        if apart.is_alive():
            apart.join()
    if raised:
        raise raised[0]


@contextmanager
def refusing(storage: object) -> Iterator[None]:
    """Inside, a storage that does not do as it is asked is a person's mistake: nothing has begun that could be lost."""
    try:
        yield
    except StorageError as error:
        raise InputError(
            f"storage {str(storage)!r} cannot be used ({error}): check its name, that it exists, and the keys in the "
            "environment (docs/storage.md)."
        ) from error


def is_url(text: str) -> bool:
    """Whether the text is meant as a URL, and not as a folder of this machine."""
    return "://" in text


def parse_url(text: str) -> Storage:
    """The storage at a URL. Raises InputError for one that is not known, or holds a secret."""
    try:
        parts = urlsplit(text)
    except ValueError as mistake:  # of brackets, as of an address of IPv6
        raise InputError(f"storage {text!r} is no URL ({mistake}): write one such as s3://BUCKET/FOLDER.") from None
    if parts.scheme not in SCHEMES:
        error = unknown_name("storage scheme", parts.scheme, SCHEMES)
        raise InputError(f"{error} Such as s3://BUCKET/FOLDER, or a folder of this machine, without ://.")
    secret = "password" if parts.password or (parts.username and parts.scheme == "s3") else ""
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    secret = secret or next((name for name in named if name not in QUERIES), "")
    if secret:
        raise InputError(
            f"storage URL for {parts.hostname or parts.path!r} has a {secret}, which the run would keep: allowed "
            f"behind a ? are {', '.join(QUERIES)}; keys belong into the environment (docs/storage.md)."
        )
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise InputError(f"storage {text!r} must have three slashes, such as file:///shared/runs.")
    if parts.scheme != "file" and not parts.netloc:
        raise InputError(f"storage {text!r} names no bucket: give one, such as {parts.scheme}://BUCKET/FOLDER.")
    if parts.fragment:
        raise InputError(f"storage {text!r} must not have a # in it: leave {'#' + parts.fragment!r} out.")
    if ".." in parts.path.split("/"):
        raise InputError(f"storage {text!r} must not have .. in it: write the whole path.")
    query = f"?{parts.query}" if parts.query else ""
    return Storage(root=f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{query}")


def run_at(url: str) -> Storage:
    """A run at the URL of its folder: STORAGE/NAME."""
    whole = parse_url(url)
    place, _, query = whole.root.partition("?")
    storage, _, name = place.rpartition("/")
    if not name or storage.endswith(":/"):
        raise InputError(f"run {url!r} must be the URL of a run's folder, such as s3://BUCKET/FOLDER/NAME.")
    return Storage(root=storage + (f"?{query}" if query else "")) / name


def _storage(root: str, below: str) -> Storage:
    return Storage(root=root, below=below)


def _place(root: str) -> str:
    """The path of a URL as pyarrow's filesystems take it."""
    parts = urlsplit(root)
    if parts.scheme == "file":
        return parts.path or "/"
    return f"{parts.netloc.rpartition('@')[0] or parts.netloc}{parts.path}".rstrip("/")


@lru_cache(maxsize=8)
def _files(root: str) -> Any:
    """The filesystem of pyarrow behind a URL: one that answers or fails within seconds."""
    from pyarrow import fs  # type: ignore[import-untyped]

    parts = urlsplit(root)
    if parts.scheme == "file":
        return fs.LocalFileSystem()
    if parts.scheme == "s3":
        asked = dict(parse_qsl(parts.query))
        endpoint = asked.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL") or None
        region = asked.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region is None and endpoint is None:
            region = fs.resolve_s3_region(parts.netloc)
        return fs.S3FileSystem(
            region=region,
            endpoint_override=endpoint,
            **({"scheme": asked["scheme"]} if "scheme" in asked else {}),
            connect_timeout=SECONDS_TO_CONNECT,
            request_timeout=SECONDS_TO_ANSWER,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
            allow_delayed_open=True,
        )
    if parts.scheme == "gs":
        from datetime import timedelta

        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=SECONDS_TO_ANSWER))
    return fs.FileSystem.from_uri(root)[0]


def _is_local(files: Any) -> bool:
    return bool(files.type_name == "local")


def _stored(info: Any) -> Stored | None:
    from pyarrow.fs import FileType

    if info.type != FileType.File:
        return None
    return Stored(size=int(info.size), changed=(info.mtime_ns or 0) / 1e9)


def _copy(source: BinaryIO, target: Any) -> None:
    while piece := source.read(PIECE):
        target.write(piece)


def _plain(error: Exception) -> str:
    """What an error says that a person wants to know, on one line, without keys."""
    words = " ".join(str(error).split())
    words = re.sub(r"\s*\(Request ID:[^)]*\)", "", words)
    if found := re.search(r"AWS Error (\w+) during (\w+) operation: (.*)", words):
        kind, operation, text = found.groups()
        words = f"{kind} at {operation}: {text.partition('; Details:')[0]}"
    for name, value in os.environ.items():
        if SECRETS.search(name) and len(value) >= 8:
            words = words.replace(value, "...")
    return words[:200].rstrip(". ") or type(error).__name__
