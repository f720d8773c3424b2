"""Checks of the split: whether each part holds what it needs, and whether the parts are alike."""

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from data.checks.case import Case, Check, Observation, count_of, places, some
from data.segmentation_data import Part
from data.split import find_groups

# Images by which no choice is sure.
FEW = 3

# How different a class's share must be, times and in standard errors, before parts are called unlike.
_UNEVEN, _NO_CHANCE = 2.0, 3.0
# Fewer images say nothing about a share.
_FEWEST = 4
# Of pictures whose names look like one patient's or slide's: years and breeds have more.
_LARGEST_GROUP = 50
# What may stand for a patient or slide in a name, the simplest first; the last says just what `_stem` does.
_EXPRESSIONS = (
    "^[^_]+",
    "^[^-]+",
    "^[^.]+",
    "^[^ ]+",
    r"^(.+)_\d+$",
    r"^(.+)-\d+$",
    "^(.+)_",
    "^(.+)-",
    r"^(.+)[LR]$",
    r"^(.+?)[-_. ]*\d+$",
    r"^(.+?)[-_. ]*(?:\d+|(?<![^\W\d_])(?i:[LR]|left|right))$",
)


def _empty_part(part: Part, case: Case) -> Iterator[Observation]:
    """A part in which no class has a pixel."""
    for label, pictures in case.in_part(part):
        if pictures and not case.data.statistics.class_pixels[list(pictures)].any():
            yield Observation(
                what=f"None of the {len(pictures)} pictures of {label} holds a pixel of any class.",
                pictures=pictures,
                remedy=_remedy_in_folds(part, case) or _remedy_of_owner(part, case),
            )


def _missing_class(part: Part, case: Case) -> Iterator[Observation]:
    """Classes that a part lacks though others are there."""
    held = case.data.statistics.class_pixels > 0
    lacking: dict[int, list[str]] = {}
    for label, pictures in case.in_part(part):
        here = held[list(pictures)].any(axis=0)
        if here.any():
            for index in np.flatnonzero(~here):
                lacking.setdefault(int(index), []).append(label)
    for lacked, labels in lacking.items():
        holders = places(held[:, lacked])
        yield Observation(
            what=f"Class {case.data.class_names[lacked]!r} has no pixel in {some(labels)}; {len(holders)} of all "
            f"{count_of(len(held), 'picture')} hold it ({case.names(holders)}).",
            pictures=holders,
            remedy=_remedy_in_folds(part, case),
        )


def _remedy_in_folds(part: Part, case: Case) -> str | None:
    """What deals with a lack in folds, where nobody can name the pictures to choose by."""
    if part != "validation" or len(case.splits) == 1:
        return None
    return "Add pictures that hold what is lacking, use fewer --folds, or draw them anew with --split-seed."


def _remedy_of_owner(part: Part, case: Case) -> str | None:
    """What deals with a validation part that the owner of the data has named, where fractions and seeds do nothing."""
    if part != "validation" or part not in case.data.parts:
        return None
    return "Name others by --validation-ids, or let every picture choose once with --folds 5."


def _few_to_choose_by(case: Case) -> Iterator[Observation]:
    # In folds all of them choose together, for the mean counts.
    chosen = tuple(index for split in case.splits for index in split.validation)
    if len(chosen) < FEW:
        yield Observation(
            what=f"There {'is' if len(chosen) == 1 else 'are'} only {count_of(len(chosen), 'picture')} to choose by "
            f"({case.names(chosen)}).",
            pictures=chosen,
            remedy="Add pictures." if len(case.splits) > 1 else _remedy_of_owner("validation", case),
        )


def _one_to_choose_by(case: Case) -> Iterator[Observation]:
    """Classes that only one of several validation pictures holds."""
    pixels = case.data.statistics.class_pixels
    chosen = [index for split in case.splits for index in split.validation]
    for index, name in enumerate(case.data.class_names):
        holders = [picture for picture in chosen if pixels[picture, index]]
        if len(holders) == 1 and len(chosen) >= FEW:
            yield Observation(
                what=f"Class {name!r} stands in only one of the {len(chosen)} pictures to choose by "
                f"({case.names(holders)}), with {count_of(int(pixels[holders[0], index]), 'pixel')}.",
                pictures=tuple(holders),
                remedy="Add pictures of it." if len(case.splits) > 1 else None,
            )


def _uneven_parts(case: Case) -> Iterator[Observation]:
    split = case.splits[0]
    if len(case.splits) > 1 or min(len(split.train), len(split.validation)) < _FEWEST:
        return
    train, validation = case.shares[list(split.train)], case.shares[list(split.validation)]
    error = np.sqrt(train.var(axis=0, ddof=1) / len(train) + validation.var(axis=0, ddof=1) / len(validation))
    for index, name in enumerate(case.data.class_names):
        here, there = train[:, index].mean(), validation[:, index].mean()
        if min(here, there) == 0:  # another check's finding
            continue
        if max(here, there) > _UNEVEN * min(here, there) and abs(here - there) > _NO_CHANCE * error[index]:
            yield Observation(
                what=f"Class {name!r} covers {here:.2%} of a picture of train but {there:.2%} of one of validation.",
                remedy=_remedy_of_owner("validation", case),
            )


def _groups_torn_apart(case: Case) -> Iterator[Observation]:
    yield from _torn_groups(case, learnt=True)


def _groups_in_names(case: Case) -> Iterator[Observation]:
    yield from _torn_groups(case, learnt=False)


def _torn_groups(case: Case, *, learnt: bool) -> Iterator[Observation]:
    """Groups that names tell and the split tears apart; learnt: whether between train and another part."""
    if any(group is not None for group in case.data.groups):
        return
    stems = [_stem(name) for name in case.data.names]
    members: dict[str, list[int]] = {}
    for place, stem in enumerate(stems):
        if stem:
            members.setdefault(stem, []).append(place)
    members = {stem: own for stem, own in sorted(members.items()) if len(own) > 1}
    of_groups = sum(map(len, members.values()))
    if len(members) < 2 or of_groups < 0.8 * len(stems) or of_groups > _LARGEST_GROUP * len(members):
        return
    torn: dict[str, str] = {}
    for stem, own in members.items():
        between = [between for other in own[1:] if (between := case.parted(own[0], other))]
        if between:
            torn[stem] = next((parts for parts in between if parts.startswith("train")), between[0])
    leaks = [stem for stem, between in torn.items() if between.startswith("train")]
    concerned = leaks if learnt else [*torn] if not leaks else []
    if not concerned:
        return
    first = members[concerned[0]]
    expression = _expression_for(case.data.names, stems)
    yield Observation(
        what=f"Names look as if there were several pictures each of {len(members)} patients or slides, and "
        f"{len(concerned)} of these {'is' if len(concerned) == 1 else 'are'} torn apart, such as {concerned[0]!r} "
        f"between {torn[concerned[0]]} ({case.names(first)}).",
        pictures=tuple(first),
        remedy=f"If they are, keep them together with --group-by {shlex.quote(expression)}." if expression else None,
    )


def _expression_for(names: Sequence[str], stems: Sequence[str]) -> str | None:
    """The simplest expression by which `--group-by` puts those names together that share a stem, and no others."""
    wanted = _together([stem or None for stem in stems])
    return next((one for one in _EXPRESSIONS if _together(find_groups(one, names)) == wanted), None)


def _together(groups: Sequence[str | None]) -> list[int]:
    """Of each place, the first that is in its group; its own where it is in none."""
    first: dict[str, int] = {}
    return [place if group is None else first.setdefault(group, place) for place, group in enumerate(groups)]


def _stem(name: str) -> str:
    """What is left of a name without its last number, or its last letter for a side: "p07" of "p07_2" and "p07_L"."""
    shorter = re.sub(r"(?:\d+|(?<![^\W\d_])(?:[LR]|left|right))$", "", name, flags=re.IGNORECASE)
    return shorter.rstrip("-_. ") if shorter != name else ""


CHECKS: dict[str, Check] = {
    "nothing_to_learn": Check(
        level="error",
        sure="certain",
        why="A network that sees nothing but background learns to find nothing.",
        remedy="Put pictures with masks into train, or choose them with --train-ids.",
        look=partial(_empty_part, "train"),
    ),
    "nothing_to_choose_by": Check(
        level="error",
        sure="certain",
        why="Without a pixel to find, every model gets the same score and the best cannot be told.",
        remedy="Choose pictures that hold the classes with --validation-ids, or raise --validation-fraction.",
        look=partial(_empty_part, "validation"),
    ),
    "class_not_in_train": Check(
        level="warning",
        sure="certain",
        why="What is never seen is never learnt: its Dice will be 0 wherever it is judged.",
        remedy="Add pictures of it to train, choose them with --train-ids, or leave the class out.",
        look=partial(_missing_class, "train"),
    ),
    "class_not_in_validation": Check(
        level="warning",
        sure="certain",
        why="The search chooses without a look at this class: the best model may not find it.",
        remedy="Choose pictures that hold it with --validation-ids, or let every picture choose once with --folds 5.",
        look=partial(_missing_class, "validation"),
    ),
    "class_not_in_test": Check(
        level="warning",
        sure="certain",
        why="How well this class is found will not be known at the end.",
        remedy="Choose pictures that hold it with --test-ids.",
        look=partial(_missing_class, "test"),
    ),
    "few_to_choose_by": Check(
        level="warning",
        sure="certain",
        why="One odd picture decides which model wins, and val_dice is rough.",
        remedy="Add pictures, raise --validation-fraction, or let every picture choose once with --folds 5.",
        look=_few_to_choose_by,
    ),
    "one_to_choose_by": Check(
        level="warning",
        sure="certain",
        why="val_dice is the mean over classes: one picture decides a whole class of it.",
        remedy="Choose more that hold it with --validation-ids, or let every picture choose once with --folds 5.",
        look=_one_to_choose_by,
    ),
    "uneven_parts": Check(
        level="warning",
        sure="likely",
        why="What is learnt is not what is chosen by: val_dice may favour models that find too much or too little.",
        remedy="See whether the parts come from different sources; draw them anew with --split-seed, or use --folds 5.",
        look=_uneven_parts,
    ),
    "groups_torn_apart": Check(
        level="warning",
        sure="possible",
        why="Pictures of one patient or slide are alike: with one in train and one in validation, scores are too good.",
        remedy="If they are, keep them together with --group-by and an expression for the patient in a name.",
        look=_groups_torn_apart,
    ),
    "groups_in_names": Check(
        level="note",
        sure="possible",
        why="Pictures of one patient or slide are alike: validation and test are not as independent as they look.",
        remedy="If they are, keep them together with --group-by and an expression for the patient in a name.",
        look=_groups_in_names,
    ),
}
