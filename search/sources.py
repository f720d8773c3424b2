"""What trainings of a search begin from: where it lies, what it asks of a network, and whether it can be used."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from model.config import IMAGENET, TrainConfig
from search.domain import Choice, Domain
from search.space import Space

INIT_FROM = "init_from"  # the parameter that names them


def whole_source(source: str) -> str:
    """The source by a name under which workers in other folders find it, too."""
    return source if source in ("", IMAGENET) else str(Path(source).absolute())


def with_whole_sources(space: Space) -> Space:
    """The space in which sources are named so that workers in other folders find them, too."""

    def whole(domain: Domain) -> Choice:
        return Choice(tuple(dict.fromkeys(map(whole_source, domain.ends))))

    return Space(
        domains={name: whole(one) if name == INIT_FROM else one for name, one in space.domains.items()},
        conditions={
            name: replace(one, among=whole(one.among)) if one.parent == INIT_FROM else one
            for name, one in space.conditions.items()
        },
    )


def structure_of(source: str | None) -> dict[str, Any]:
    """The settings of the network in a model folder, of which hardly anything fits another one; of others, none.

    Raises InputError for a model folder whose description cannot be read.
    """
    if not source or source == IMAGENET:
        return {}
    from model.checkpoint import CONFIG, read_card
    from model.transfer import STRUCTURE

    description = Path(source) / CONFIG
    if not description.is_file():
        return {}
    config = read_card(description).config
    return {name: getattr(config, name) for name in STRUCTURE}


def check_sources(space: Space) -> None:
    """Raises InputError when a training of the space could not begin from its source, or take nothing from it."""
    if INIT_FROM not in space.domains or not any(space.domains[INIT_FROM].ends):
        return
    from model.transfer import STRUCTURE, check_init_from

    # Whether weights of a published encoder fit, nothing but the encoder decides.
    structure = STRUCTURE if any(map(structure_of, space.domains[INIT_FROM].ends)) else ("encoder",)
    names = [name for name in (*structure, INIT_FROM) if name in space.domains]
    for values in space.combinations(names):
        check_init_from(TrainConfig(**values))
