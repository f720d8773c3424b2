"""What all drivers of a shared study must be asked alike, so that their trials compare."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from search.run_folder import SAME
from search.settings import CHOSEN_ONCE, SearchSettings

# What may be elsewhere for each of them, though it is the same: the pictures are compared by what they are, and what
# earlier runs had shown is what the first driver has found.
OF_EACH_PLACE = ("data", "study", "warm_start")


def terms_of(settings: SearchSettings, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The terms, as JSON values. facts: of the data, as `describe_data` gives them; a long one is its digest."""
    asked = settings.as_mapping()
    terms = {name: asked[name] for name in CHOSEN_ONCE if name not in OF_EACH_PLACE}
    return terms | {f"data's {name}": _digest(facts[name]) for name in SAME if name in facts}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
