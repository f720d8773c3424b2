"""The note with which optuna-dashboard shows a study: what it is of, and where everything else lies."""

from collections.abc import Mapping
from typing import Any

import optuna

from data.printable import printable
from search.run_folder import REPORT, RunFolder

# The study's attributes in which optuna-dashboard keeps its note (optuna_dashboard/_note.py).
VERSION, BODY = "dashboard:note_ver", "dashboard:note_str:0"
LONGEST = 2045  # characters of one such attribute


def note_run(study: optuna.Study, run: RunFolder, facts: Mapping[str, Any]) -> None:
    """Writes the note, unless somebody has written one. facts: of the data, as `describe_data` gives them."""
    storage = study._storage
    if VERSION in storage.get_study_system_attrs(study._study_id):
        return
    storage.set_study_system_attr(study._study_id, BODY, note_of(run, facts)[:LONGEST])
    storage.set_study_system_attr(study._study_id, VERSION, 1)


def note_of(run: RunFolder, facts: Mapping[str, Any]) -> str:
    """The note, in Markdown."""
    place = printable(run.place)
    classes = ", ".join(printable(str(name)) for name in facts["class_names"][:20])
    return "\n".join(
        [
            f"# {printable(run.path.name)}",
            "",
            f"U-nets for `{classes}` of `{printable(str(facts['source']))}` ({len(facts['sizes'])} pictures).",
            "Each trial's attribute `trial_id` is the name of its row and of its folder.",
            "",
            f"- report: `{place}/{REPORT}`",
            f"- leaderboard: `python -m search.leaderboard {place}`",
            f"- curves: `tensorboard --logdir {place}`",
            f"- best model: `{place}/best`",
            "",
        ]
    )
