"""The address of a database in which several drivers share a study, as a person types it, and whether it answers."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from data.input_error import InputError

SCHEME = "postgresql"
FORM = f"{SCHEME}://user@host/database"
OPTIONS = ("host", "sslmode", "sslrootcert", "sslcert", "sslkey")  # behind the "?", as libpq has them
SECONDS_TO_CONNECT = 5
LONGEST_SHOWN = 40  # characters of what is no address, in a message
# How a server, or the network before it, is known to be gone: an idle connection is asked after, an answer not awaited
# for ever.
CONNECTING = {
    "connect_timeout": SECONDS_TO_CONNECT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "unet-search",
}
# What libpq says when it cannot connect, and what that means here.
_REFUSALS = (
    (
        r"password authentication failed|no password supplied",
        "does not take the password: put the right one into PGPASSWORD or ~/.pgpass",
    ),
    (r'database ".*" does not exist', "has no such database: make it (createdb), or name another"),
    (r'role ".*" does not exist', "does not know the user: write one that it knows before the @"),
    (r"no pg_hba.conf entry", "lets nobody in from this machine: its pg_hba.conf says from where"),
    (r"[Aa]uthentication failed", "does not let the user in: write another one before the @"),
    (r"", "does not answer: start it, or mend the host and the port"),
)
_TABLE_RIGHTS = """
    SELECT CASE WHEN to_regclass('studies') IS NULL THEN has_schema_privilege(current_schema(), 'CREATE')
                ELSE has_table_privilege(to_regclass('studies'), 'SELECT')
                     AND has_table_privilege(to_regclass('studies'), 'INSERT')
                     AND has_table_privilege(to_regclass('studies'), 'UPDATE') END
"""


@dataclass(frozen=True, kw_only=True)
class StudyAddress:
    """A PostgreSQL database. It has no password: libpq finds that in PGPASSWORD or in `~/.pgpass`.

    Empty, or None, is what libpq takes by itself: the name of this user, this machine's socket, the usual port.
    """

    user: str = ""
    host: str = ""
    port: int | None = None
    database: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        options = f"?{urlencode(self.options, safe='/')}" if self.options else ""
        return f"{SCHEME}://{user}{host}{port}/{quote(self.database, safe='')}{options}"

    @property
    def connection(self) -> dict[str, Any]:
        """What libpq is given to connect."""
        named = {"user": self.user, "host": self.host, "port": self.port, "dbname": self.database}
        return {name: value for name, value in named.items() if value} | dict(self.options) | CONNECTING


@dataclass(frozen=True, kw_only=True)
class SharedPlace:
    """Where a shared study is. name: of the run, which all its drivers have. driver: the one that opens it."""

    address: StudyAddress
    name: str
    driver: str

    def __str__(self) -> str:
        return f"{self.name!r} at {self.address}"


def read_address(text: str) -> StudyAddress:
    """The address that is meant by postgresql://user@host:port/database. Raises InputError that has no password."""
    try:
        parts = urlsplit(text)
        port = parts.port
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:  # which quotes all of it, and goes no further
        raise InputError(f"study {_without_secrets(text)!r} is no address: write it like {FORM}.") from None
    if parts.scheme != SCHEME:
        raise InputError(
            f"study {_without_secrets(text)!r} must begin with {SCHEME}://: write it like {FORM}, or leave --study "
            "out, and the study is a file in the run's folder."
        )
    if parts.password is not None or any("password" in name for name, _ in options):
        raise InputError(
            f"study {_without_secrets(text)!r} was given with a password, which others would see on the command "
            "line: leave it out, and put it into PGPASSWORD or ~/.pgpass, where it is looked for."
        )
    known = [name for name, _ in options]
    if unknown := [name for name in known if name not in OPTIONS]:
        allowed = ", ".join(OPTIONS)
        raise InputError(f"study has the option {unknown[0]!r} behind its ?; allowed: {allowed}: leave it out.")
    database = unquote(parts.path.removeprefix("/"))
    odd = not database or "/" in parts.path.removeprefix("/") or len(known) > len(set(known)) or parts.fragment
    if odd or re.search(r"[\s\x00-\x1f\x7f]", unquote(text)) or not parts.netloc.isascii():
        raise InputError(f"study {_without_secrets(text)!r} is no address: write it like {FORM}.")
    return StudyAddress(
        user=unquote(parts.username or ""),
        host=unquote(parts.hostname or ""),
        port=port,
        database=database,
        options=tuple(options),
    )


def check_database(address: StudyAddress) -> None:
    """Raises InputError where the database cannot be used, and says why; it leaves nothing there."""
    try:
        import psycopg
    except ImportError as error:
        raise InputError(
            f"study '{address}' needs psycopg, which is not installed: pip install 'unet-search[study]'."
        ) from error
    try:
        with psycopg.connect(**address.connection) as connection:
            row = connection.execute(_TABLE_RIGHTS).fetchone()
    except psycopg.OperationalError as error:
        raise refusal(address, str(error)) from error
    except psycopg.Error as error:
        raise InputError(f"study '{address}' cannot be read ({_last_line(str(error))}): name another.") from error
    if row is None or not row[0]:
        raise InputError(
            f"study '{address}' lets the user write nothing: GRANT CREATE ON SCHEMA public TO that user, or name "
            "another database."
        )


def refusal(address: StudyAddress, said: str) -> InputError:
    """What it means when libpq has said this instead of connecting."""
    meaning = next(meaning for pattern, meaning in _REFUSALS if re.search(pattern, said))
    return InputError(f"study '{address}' {meaning} ({_last_line(said)}).")


def _last_line(said: str) -> str:
    """The end of what libpq says, which names the last address that it tried."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("- ") if lines else "no reason given"


def _without_secrets(text: str) -> str:
    """What was typed, as far as it can hold no password."""
    scheme, between, rest = text.partition("://")
    if not between:
        return "..." if ":" in text or "@" in text else text[:LONGEST_SHOWN]
    return f"{scheme}{between}..." if "@" in rest or "password" in rest.lower() else text
