"""What a person sees while a search runs: a line for each trial that ended, and how far the whole has come."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from data.printable import printable
from search.objectives import VAL_DICE, costs_of
from search.pareto import on_front
from search.record import BAD_ENDINGS, WAITS, TrialRecord, split_warnings, warning_name
from search.space import means_something

if TYPE_CHECKING:
    from rich.console import Console

    from search.budget import Limits

SECONDS_BETWEEN_LINES = 30.0  # that only say how far the search has come, where there is no terminal


class Progress:
    """Prints a line for each trial that ends, waits or goes on, and where the search stands.

    In a terminal that stands at the bottom always, in a log it is a line now and then.

    What had ended before the first `update` was seen in an earlier session, and is not printed again.
    """

    def __init__(
        self,
        console: "Console",
        *,
        limits: "Limits",
        devices: float,
        searched: Sequence[str],
        time_left: Callable[[Sequence[TrialRecord], float], float | None],
        objectives: Sequence[str] = (VAL_DICE,),
    ) -> None:
        """limits: of the whole run; devices: how many one training has (see `Limits.over`). searched: the parameters
        that tell its trials apart. time_left: gives the seconds that the search may still take, for its records and
        the seconds that are spent. objectives: what trials are judged by.
        """
        from rich.live import Live

        self._console = console
        self._limits = limits
        self._devices = devices
        self._searched = searched
        self._time_left = time_left
        self._objectives = objectives
        self._live = Live(console=console, transient=True, refresh_per_second=2) if console.is_terminal else None
        self._ended: set[str] | None = None
        self._first_epochs = 0
        self._began = time.monotonic()
        self._next_line = self._began + SECONDS_BETWEEN_LINES

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, records: Sequence[TrialRecord], spent: float) -> None:
        """Shows what is new. spent: seconds since the run began, in all its sessions."""
        from rich.text import Text

        ended = {record.trial_id for record in records if record.status != "running"}
        if self._ended is None:
            self._ended, self._first_epochs, self._began = ended, _epochs(records), time.monotonic()
        for record in records:
            if record.trial_id in ended - self._ended:
                style = "red" if record.status in BAD_ENDINGS else ""
                self._print(Text(ending_line(record), style=style))
        for trial_id in sorted(self._ended - ended):
            self._print(Text(f"{trial_id} goes on"))
        self._ended = ended
        standing = self._standing(records, spent)
        if self._live is not None:
            self._live.update(Text("\n".join(standing)))
        elif time.monotonic() >= self._next_line:
            self._print(Text(" | ".join(standing)))

    def _print(self, text: Any) -> None:
        self._console.print(text, soft_wrap=True)
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def _standing(self, records: Sequence[TrialRecord], spent: float) -> list[str]:
        """Where the search stands: how far it has come, and the best trial so far."""
        running = sum(record.status == "running" for record in records)
        waiting = sum(record.waits for record in records)
        bad = sum(record.status in BAD_ENDINGS for record in records)
        done = len(records) - running - waiting
        epochs = _epochs(records) - self._first_epochs
        of_all = "" if self._limits.trials is None else f" of {self._limits.trials}"
        trials = "trial" if done == 1 and not of_all else "trials"
        parts = [f"{done}{of_all} {trials} done", f"{running} under way"]
        parts += [f"{count} {what}" for count, what in ((waiting, "waiting"), (bad, "ended badly")) if count]
        if self._limits.budget_amount is not None:
            used = self._limits.budget_spent(records, self._devices) / self._limits.budget_amount
            parts.append(f"{100 * used:.0f} % of the budget used")
        parts.append(f"{epochs / (time.monotonic() - self._began):.2g} epochs/s" if epochs else "no epoch yet")
        left = self._time_left(records, spent)
        if left is not None:
            parts.append(f"about {in_words(left)} left")
        lines = [", ".join(parts)]
        scored = [record for record in records if record.val_dice is not None and record.status not in BAD_ENDINGS]
        if scored:
            best = max(scored, key=lambda record: (record.folds, record.val_dice or 0.0))
            facts = [
                f"val_dice {best.val_dice:.4f}",
                costs_of(best, self._objectives),
                short_config(best, self._searched),
            ]
            lines.append(f"best so far {best.trial_id}: {', '.join(filter(None, facts))}")
            if len(self._objectives) > 1:
                count = len(on_front(records, self._objectives))
                lines.append(f"{count} {'trial' if count == 1 else 'trials'} on the front")
        return lines


def ending_line(record: TrialRecord) -> str:
    """One line on a trial that has ended, or waits: how, how good, at what cost, what did not look right, and why."""
    dice = "no val_dice" if record.val_dice is None else f"val_dice {record.val_dice:.4f}"
    if record.folds > 1:
        dice += f", mean of {record.folds} folds"
    epochs = "1 epoch" if record.epochs == 1 else f"{record.epochs} epochs"
    facts = [dice, f"{epochs} in {in_words(record.seconds)}"]
    warnings = ", ".join(map(warning_name, split_warnings(record.warnings)))
    if warnings:
        facts.append(f"warnings: {warnings}")
    reason = printable(record.reason.removeprefix(WAITS))
    line = f"{record.trial_id} {'waits' if record.waits else record.status}: {', '.join(facts)}"
    return f"{line}: {reason}" if reason else line


def short_config(record: TrialRecord, searched: Sequence[str]) -> str:
    """The values that tell this trial from others."""
    values = {name: record.config[name] for name in searched if means_something(name, record.config)}
    texts = (f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    return ", ".join(texts)


def in_words(seconds: float) -> str:
    """A duration for people: `8 s`, `3 min`, `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _epochs(records: Sequence[TrialRecord]) -> int:
    return sum(record.epochs for record in records)
