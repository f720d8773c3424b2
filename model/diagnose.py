"""What is wrong with a training: failures that end it, and warnings with what to do about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, median
from typing import Any, Literal

import torch
from torch import Tensor

from data.checks.case import some
from model.alignment import Move, Patterns, best_move, fits, patterns_of
from model.config import TrainConfig
from model.judge import Judgement
from model.metrics import defined_mean

KEPT = 16  # looks whose numbers are remembered
COMPARED = 3  # images without which nothing is said of a move: two agree by chance
SMOOTHED = 3  # looks whose mean counts as one number
FLAT = 8  # looks over which a loss may have stood still
LEARNT = 0.02  # Dice beyond that of marking everything without which nothing is learnt of a class
EXPLODED = 30.0  # times the largest norm of the looks before
HARMLESS = 1.0  # norm of a gradient that is short, however much shorter others were: those of layers that were held
HUGE = 1e4  # norm of a gradient that needs no comparison: losses are about 1, and pixels of deviation 1

EMPTY = "masks_empty"
FULL = "masks_full"
CONSTANT = "constant_output"
DEAD = "dead_network"


class TrainingFailure(RuntimeError):
    """A training that ended badly: `status` for the leaderboard, `reason` in words for the person."""

    def __init__(self, status: Literal["diverged", "collapsed", "out_of_memory"], reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known of a training when it has just been judged on the validation images.

    train_loss: mean over the steps since the look before. gradient_norm, gradient_peak: mean and largest norm of the
    gradient over those steps, before clipping. learning_rate: at the last of them. image_names: of the validation
    images, in the judgement's order. All numbers are finite: a training whose numbers are not is never judged.
    """

    epoch: int
    train_loss: float
    gradient_norm: float
    gradient_peak: float
    learning_rate: float
    judgement: Judgement
    image_names: tuple[str, ...]

    @cached_property
    def learnt(self) -> Tensor:
        """Of which classes masks at the very best threshold are clearly better than marking every pixel, bool (K,).

        Clearly: Dice is higher by half of what marking everything gives, or `LEARNT` if that is more, or half of what
        it lacks if that is less. A network that knows nothing may come close by chance where pictures are few.
        """
        histograms = self.judgement.histograms
        truth, others = (pixels.sum(dim=(0, 2)).double() for pixels in (histograms.positives, histograms.negatives))
        full = 2 * truth / (2 * truth + others)
        margin = torch.minimum((full / 2).clamp_min(LEARNT), (1 - full) / 2)
        return histograms.best_dice() >= full + margin  # nothing is learnt of a class without a pixel: NaN

    @cached_property
    def patterns(self) -> Patterns:
        """What was found in the validation images and their masks, made comparable."""
        return patterns_of(self.judgement.coarse_found, self.judgement.coarse_truth)

    @cached_property
    def shift(self) -> Move | None:
        """The move by which the masks fit what was found clearly better, most of them; None where there is none."""
        if len(self.patterns.places) < COMPARED:
            return None
        move = best_move(self.patterns)
        clearly = move.fit > 0.3 and move.fit > move.fit_in_place + 0.2
        return move if clearly and move.agreeing >= 0.75 else None


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """Something wrong that was seen in the latest look.

    name: of the check that saw it. place: a number for what it is about, such as the class; 0 where it is about the
    training. looks: in a row in which it was seen. words: what was seen; empty where the class's name says it.
    """

    name: str
    place: int
    looks: int
    words: str


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What the diagnosis remembers of a training: `asdict` makes it plain values, `Watch(**values)` makes it again.

    losses, dices, norms: of the latest `KEPT` looks, the last one last: training loss, mean Dice over the classes, mean
    norm of the gradient. largest_norm: the largest of all looks. first_loss: of the first look. lowest_loss: the lowest
    mean of the losses of `SMOOTHED` looks in a row. best_dice: the highest such mean of the Dice;
    best_epoch, loss_at_best, learnt_at_best: the epoch, the loss, and whether anything was learnt, when it was reached.
    learnt: whether anything is learnt of any class now. explosion: in words, the latest gradient that was far too long;
    empty without one. symptoms: what is wrong now.
    """

    losses: tuple[float, ...] = ()
    dices: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    largest_norm: float = 0.0
    explosion: str = ""
    first_loss: float = 0.0
    lowest_loss: float = 0.0
    best_dice: float = 0.0
    best_epoch: int = 0
    loss_at_best: float = 0.0
    learnt_at_best: bool = False
    learnt: bool = False
    symptoms: tuple[Symptom, ...] = ()

    def __post_init__(self) -> None:
        # Plain values that went through a file are lists and mappings.
        for name in ("losses", "dices", "norms"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        symptoms: tuple[Any, ...] = tuple(self.symptoms)
        symptoms = tuple(Symptom(**values) if isinstance(values, Mapping) else values for values in symptoms)
        object.__setattr__(self, "symptoms", symptoms)

    def after(self, look: Look) -> "Watch":
        """The watch after one more look."""
        watch = self._remembering(look)
        before = {(symptom.name, symptom.place): symptom for symptom in self.symptoms}
        symptoms = []
        for name, check in CHECKS.items():
            seen = check.find(watch, look)
            for place, words in seen.items():
                earlier = before.get((name, place))
                symptoms.append(Symptom(name=name, place=place, looks=earlier.looks + 1 if earlier else 1, words=words))
        return replace(watch, symptoms=tuple(symptoms))

    def check(self, config: TrainConfig) -> None:
        """Raises TrainingFailure "collapsed" once it is sure that nothing comes of the training."""
        for symptom in self.symptoms:
            check = CHECKS[symptom.name]
            needed = 1 if symptom.name == DEAD else config.collapse_epochs
            if check.fails and symptom.looks >= needed:
                raise TrainingFailure("collapsed", check.text(symptom.name, symptom.words, symptom.looks))

    def warnings(self, class_names: tuple[str, ...]) -> tuple[str, ...]:
        """What is wrong but ends no training, each as `name: what was seen; what to do`."""
        texts = []
        for name, check in CHECKS.items():
            due = [symptom for symptom in self.symptoms if symptom.name == name and symptom.looks >= check.patience]
            if due and not check.fails:
                seen = some([symptom.words or class_names[symptom.place] for symptom in due])
                texts.append(check.text(name, seen, min(symptom.looks for symptom in due)))
        return tuple(texts)

    def _remembering(self, look: Look) -> "Watch":
        """The watch with the look's numbers, its symptoms left as they are."""
        numbers = {
            "losses": look.train_loss,
            "dices": defined_mean(look.judgement.counts.pooled().dice()),
            "norms": look.gradient_norm,
        }
        kept: dict[str, Any] = {name: (*getattr(self, name), value)[-KEPT:] for name, value in numbers.items()}
        learnt = bool(look.learnt.any())
        largest = max(self.largest_norm, look.gradient_norm)
        explosion = self._explosion(look) or self.explosion
        watch = replace(self, learnt=learnt, largest_norm=largest, explosion=explosion, **kept)
        if not self.losses:
            watch = replace(watch, first_loss=look.train_loss)
        if len(watch.losses) < SMOOTHED:
            return watch
        loss, dice = smoothed(watch.losses), smoothed(watch.dices)
        first = len(self.losses) < SMOOTHED
        watch = replace(watch, lowest_loss=loss if first else min(loss, self.lowest_loss))
        if first or dice > self.best_dice:
            watch = replace(watch, best_dice=dice, best_epoch=look.epoch, loss_at_best=loss, learnt_at_best=learnt)
        return watch

    def _explosion(self, look: Look) -> str:
        """In words, that the look's longest gradient was far too long; empty if it was not."""
        allowed = max(EXPLODED * self.largest_norm, HARMLESS)
        beyond_all_before = len(self.norms) >= SMOOTHED and look.gradient_peak > allowed
        if not (beyond_all_before or look.gradient_peak > HUGE):
            return ""
        before = f", where {median(self.norms):.2g} was usual" if beyond_all_before else ""
        return f"{look.gradient_peak:.2g} by epoch {look.epoch}{before}"


def smoothed(values: tuple[float, ...]) -> float:
    """The mean of the latest `SMOOTHED` values."""
    return fmean(values[-SMOOTHED:])


Seen = Mapping[int, str]  # what a check saw: words by the place of what they are about; no entry where all is well
NOTHING: Seen = {}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that may be wrong.

    find: looks for it, given the watch that already remembers the look, and the look.
    says: what was seen, with {seen} and {looks} to be filled in. advice: what to do.
    patience: looks in a row in which it must be seen before it becomes a warning. fails: it ends the training instead,
    by the rule of `Watch.check`.
    """

    find: Callable[[Watch, Look], Seen]
    says: str
    advice: str
    patience: int = 1
    fails: bool = False

    def text(self, name: str, seen: str, looks: int) -> str:
        """`name: what was seen; what to do`, on one line."""
        return f"{name}: {self.says.format(seen=seen, looks=looks)}; {self.advice}"


def _dead(watch: Watch, look: Look) -> Seen:
    """A gradient of exactly zero while there is something to learn: no step will ever change anything."""
    still = look.gradient_norm == 0 and look.gradient_peak == 0
    return {0: ""} if still and look.train_loss > 1e-3 and not watch.learnt else NOTHING


def _constant(_watch: Watch, look: Look) -> Seen:
    """Of each class, all pixels have the same probability, and that is wrong for some of them."""
    histograms = look.judgement.histograms.pooled()
    positives, negatives = histograms.positives.reshape(-1, _bins(look)), histograms.negatives.reshape(-1, _bins(look))
    one_bin = ((positives + negatives) > 0).sum(dim=1) <= 1  # (K,)
    mixed = (positives.sum(dim=1) > 0) & (negatives.sum(dim=1) > 0)
    return {0: ""} if bool(one_bin.all()) and bool(mixed.any()) else NOTHING


def _bins(look: Look) -> int:
    return int(look.judgement.histograms.positives.shape[-1])


def _empty(watch: Watch, look: Look) -> Seen:
    """No pixel found of any class, though there are some, and no threshold would help."""
    counts = look.judgement.counts_at_half
    found = (counts.tp + counts.fp).sum()
    missed = counts.fn.sum()
    return {0: ""} if bool((found == 0) & (missed > 0)) and not watch.learnt else NOTHING


def _full(watch: Watch, look: Look) -> Seen:
    """Of each class all pixels found or none, of one wrongly all, and no threshold would help."""
    counts = look.judgement.counts_at_half
    found, left_out = counts.tp + counts.fp, counts.fn + counts.tn  # (K,)
    nothing_told_apart = not bool(((found > 0) & (left_out > 0)).any())
    invented = bool((counts.fp > 0).any())
    return {0: ""} if nothing_told_apart and invented and not watch.learnt else NOTHING


def _never_predicted(watch: Watch, look: Look) -> Seen:
    """Classes that the validation images hold, found nowhere, and that no threshold would find."""
    if _empty(watch, look):
        return NOTHING
    judgement = look.judgement
    at_half, chosen = judgement.counts_at_half, judgement.counts.pooled()
    truth = at_half.tp + at_half.fn  # (K,)
    unfound = (at_half.tp + at_half.fp == 0) & (truth > 0)
    helpless = (chosen.tp + chosen.fp == 0) | ~look.learnt
    return dict.fromkeys(torch.nonzero(unfound & helpless).flatten().tolist(), "")


def _flat(watch: Watch, _look: Look) -> Seen:
    """The loss stands still, and has led to nothing."""
    losses = watch.losses[-FLAT:]
    if len(losses) < FLAT:
        return NOTHING
    before, now = fmean(losses[: FLAT // 2]), fmean(losses[FLAT // 2 :])
    stands_still = abs(before - now) < 0.01 * before
    return {0: f"{now:.3g}"} if stands_still and not watch.learnt else NOTHING


def _rising(watch: Watch, _look: Look) -> Seen:
    """The loss has gone up by a good part of what it had come down."""
    if len(watch.losses) < SMOOTHED:
        return NOTHING
    now = smoothed(watch.losses)
    allowed = max(0.25 * (watch.first_loss - watch.lowest_loss), 0.1 * watch.first_loss)
    return {0: f"from {watch.lowest_loss:.3g} to {now:.3g}"} if now > watch.lowest_loss + allowed else NOTHING


def _overfitting(watch: Watch, _look: Look) -> Seen:
    """The loss still falls, and Dice on the validation images falls with it."""
    if len(watch.losses) < SMOOTHED:
        return NOTHING
    loss, dice = smoothed(watch.losses), smoothed(watch.dices)
    worse = dice < watch.best_dice - 0.05 and dice < 0.9 * watch.best_dice
    if not (worse and loss < 0.9 * watch.loss_at_best and watch.learnt_at_best):
        return NOTHING
    return {0: f"from {watch.best_dice:.2f} at epoch {watch.best_epoch} to {dice:.2f}"}


def _lagging(watch: Watch, look: Look) -> Seen:
    """The training loss has come far down, and the masks of validation images are worth nothing."""
    if len(watch.losses) < SMOOTHED:
        return NOTHING
    counts = look.judgement.counts_at_half
    found = bool((counts.tp + counts.fp).any())
    fell = smoothed(watch.losses) < 0.5 * watch.first_loss
    never_learnt = not (watch.learnt or watch.learnt_at_best)
    return {0: f"{watch.dices[-1]:.2f}"} if found and fell and never_learnt else NOTHING


def _exploding(watch: Watch, _look: Look) -> Seen:
    """A gradient was far longer than any before."""
    return {0: watch.explosion} if watch.explosion else NOTHING


def _shifted(_watch: Watch, look: Look) -> Seen:
    """The masks fit what was found clearly better when they are moved, all by the same way."""
    move = look.shift
    if move is None:
        return NOTHING
    ways = (("down", "up", move.down), ("to the right", "to the left", move.right))
    parts = [f"{abs(part):.0%} {ahead if part > 0 else back}" for ahead, back, part in ways if part]
    # Where each look sees another move there is none.
    return {move.place: " and ".join(parts)}


def _swapped(_watch: Watch, look: Look) -> Seen:
    """Images in which another image's mask was found, far better than that image or they themselves fit their own."""
    patterns = look.patterns
    if len(patterns.places) < 2 or look.shift is not None:
        return NOTHING
    fit = fits(patterns)  # (found in, masks of)
    own = fit.diagonal()
    best, other = fit.max(dim=1)
    both_ways = fit.argmax(dim=0)[other] == torch.arange(len(own))
    # An image whose own mask is found in it has not lost it to another one.
    seen = (best > 0.4) & (best > torch.maximum(own, own[other]) + 0.3) & both_ways
    names = look.image_names
    pairs = [(patterns.places[row], patterns.places[int(other[row])]) for row in torch.nonzero(seen).flatten().tolist()]
    # Where an image resembles another one in each look, none was exchanged with it.
    return {one * len(names) + two: f"{names[one]} by that of {names[two]}" for one, two in pairs}


# fmt: off
CHECKS: dict[str, Check] = {
    DEAD: Check(
        find=_dead, fails=True,
        says="the gradient was exactly zero for a whole epoch",
        advice="try a smaller learning_rate, normalisation=batch, or another seed",
    ),
    CONSTANT: Check(
        find=_constant, fails=True,
        says="all pixels of the validation images had one probability in {looks} looks in a row: the features are dead",
        advice="try a smaller learning_rate, normalisation=batch, or another seed",
    ),
    EMPTY: Check(
        find=_empty, fails=True,
        says="predicted no pixel of any class in {looks} looks in a row, and no threshold helps",
        advice="try a loss with Dice or class_weight=square_root, and a smaller learning_rate, or a larger one where "
        "the loss has hardly moved",
    ),
    FULL: Check(
        find=_full, fails=True,
        says="predicted every pixel of the picture in {looks} looks in a row, and no threshold helps",
        advice="try class_weight=none, and a smaller learning_rate, or a larger one where the loss has hardly moved",
    ),
    "class_never_predicted": Check(
        find=_never_predicted, patience=6,
        says="no pixel of {seen} was found in {looks} looks in a row, though the validation images hold some",
        advice="try class_weight=square_root, rare_crops=0.9, or a loss with Dice",
    ),
    "loss_flat": Check(
        find=_flat,
        says=f"the training loss has stood at {{seen}} for {FLAT} looks",
        advice="try a larger learning_rate, or a smaller one if the gradient is as good as zero, and see that "
        "each mask belongs to its picture",
    ),
    "loss_rising": Check(
        find=_rising, patience=2,
        says="the training loss rose {seen}",
        advice="try a smaller learning_rate, or gradient_clip=1",
    ),
    "overfitting": Check(
        find=_overfitting, patience=4,
        says="the training loss still falls, but Dice on the validation images fell {seen}",
        advice="the best epoch is the one that is kept, try more pictures, augmentation, dropout or weight_decay, or a "
        "smaller width",
    ),
    "validation_lags": Check(
        find=_lagging, patience=4,
        says="the training loss came down by more than half, but on validation images (Dice {seen}) the masks are no "
        "better than marking everything",
        advice="see whether those pictures look like those to train on, and try a smaller learning_rate, and with "
        "small batches normalisation=group",
    ),
    "exploding_gradients": Check(
        find=_exploding,
        says="the gradient's norm reached {seen}",
        advice="try gradient_clip=1, a smaller learning_rate, or normalisation=batch",
    ),
    "masks_shifted": Check(
        find=_shifted, patience=3,
        says="the masks of validation images lie beside what is found: {seen} of the picture",
        advice="see whether pictures and masks were cut or scaled alike (python -m data.inspect)",
    ),
    "masks_swapped": Check(
        find=_swapped, patience=3,
        says="what is found in these images is matched by another image's mask, not by their own: {seen}",
        advice="see whether their mask files were exchanged",
    ),
}
# fmt: on
