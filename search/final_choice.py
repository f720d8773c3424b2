"""What the finals choose: the winner, alone or in an ensemble, put into its folder and written down."""

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data.inside import inside
from data.replacing import copy_folder, write_text
from model.ensemble import write_ensemble
from search.ensemble import Candidate, Together
from search.finalists import Finalist
from search.folds import fold_name
from search.held_out import hash_weights

CHOICE = "choice.json"
ENSEMBLE, BEST = "ensemble", "best"  # folders below that of the finals


def candidates_of(finalists: Sequence[Finalist], run: Path) -> list[Candidate]:
    """Every training of the finalists that came to a good end, with the models of its folds.

    Their folders are named so that workers in other folders find them, too.
    """
    return [
        Candidate(
            name=f"{finalist.trial.trial_id}/seed-{number}",
            folders=tuple(inside(run, one.checkpoint, what="checkpoint").absolute() for one in folds),
        )
        for finalist in finalists
        for number, folds in finalist.sound_seeds.items()
    ]


def settle(
    ranking: Sequence[Finalist], candidates: Sequence[Candidate], together: Together, run: Path, finals: Path
) -> dict[str, Any]:
    """Builds the ensemble where it wins, copies what is chosen into `best/`, and writes the choice down.

    ranking: all finalists, the winner first. Gives what was written.
    """
    winner, ensemble = ranking[0], finals / ENSEMBLE
    single = inside(run, winner.checkpoint, what="checkpoint")
    shutil.rmtree(ensemble, ignore_errors=True)
    if together.wins:
        write_ensemble(ensemble, members_of(candidates, together.weights), together.thresholds)
    copy_folder(ensemble if together.wins else single, finals / BEST)
    choice = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "chosen": ENSEMBLE if together.wins else winner.trial.trial_id,
        "weights_sha256": hash_weights(finals / BEST),
        "winner": {"trial_id": winner.trial.trial_id, "model": winner.checkpoint, "val_dice_lower": winner.lower},
        "ensemble": {
            "members": {one.name: weight for one, weight in zip(candidates, together.weights, strict=True) if weight},
            "val_dice": together.dice,
            "best_single": candidates[together.single].name,
            "best_single_val_dice": together.single_dice,
        },
        "finalists": [
            {"trial_id": finalist.trial.trial_id, "status": finalist.status, "val_dice_lower": finalist.lower}
            for finalist in ranking
        ],
    }
    write_text(finals / CHOICE, json.dumps(choice, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return choice


def members_of(candidates: Sequence[Candidate], weights: Sequence[int]) -> Mapping[str, tuple[Path, float]]:
    """The members of an ensemble by name: the model of every fold of each candidate that is in it, and its weight."""
    members: dict[str, tuple[Path, float]] = {}
    for candidate, weight in zip(candidates, weights, strict=True):
        for fold, folder in enumerate(candidate.folders):
            name = candidate.name.replace("/", "-")
            if len(candidate.folders) > 1:
                name += f"-{fold_name(fold)}"
            if weight:
                members[name] = (folder, weight / len(candidate.folders))
    return members
