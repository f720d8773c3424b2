"""Checks for pictures that stand in a data set more than once."""

from collections.abc import Iterable, Iterator

from data.checks.case import Case, Check, Observation, PicturePair, count_of, some
from data.likeness import TURNS

# Of so many pairs, the masks are compared pixel by pixel.
_COMPARED = 20
# When so many of the pairs of a set are near copies, its pictures are of one kind rather than copies; in fewer
# pictures than this, a few real copies would look so too.
_ALIKE_THROUGHOUT, _FEWEST = 0.5, 6


def _only_copies(case: Case) -> Iterator[Observation]:
    """Parts to be judged by of which half or more are exact copies of what is learnt."""
    for part in ("validation", "test"):
        for split, (label, pictures) in zip(case.splits, case.in_part(part), strict=True):
            taught = set(split.train)
            exact = [pair for pair in case.copies if pair.exact]
            known = {pair.first for pair in exact if pair.second in taught}
            known |= {pair.second for pair in exact if pair.first in taught}
            copied = tuple(picture for picture in pictures if picture in known)
            if copied and 2 * len(copied) >= len(pictures):
                yield Observation(
                    what=f"{len(copied)} of the {count_of(len(pictures), 'picture')} of {label} "
                    f"{'is' if len(copied) == 1 else 'are'} in every pixel the same as what stands in train "
                    f"({case.names(copied)}).",
                    pictures=copied,
                )


def _exact_across_parts(case: Case) -> Iterator[Observation]:
    yield from _across_parts(case, [pair for pair in case.copies if pair.exact], "the same in every pixel")


def _likely_across_parts(case: Case) -> Iterator[Observation]:
    if not _one_scene(case):
        yield from _across_parts(case, [pair for pair in case.copies if not pair.exact], "nearly the same")


def _one_scene(case: Case) -> bool:
    """Whether nearly all pictures are near copies of each other, as those of a camera that stands still are."""
    return len(case.data.names) >= _FEWEST and case.share_alike >= _ALIKE_THROUGHOUT


def _alike_throughout(case: Case) -> Iterator[Observation]:
    if _one_scene(case):
        yield Observation(
            what=f"{case.share_alike:.0%} of the pairs of pictures are nearly the same, in all of the set, as if a "
            "camera had stood still; near copies are not told one by one."
        )


def _across_parts(case: Case, pairs: Iterable[PicturePair], how: str) -> Iterator[Observation]:
    """Pairs that are torn apart by the split, those between the same parts together."""
    torn: dict[str, list[PicturePair]] = {}
    for pair in pairs:
        between = case.parted(pair.first, pair.second)
        if between is not None:
            torn.setdefault(between, []).append(pair)
    for between, members in torn.items():
        yield Observation(
            what=f"{count_of(len(members), 'pair')} of pictures, {how}, {'is' if len(members) == 1 else 'are'} torn "
            f"apart between {between}: {_pairs(case, members)}.",
            pictures=_ends(members),
        )


def _within_a_part(case: Case) -> Iterator[Observation]:
    pairs = [pair for pair in case.copies if pair.exact] if _one_scene(case) else case.copies
    members = [pair for pair in pairs if case.parted(pair.first, pair.second) is None]
    if members:
        exact = sum(pair.exact for pair in members)
        yield Observation(
            what=f"{count_of(len(members), 'pair')} of pictures within one part {'is' if len(members) == 1 else 'are'} "
            f"the same or nearly so ({exact} in every pixel): {_pairs(case, members)}.",
            pictures=_ends(members),
        )


def _contradictions(case: Case) -> Iterator[Observation]:
    digests, masks, valid = case.data.statistics.digests, case.data.masks, case.data.valid
    members = [pair for pair in case.copies if pair.exact and (digests[pair.first] != digests[pair.second]).any()]
    agreements = []
    for pair in members[:_COMPARED]:
        one, other = (masks[place].astype(bool) & valid[place].astype(bool) for place in (pair.first, pair.second))
        agreements.append(2 * int((one & other).sum()) / max(1, int(one.sum()) + int(other.sum())))
    if members:
        yield Observation(
            what=f"{count_of(len(members), 'pair')} of equal pictures {'has' if len(members) == 1 else 'have'} masks "
            f"that differ: {_pairs(case, members)}; the masks' Dice with each other is {min(agreements):.3f}"
            f"{' or more' if len(agreements) > 1 else ''}"
            f"{f' in the first {len(agreements)} pairs' if len(agreements) < len(members) else ''}.",
            pictures=_ends(members),
        )


def _pairs(case: Case, pairs: list[PicturePair]) -> str:
    """The pairs by name, the first few, with what was done to the second."""
    names = case.data.names
    return some(
        [
            f"{names[pair.first]} = {names[pair.second]}" + (f" {TURNS[pair.turn]}" if pair.turn else "")
            for pair in pairs
        ]
    )


def _ends(pairs: Iterable[PicturePair]) -> tuple[int, ...]:
    """The pictures of the pairs, each once, those of a pair beside each other."""
    return tuple(dict.fromkeys(place for pair in pairs for place in (pair.first, pair.second)))


CHECKS: dict[str, Check] = {
    "parts_share_pictures": Check(
        level="error",
        sure="certain",
        why="What was learnt by heart is asked again: the scores say nothing about new pictures.",
        remedy="Take the copies out, or keep them together with --group-by.",
        look=_only_copies,
    ),
    "copies_across_parts": Check(
        level="warning",
        sure="certain",
        why="A picture that is learnt and then asked for makes scores better than they are.",
        remedy="Take one of each pair out, or keep them together with --group-by.",
        look=_exact_across_parts,
    ),
    "near_copies_across_parts": Check(
        level="warning",
        sure="likely",
        why="The same scene, saved again, resized, brightened or mirrored, makes scores better than they are.",
        remedy="Look at the pairs in --html; take one of each out, or keep them together with --group-by.",
        look=_likely_across_parts,
    ),
    "alike_throughout": Check(
        level="note",
        sure="possible",
        why="Where only a small thing changes, scores are honest if that thing is what is marked, else too good.",
        remedy="If there are several scenes or days, keep those of each together with --group-by.",
        look=_alike_throughout,
    ),
    "copies_in_a_part": Check(
        level="note",
        sure="likely",
        why="A picture that stands there twice counts twice, in what is learnt or in the score.",
        remedy="Take one of each pair out, unless it is meant to count twice.",
        look=_within_a_part,
    ),
    "copies_with_other_masks": Check(
        level="warning",
        sure="certain",
        why="The same pixels are taught two answers; no model can score better on them than the masks agree.",
        remedy="Decide which mask is right and take the other away.",
        look=_contradictions,
    ),
}
