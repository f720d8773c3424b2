"""Reads JSON of a stranger: a file, or a text in another file, and never more of it than such a file has."""

import json
from pathlib import Path
from typing import Any

from data.text_file import read_bytes

MOST_BYTES = 2**28  # the judgement of a large set has an entry for each picture and class


def read_json(path: Path) -> Any:
    """What the file holds. Raises OSError where it cannot be read, and ValueError for one that is no JSON."""
    return parse_json(read_bytes(path, MOST_BYTES))


def parse_json(text: str | bytes) -> Any:
    """The value that is written there. Raises ValueError for a text that is no JSON, or nested beyond measure."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested deeper than any file of ours") from None
