"""Reads `scores.json`, which stands beside a model: how it was judged, picture by picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.json_file import read_json


def read_scores(path: Path) -> Mapping[str, Any]:
    """The scores as `Judgement.as_mapping` gave them; empty where there are none, or the file is damaged."""
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    parts = ("pooled", "classes", "images")
    if not isinstance(found, dict) or not all(isinstance(found.get(part, {}), dict) for part in parts):
        return {}
    tables = [*found.get("classes", {}).values(), *found.get("images", {}).values()]
    return found if all(isinstance(table, dict) for table in tables) else {}
