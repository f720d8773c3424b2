"""Which hyperparameters a search chooses, from what, and when: a preset with a person's own words on top of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from data.input_error import InputError
from model.config import TrainConfig, check_name
from search.domain import Choice, Condition, Domain
from search.presets import BARE, ONLY_WHEN, PRESETS, USUAL
from search.rough_cost import rough_cost_of_step
from search.space_text import FIELD_TYPES, checked_value, read_words, split_texts, write_words

if TYPE_CHECKING:
    import optuna

SIZES = ("passes", "depth", "width", "batch_size", "crop_size")  # what decides on how demanding a training is


@dataclass(frozen=True, kw_only=True)
class Space:
    """What a search may try.

    domains: parameter name -> the values it may take, in the order of the fields of `TrainConfig`. A field that is
        not there keeps its default.
    conditions: parameter name -> when it takes one of them; it keeps its default otherwise. `ONLY_WHEN` holds besides.
    """

    domains: Mapping[str, Domain]
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert set(self.conditions) <= set(self.domains) <= set(FIELD_TYPES)
        assert not find_circle(self.conditions)

    def asks(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether a training with these values of all parameters has one of its domain for this parameter."""
        condition = self.conditions.get(name)
        if name not in self.domains or not means_something(name, values):
            return False
        return condition is None or (condition.holds(values) and means_something(condition.parent, values))

    def drawing_order(self, names: Iterable[str]) -> list[str]:
        """These parameters and all that decide on them, each behind those that do."""
        order: dict[str, None] = {}

        def add(name: str) -> None:
            for parent in deciders(name, self.conditions):
                add(parent)
            order.setdefault(name)

        for name in names:
            add(name)
        return list(order)

    def samples(self, name: str) -> tuple[Any, ...]:
        """Values that stand for all others of the parameter: the ends, and what the conditions tell apart."""
        conditions = (*ONLY_WHEN.values(), *self.conditions.values())
        return self.domains[name].samples([end for one in conditions if one.parent == name for end in one.among.ends])

    def combinations(self, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Every way in which trainings may have these parameters, by their `samples`, and those that decide on them.

        A parameter that keeps its default is left out.
        """
        defaults = asdict(TrainConfig())

        def extend(chosen: dict[str, Any], names: Sequence[str]) -> Iterator[dict[str, Any]]:
            if not names:
                yield chosen
            elif self.asks(names[0], defaults | chosen):
                for value in self.samples(names[0]):
                    yield from extend(chosen | {names[0]: value}, names[1:])
            else:
                yield from extend(chosen, names[1:])

        yield from extend({}, self.drawing_order(names))


def parse_space(texts: Sequence[str] | Mapping[str, Any] = (), *, pinned: Mapping[str, Any] | None = None) -> Space:
    """A preset with a person's own words on top of it.

    texts: one or more of `depth=3:5,width=8|16|32,learning_rate=1e-5:1e-2:log,loss=dice`, where a later word on a
        parameter replaces an earlier one; or a mapping from names to such values, lists or plain values
        (`{"depth": "3:5", "width": [8, 16], "loss": "dice"}`). `low:high` is a range with both ends, which is drawn
        as in the presets unless `:log` or `:linear` follows; `a|b` (or `a,b`) is a choice; one value is pinned.
        `edge_weight=0:5 if loss=weighted_ce|dice_ce` is searched there alone, and has its default elsewhere. Texts
        may begin with the name of a preset (`large,depth=4`), of which `only` has nothing in it.
    pinned: values that the caller sets, or tuples of values to choose from, unless `texts` has something else to say.

    Raises InputError for a name that is no field of `TrainConfig`, text that cannot be read, a range turned round, a
    log range that does not start above 0, an option named twice, a value that `TrainConfig` does not allow, a preset
    that is not known or does not come first, conditions in a circle, and one on a parameter that is pinned.
    """
    preset, spoken = (USUAL, texts.items()) if isinstance(texts, Mapping) else split_texts(texts)
    pinned = pinned or {}
    domains = dict(PRESETS[preset])
    for name, value in pinned.items():
        domains[name] = Choice(value if isinstance(value, tuple) else (checked_value(name, value),))
    conditions: dict[str, Condition] = {}
    for name, value in spoken:
        check_name(name)
        domains[name], condition = read_words(name, value)
        conditions.pop(name, None)
        if condition is None:
            continue
        if name in pinned and not isinstance(pinned[name], tuple):
            raise InputError(
                f"{name} {value!r} cannot have a condition, for {name} is set to {pinned[name]!r} elsewhere: "
                "leave out the one or the other."
            )
        conditions[name] = condition
    circle = find_circle(conditions)
    if circle:
        raise InputError(f"conditions go round in a circle: {_circle_in_words(circle)}; take one of them out.")
    return Space(
        domains={name: domains[name] for name in FIELD_TYPES if name in domains},
        conditions={name: conditions[name] for name in FIELD_TYPES if name in conditions},
    )


def suggest(space: Space, trial: "optuna.Trial") -> dict[str, Any]:
    """Values for one training, drawn for an Optuna trial: what `TrainConfig` takes. Pinned values cost no draw."""
    return _choose(space, lambda name, domain: domain.suggest(name, trial))


def extremes(space: Space) -> tuple[TrainConfig, TrainConfig]:
    """The least and the most demanding training of the space, by passes, depth, width, batch size and crop size."""
    defaults = asdict(TrainConfig())
    ways = list(space.combinations(name for name in SIZES if name in space.domains))

    def config(chosen: Mapping[str, Any]) -> TrainConfig:
        return TrainConfig(**_choose(space, lambda name, domain: chosen.get(name, domain.ends[0])))

    demand = [rough_cost_of_step(defaults | chosen) for chosen in ways]
    return config(ways[demand.index(min(demand))]), config(ways[demand.index(max(demand))])


def most(space: Space, name: str) -> Any:
    """The highest value that a trial of the space may have of this parameter."""
    default = getattr(TrainConfig(), name)
    if name not in space.domains:
        return default
    elsewhere = [default] if name in space.conditions or name in ONLY_WHEN else []
    return max((*space.domains[name].ends, *elsewhere))


def means_something(name: str, values: Mapping[str, Any]) -> bool:
    """Whether the parameter makes a difference beside these values of all parameters."""
    condition = ONLY_WHEN.get(name)
    return condition is None or (condition.holds(values) and means_something(condition.parent, values))


def space_texts(space: Space) -> tuple[str, ...]:
    """The space as texts that `parse_space` reads back to the same space: `only`, `depth=3:5`, `width=8|16`."""
    conditions = space.conditions
    return (
        BARE,
        *(f"{name}={write_words(name, domain, conditions.get(name))}" for name, domain in space.domains.items()),
    )


def describe(space: Space) -> list[str]:
    """A line for each parameter, for people: `learning_rate  0.001 to 0.02 (log)`, with when it is searched."""
    width = max(map(len, space.domains), default=0)
    lines = []
    for name, domain in space.domains.items():
        when = " and ".join(map(str, _conditions(space, name)))
        lines.append(f"{name:{width}}  {domain}" + (f", only when {when}" if when else ""))
    return lines


def deciders(name: str, conditions: Mapping[str, Condition]) -> list[str]:
    """The parameters whose values decide, with these conditions besides ours, on whether this one is searched."""
    return [table[name].parent for table in (conditions, ONLY_WHEN) if name in table]


def find_circle(conditions: Mapping[str, Condition]) -> list[str]:
    """Parameters of which each depends on the next, and the last on the first; none where there are no such."""

    def follow(path: list[str]) -> list[str]:
        for parent in deciders(path[-1], conditions):
            if parent in path:
                return path[path.index(parent) :]
            circle = follow([*path, parent])
            if circle:
                return circle
        return []

    return next(filter(None, (follow([name]) for name in conditions)), [])


def _choose(space: Space, pick: Callable[[str, Domain], Any]) -> dict[str, Any]:
    """What `pick` takes of each parameter that is searched beside the values taken before it."""
    values = asdict(TrainConfig())
    chosen: dict[str, Any] = {}
    for name in space.drawing_order(space.domains):
        if space.asks(name, values):
            values[name] = chosen[name] = pick(name, space.domains[name])
    return chosen


def _conditions(space: Space, name: str) -> list[Condition]:
    """When the parameter is searched: a person's condition, and ours, where that does not go without saying."""
    asked, ours = space.conditions.get(name), ONLY_WHEN.get(name)
    if asked is None or ours is None:
        return [one for one in (asked, ours) if one is not None]
    said = asked.parent == ours.parent and all(ours.holds({ours.parent: end}) for end in asked.among.ends)
    return [asked] if said else [asked, ours]


def _circle_in_words(circle: Sequence[str]) -> str:
    """How the parameters of a circle depend on each other."""
    steps = []
    for name, parent in zip(circle, (*circle[1:], circle[0]), strict=True):
        always = "always " if name in ONLY_WHEN and ONLY_WHEN[name].parent == parent else ""
        steps.append(f"{always}depends on {parent}")
    return f"{circle[0]} " + ", which ".join(steps)
