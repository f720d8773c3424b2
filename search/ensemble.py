"""Which of several trainings answer best together: chosen greedily, by the validation images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.segmentation_data import MULTICLASS, LabelMode
from data.windows import Window, place, unpack
from model.checkpoint import load_model
from model.device import uses_bfloat16
from model.ensemble import MeanNetwork, Model
from model.histograms import ProbabilityHistograms, count_probabilities
from model.judge import Judgement, judge
from model.metrics import PixelCounts, count_pixels, predicted_planes, scores
from model.tiles import predict_probabilities
from search.trial import SharedWork

ROUNDS = 12  # of the greedy choice: so many answers at most are averaged, the same ones counted again
MARGIN = 0.002  # of validation Dice, which several networks must bring to be worth their time
LARGEST_TABLE = 2**27  # bytes of probabilities among which is chosen; of more, images are left out evenly


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A training that came to its end. name: such as t0003/seed-1. folders: of its model, for each fold."""

    name: str
    folders: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Together:
    """What candidates are worth together, and the best of them alone, all on the validation images.

    weights: how often each candidate was chosen, 0 for those that were not. thresholds: of each class, for the mean of
    the probabilities. dice: of that mean. single: place of the best candidate; single_dice: of it alone.
    """

    weights: tuple[int, ...]
    thresholds: tuple[float, ...]
    dice: float
    single: int
    single_dice: float

    @property
    def wins(self) -> bool:
        """Whether the ensemble is enough better than the best of the candidates."""
        return sum(weight > 0 for weight in self.weights) > 1 and self.dice > self.single_dice + MARGIN


@dataclass(frozen=True, kw_only=True)
class ValidationAnswers:
    """What each candidate makes of the validation images, all N of them, where with folds each has its fold's model.

    probabilities: float16 (N, K, H, W), one for each candidate. masks: uint8 0/1 (N, K, H, W). valid: uint8 0/1
    (N, 1, H, W).
    """

    probabilities: tuple[Tensor, ...]
    masks: Tensor
    valid: Tensor
    label_mode: LabelMode

    def dice(self, weights: Sequence[int]) -> float:
        """Dice of the weighted mean of the answers, mean over classes, with the thresholds that suit it."""
        total = sum(weights)
        chosen = [(weight / total, part) for weight, part in zip(weights, self.probabilities, strict=True) if weight]
        counted = []
        for image in range(len(self.masks)):
            one = slice(image, image + 1)
            mean = torch.zeros_like(chosen[0][1][one], dtype=torch.float32)  # (1, K, H, W)
            for weight, part in chosen:
                mean += weight * part[one].float()
            masks, valid = self.masks[one], self.valid[one]
            if self.label_mode == MULTICLASS:
                counts = count_pixels(predicted_planes(mean, self.label_mode, ()), masks, valid)
                counted.append(torch.stack([counts.tp, counts.fp, counts.fn, counts.tn]))
            else:
                counted.append(count_probabilities(mean, masks, valid).long())
        if self.label_mode == MULTICLASS:
            tp, fp, fn, tn = torch.stack(counted).sum(dim=0)
            return scores(PixelCounts(tp=tp, fp=fp, fn=fn, tn=tn)).dice
        negatives, positives = torch.stack(counted).sum(dim=0).unbind(dim=2)
        histograms = ProbabilityHistograms(positives=positives, negatives=negatives)
        return scores(histograms.counts(histograms.chosen_thresholds())).dice


def choose_together(candidates: Sequence[Candidate], work: SharedWork) -> Together:
    """The ensemble of these candidates that answers best on the validation images, and the best candidate.

    With folds, each image is judged by the candidates' models of the fold in which nobody has learnt from it.
    """
    torch.set_num_threads(work.needs.threads)
    answers = collect_answers(candidates, work)
    alone = [answers.dice(_only(place, len(candidates))) for place in range(len(candidates))]
    single = alone.index(max(alone))
    weights = grow(len(candidates), answers.dice)
    del answers
    thresholds, dice = judge_together(candidates, weights, work)
    _, single_dice = judge_together(candidates, _only(single, len(candidates)), work)
    return Together(weights=weights, thresholds=thresholds, dice=dice, single=single, single_dice=single_dice)


def grow(count: int, dice_of: Callable[[tuple[int, ...]], float], rounds: int = ROUNDS) -> tuple[int, ...]:
    """How often each of so many candidates is taken (Caruana et al. 2004, Ensemble selection from libraries of models).

    In each round the candidate joins with which the whole is best, one that is in it already counting once more. The
    best whole on the way is the answer; of equals the first.
    """
    taken, best, best_dice = (0,) * count, (0,) * count, -math.inf
    for _ in range(rounds):
        larger = [tuple(had + (place == joining) for place, had in enumerate(taken)) for joining in range(count)]
        reached = [dice_of(weights) for weights in larger]
        taken = larger[reached.index(max(reached))]
        if max(reached) > best_dice:
            best, best_dice = taken, max(reached)
    return best


def judge_together(
    candidates: Sequence[Candidate], weights: Sequence[int], work: SharedWork
) -> tuple[tuple[float, ...], float]:
    """Thresholds and Dice of the weighted mean of the candidates' answers on all validation images."""
    device, judged = torch.device(work.needs.device), []
    for fold, split in enumerate(work.splits):
        models = [
            Model(*load_model(candidate.folders[fold], device), weight)
            for candidate, weight in zip(candidates, weights, strict=True)
            if weight
        ]
        pictures = place(work.data, split.validation, device)
        judged.append(judge(MeanNetwork(models), pictures, work.data.label_mode, bfloat16=False))
    return _over_folds(judged)


def collect_answers(candidates: Sequence[Candidate], work: SharedWork) -> ValidationAnswers:
    """What each candidate makes of the validation images; of some of them, evenly, where all would fill the memory."""
    data, device = work.data, torch.device(work.needs.device)
    found: list[list[Tensor]] = [[] for _ in candidates]
    all_masks, all_valid = [], []
    bytes_each = 2 * data.masks[0].size * len(candidates)
    images = sum(len(split.validation) for split in work.splits)
    step = math.ceil(images * bytes_each / LARGEST_TABLE)
    for fold, split in enumerate(work.splits):
        pictures = place(data, split.validation[::step], device)
        models = [load_model(candidate.folders[fold], device) for candidate in candidates]
        for picture in range(len(pictures)):
            images_here, labels = pictures.cut([Window(picture, 0, 0)], pictures.height, pictures.width)
            masks, valid = unpack(labels, pictures.classes)
            all_masks.append(masks.cpu())
            all_valid.append(valid.cpu())
            for (network, card), answers in zip(models, found, strict=True):
                bfloat16 = uses_bfloat16(card.config.precision, device)
                probabilities = predict_probabilities(network, images_here, data.label_mode, bfloat16=bfloat16)
                answers.append(probabilities.half().cpu())
    return ValidationAnswers(
        probabilities=tuple(torch.cat(answers) for answers in found),
        masks=torch.cat(all_masks),
        valid=torch.cat(all_valid),
        label_mode=data.label_mode,
    )


def _over_folds(judged: Sequence[Judgement]) -> tuple[tuple[float, ...], float]:
    """Thresholds and Dice over the validation images of all folds."""
    if len(judged) == 1:
        return judged[0].thresholds, judged[0].scores().dice
    if judged[0].label_mode == MULTICLASS:
        counts = [one.counts.pooled() for one in judged]
        return judged[0].thresholds, scores(sum(counts[1:], start=counts[0])).dice
    histograms = ProbabilityHistograms(
        positives=torch.cat([one.histograms.positives for one in judged]),
        negatives=torch.cat([one.histograms.negatives for one in judged]),
    )
    thresholds = histograms.chosen_thresholds()
    return thresholds, scores(histograms.counts(thresholds)).dice


def _only(place: int, count: int) -> tuple[int, ...]:
    """Weights that take one candidate alone."""
    return tuple(int(other == place) for other in range(count))
