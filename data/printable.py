"""Makes texts of strangers fit for a terminal, a log and a report: nothing in them is obeyed, no secret is shown."""

import re
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

# What names keep although Python does not call it printable: the joiners of scripts and of composed signs, and spaces.
_KEPT = "\u200c\u200d\u00a0\u202f\u3000"
# Words in the name of a part of a URL whose value lets somebody in.
_SECRET = re.compile(r"pass|pwd|secret|token|key|signature|credential|sig$|auth", re.IGNORECASE)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>|]+")
HIDDEN = "***"


def printable(text: str) -> str:
    """The text with all that steers a terminal, or turns the order of letters round, written out: ESC as `\\x1b`.

    Line breaks are written out, too: what is one text stays one line.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in _KEPT else _written(sign) for sign in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines, whose line breaks and tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def without_secrets(url: str) -> str:
    """The URL without what lets somebody in: `s3://key:secret@bucket` is `s3://***@bucket`.

    Of `user:password@host` the user stays, unless the URL is one of an object store, whose user is a key. Values of
    parameters such as `?secret_key=...` are hidden. Anything that is no URL stays as it is.
    """
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        database = parts.scheme.startswith(("postgres", "mysql", "redis", "http"))
        return urlunsplit(_hidden(parts, keep_user=database))
    except ValueError:  # such as a bracket that is not closed: then nobody knows what of it is a secret
        return f"{url.partition('://')[0]}://{HIDDEN}"


def without_secrets_in(text: str) -> str:
    """The text with every URL in it as `without_secrets` has it: for messages of other people's libraries."""
    return _URL.sub(lambda found: without_secrets(found[0]), text) if "://" in text else text


def _hidden(parts: SplitResult, *, keep_user: bool) -> SplitResult:
    entry, at, place = parts.netloc.rpartition("@")
    user, colon, _ = entry.partition(":")
    if at:
        shown = (f"{user}:{HIDDEN}" if colon else user) if keep_user else HIDDEN
        parts = parts._replace(netloc=f"{shown}@{place}")
    return parts._replace(query=_without_values(parts.query), fragment=_without_values(parts.fragment))


def _without_values(query: str) -> str:
    """A query whose secret values are hidden; unchanged where it has none."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if not any(_SECRET.search(name) for name, _ in pairs):
        return query
    return urlencode([(name, HIDDEN if _SECRET.search(name) else value) for name, value in pairs], safe="*/:")


def _written(sign: str) -> str:
    """A sign as Python writes it in a text."""
    return sign.encode("unicode_escape").decode("ascii")
