"""The one error for what a person got wrong: a single line that says how to mend it."""

from collections.abc import Iterable
from difflib import get_close_matches

from data.printable import printable


class InputError(ValueError):
    """A mistake in what a person asked for or supplied.

    The message is one line: the name, the value, what is allowed, and what to do. Commands print it and
    end with exit code 2. What a terminal would obey in a name is written out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not in a table: lists what there is and guesses what was meant."""
    names = sorted(allowed)
    close = get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return InputError(f"{kind} {str(name)!r} is not known; allowed: {', '.join(names)}.{guess}")
