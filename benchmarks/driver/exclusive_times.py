"""Where the time of a thread goes: seconds of named parts, each second counted once, in the innermost part."""

import functools
import time
from collections import Counter
from typing import Any


class ExclusiveTimes:
    """Counts the seconds that are spent in functions, without those of other counted functions that they call."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._parts = ["elsewhere"]
        self._since = time.perf_counter()

    @property
    def seconds(self) -> "Counter[str]":
        """By part, so far; what was spent in none of them is `elsewhere`."""
        self._turn()
        return self._seconds.copy()

    def count(self, owner: Any, name: str, part: str) -> None:
        """Replaces a function of a module or class by one whose seconds are those of a part from now on."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def counted(*given: Any, **named: Any) -> Any:
            self._turn()
            self._parts.append(part)
            try:
                return function(*given, **named)
            finally:
                self._turn()
                self._parts.pop()

        setattr(owner, name, counted)

    def _turn(self) -> None:
        """Gives what has passed to the part that has been at work."""
        now = time.perf_counter()
        self._seconds[self._parts[-1]] += now - self._since
        self._since = now
