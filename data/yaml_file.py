"""Reads a YAML file of a stranger: plain values only, and never more of them than a file of settings has."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data.text_file import read_bytes

MOST_BYTES = 2**23
MOST_VALUES = 500_000  # with those that an alias repeats
DEEPEST = 32
LONGEST_NUMBER = 400  # signs
_MOST_WORDS = 200  # letters of another's words that a message repeats


class YamlFileError(ValueError):
    """What is wrong with a YAML file, in a few words."""


def read_yaml(path: Path, *, as_texts: bool = False) -> Any:
    """What the file holds: mappings, lists, texts, numbers, dates; nothing in it is ever run.

    as_texts: whether scalars stay as they are written. Raises OSError where there is no such file, and YamlFileError
    for one that is no YAML in UTF-8, is larger or nested deeper than settings are, repeats itself by aliases beyond
    measure, or gives one name of a mapping twice.
    """
    import yaml

    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8-sig")
        _check_measure(yaml.parse(text, Loader=_fastest(yaml, "SafeLoader")))
        loader: Any = type("Loader", (_fastest(yaml, "BaseLoader" if as_texts else "SafeLoader"),), {})
        loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise YamlFileError(_where(error)) from error
    except UnicodeDecodeError as error:
        raise YamlFileError("it is no text in UTF-8") from error
    except YamlFileError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:  # such as of the 99th month
        words = " ".join(str(error).split())[:_MOST_WORDS]
        raise YamlFileError(f"it holds what means nothing: {words or type(error).__name__}") from error


def _fastest(yaml: Any, name: str) -> Any:
    """The loader of this name that is written in C, where PyYAML has it."""
    return getattr(yaml, f"C{name}", getattr(yaml, name))


def _check_measure(events: Iterable[Any]) -> None:
    """Raises YamlFileError for a document deeper or, with all that its aliases repeat, longer than is borne."""
    sizes: dict[str, int] = {}  # anchor -> values that an alias to it stands for
    counted = 0
    opened: list[tuple[str | None, int]] = []  # anchor, and how much had been counted before it
    for event in events:
        kind, anchor = type(event).__name__, getattr(event, "anchor", None)
        if kind == "AliasEvent":
            if anchor in {name for name, _ in opened}:
                raise YamlFileError(f"{anchor!r} repeats itself inside itself")
            counted += sizes.get(anchor or "", 0)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            opened.append((anchor, counted))
            counted += 1
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            name, before = opened.pop()
            if name is not None:
                sizes[name] = counted - before
        elif kind == "ScalarEvent":
            counted += 1
            if anchor is not None:
                sizes[anchor] = 1
            if len(event.value) > LONGEST_NUMBER and (event.tag or event.value[0] in "+-.0123456789"):
                raise YamlFileError(f"line {event.start_mark.line + 1}: a number of {len(event.value)} signs")
        if len(opened) > DEEPEST:
            raise YamlFileError(f"it is nested deeper than {DEEPEST} levels")
        if counted > MOST_VALUES:
            raise YamlFileError(f"it holds more than {MOST_VALUES:,} values, those that aliases repeat included")


def _construct_mapping(loader: Any, node: Any) -> dict[Any, Any]:
    """A mapping, in which every name stands once: where there are two, a person sees the one and PyYAML the other."""
    from yaml.constructor import ConstructorError, SafeConstructor

    written = set()
    for name_node, _ in node.value:
        if not isinstance(name_node.value, str):  # it is a list, or a mapping
            raise ConstructorError(None, None, "a name that is no text", name_node.start_mark)
        if name_node.value in written:
            raise ConstructorError(None, None, f"{name_node.value!r} stands there twice", name_node.start_mark)
        written.add(name_node.value)
    if isinstance(loader, SafeConstructor):
        loader.flatten_mapping(node)
    found = {}
    for name_node, value_node in node.value:
        found[loader.construct_object(name_node, deep=True)] = loader.construct_object(value_node, deep=True)
    return found


def _where(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {error.problem}" if mark else type(error).__name__
