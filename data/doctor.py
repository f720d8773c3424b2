"""The data doctor: looks a data set over for what ruins a training, before any time is spent on one."""

from dataclasses import dataclass

from data.checks import classes, copies, masks, parts, pictures
from data.checks.case import CERTAINTIES, LEVELS, Case, Certainty, Check, Level
from data.printable import printable
from data.segmentation_data import SegmentationData, Split

# Name -> check, in the order in which findings of one level and certainty are told.
CHECKS: dict[str, Check] = {
    **parts.CHECKS,
    **copies.CHECKS,
    **masks.CHECKS,
    **classes.CHECKS,
    **pictures.CHECKS,
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that the doctor found.

    check: its name in CHECKS. level: an "error" makes a search worthless, a "warning" may spoil it, a "note" is good
    to know. what: a sentence with numbers and names. why: the reason to care. remedy: the flag or the action that deals
    with it. pictures: names of those concerned, all of them.
    """

    check: str
    level: Level
    sure: Certainty
    what: str
    why: str
    remedy: str
    pictures: tuple[str, ...]

    def __str__(self) -> str:
        """What was found and what to do, in one line."""
        return f"{self.what} {self.remedy}"


def examine(data: SegmentationData, splits: tuple[Split, ...]) -> tuple[Finding, ...]:
    """Everything that the checks find in a data set and its splits (one, or a fold each), the worst first.

    Reads what was counted when the pictures were prepared, and no pixels but those of a few pictures that are compared.
    """
    case = Case(data=data, splits=splits)
    findings = [
        Finding(
            check=name,
            level=check.level,
            sure=check.sure,
            what=printable(seen.what),
            why=check.why,
            remedy=printable(seen.remedy or check.remedy),
            pictures=tuple(data.names[place] for place in seen.pictures),
        )
        for name, check in CHECKS.items()
        for seen in check.look(case)
    ]
    return tuple(sorted(findings, key=lambda found: (LEVELS.index(found.level), CERTAINTIES.index(found.sure))))
