"""What a search may try of one hyperparameter: a range, or a choice; and the condition under which it is searched."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Range:
    """Every number from `low` to `high`, both included; whole ones when both are. `log` draws evenly by magnitude."""

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        assert type(self.low) is type(self.high) and self.low < self.high
        assert self.low > 0 or not self.log

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values between which all others lie."""
        return (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return bool(self.low <= value <= self.high)

    def samples(self, marks: Iterable[int | float] = ()) -> tuple[Any, ...]:
        """Values that stand for all others, where these marks are all that tells one value from another.

        Of whole numbers, the ends are among them, and what lies at a mark or next to it. Of others, there is one from
        between any two marks: a single number out of endlessly many is never met.
        """
        if isinstance(self.low, int):
            near = {int(mark) + step for mark in marks for step in (-1, 0, 1)}
            return tuple(sorted({*self.ends, *filter(self.holds, near)}))
        cuts = sorted({*self.ends, *filter(self.holds, marks)})
        return tuple((low + high) / 2 for low, high in pairwise(cuts))

    def suggest(self, name: str, trial: "optuna.Trial") -> int | float:
        """A value for the trial."""
        if isinstance(self.low, int):
            return trial.suggest_int(name, self.low, int(self.high), log=self.log)
        # At the very end of a range Optuna gives a number of NumPy's.
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))

    def __str__(self) -> str:
        return f"{self.low} to {self.high}" + (" (log)" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """One of a few values; a single one is pinned, and nothing is searched."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        assert len(set(self.options)) == len(self.options) > 0

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values between which all others lie."""
        return self.options

    def holds(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return value in self.options

    def samples(self, marks: Iterable[Any] = ()) -> tuple[Any, ...]:  # noqa: ARG002 - as of a range
        """Values that stand for all others: all of them."""
        return self.options

    def suggest(self, name: str, trial: "optuna.Trial") -> Any:
        """A value for the trial."""
        return self.options[0] if len(self.options) == 1 else trial.suggest_categorical(name, self.options)

    def __str__(self) -> str:
        return " or ".join(str(option) if option != "" else "empty" for option in self.options)


Domain = Range | Choice


@dataclass(frozen=True)
class Condition:
    """That the value of the parameter `parent` is one of these, or, with `unless`, none of them."""

    parent: str
    among: Domain
    unless: bool = False

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is so beside these values of all parameters."""
        return self.among.holds(values[self.parent]) != self.unless

    def __str__(self) -> str:
        return f"{self.parent} is {'not ' * self.unless}{self.among}"
