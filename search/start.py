"""What a search tries first, before anything is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from model.config import TrainConfig
from search.prior import PastTrial
from search.space import Space

# U-nets of the article: optimizer, step size and loss, at the depths that it compares.
ARTICLE = {"optimizer": "adam", "learning_rate": 1e-4, "loss": "dice"}
ARTICLE_DEPTHS = (3, 4)


def start_points(space: Space, past: Sequence[PastTrial] = ()) -> list[dict[str, Any]]:
    """Points to try, each with the values that the space searches and holds; what is missing is drawn.

    First the defaults (where it is searched how much to take over from another model, also with nothing taken over),
    then the article's, unless the space does not hold its learning rate, then those past trials that are to be tried.
    """
    defaults = asdict(TrainConfig())
    points = [defaults]
    if is_searched(space, "transfer", "none"):
        points.append(defaults | {"transfer": "none"})
    if is_searched(space, "learning_rate", ARTICLE["learning_rate"]):
        points.extend(defaults | ARTICLE | {"depth": depth} for depth in ARTICLE_DEPTHS)
    points.extend(dict(trial.values) for trial in past if trial.first)
    fitting: list[dict[str, Any]] = []
    for point in points:
        values = searched_values(space, point)
        if values and values not in fitting:
            fitting.append(values)
    return fitting


def searched_values(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that the space holds, of parameters that it searches."""
    return {name: values[name] for name in space.domains if name in values and is_searched(space, name, values[name])}


def is_searched(space: Space, name: str, value: Any) -> bool:
    """Whether the space has several values of this parameter, and this one among them."""
    domain = space.domains.get(name)
    return domain is not None and len(domain.ends) > 1 and domain.holds(value)
