"""The console of commands that tell of other people's names and reasons: what they print is shown, never obeyed."""

from typing import Any

from rich.console import Console

from data.printable import printable_lines


class PlainConsole(Console):
    """A console that takes texts as they are: no markup, no signs that steer a terminal, no lines cut short."""

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True)

    def print(self, *objects: Any, **named: Any) -> None:
        """Prints as its parent does, with all in texts written out that a terminal would obey."""
        super().print(*(printable_lines(one) if isinstance(one, str) else one for one in objects), **named)
