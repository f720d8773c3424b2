"""How every command of the project meets a person: typed options in, an exit code out, one line for a mistake."""

import dataclasses
import inspect
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from data.input_error import InputError, unknown_name
from data.printable import printable
from data.yaml_file import read_yaml

Given = Mapping[str, tuple[str, ...]]
Defaults = Callable[[Given], Mapping[str, Mapping[str, Any]]]

OK = 0
WRONG_INPUT = 2
INTERRUPTED = 130

# How YAML writes that there is no value.
_NOTHING = ("", "~", "null")


def run_command(
    function: Callable[..., int | None], argv: Sequence[str] | None = None, *, defaults: Defaults | None = None
) -> int:
    """Calls `function` with the options of a command line and gives the exit code.

    Every parameter of the function is an option: `num_trials: int = 12` is `--num-trials 12`. A parameter whose type
    is a dataclass stands for its fields, each an option. A parameter that may be positional is one on the command line
    too. The help is the function's docstring, and for each option the text in `Annotated[int, "text"]`, or a
    dataclass field's `metadata["meaning"]`.

    argv: the words behind the command, by default those of this process.
    defaults: is handed what was typed (parameter name -> the words given for it) and returns, for each source in turn
        (a name to show in messages, such as a file), a mapping of parameter names to values. What was typed wins,
        then the first source that has a value; None leaves a setting as it is.

    Returns the function's own exit code (None is 0), 2 after an InputError or a command line that cannot be read (one
    line on the error stream), 130 after Ctrl-C or SIGTERM (one line, too). Any other exception is ours, and goes
    through.
    """
    from cyclopts import App, CycloptsError, Parameter, UnknownOptionError, UnusedCliTokensError

    app = App(
        name=_command_name(function),
        help=inspect.getdoc(function) or "",
        help_format="plaintext",
        version_flags=(),
        config=[*([_fill_in(defaults)] if defaults is not None else []), _refuse_fractions],
        default_parameter=Parameter(negative_iterable=()),
    )
    app["--help"].show = False
    app.default(_flattened(function))
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        with sigterm_interrupts():
            return command(*bound.args, **bound.kwargs) or OK
    except UnusedCliTokensError as mistake:
        return _refuse(f"unexpected {' '.join(mistake.unused_tokens or ())!r}: options start with --; see --help.")
    except UnknownOptionError as mistake:
        guess_or_help = "" if "Did you mean" in str(mistake) else " See --help."
        return _refuse(f"{mistake}{guess_or_help}")
    except (CycloptsError, InputError) as mistake:
        return _refuse(str(mistake))
    except KeyboardInterrupt:
        print("interrupted; the same command begins again", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Inside, SIGTERM, by which a batch system stops a job, is a KeyboardInterrupt, as Ctrl-C is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def python() -> str:
    """What a person types for the Python that runs this: the one of a virtual environment here, by its path."""
    here, known = Path(sys.executable), shutil.which("python")
    if known is not None and Path(known) == here:
        return "python"
    return shlex.quote(str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here))


def _refuse(message: str) -> int:
    """Prints the mistake as one line on the error stream, and gives the exit code for it."""
    print("error:", printable(" ".join(message.split())), file=sys.stderr)
    return WRONG_INPUT


def read_config_option(given: Given) -> Mapping[str, Mapping[str, Any]]:
    """Defaults for `run_command` from the YAML file that `--config` names, if it was given."""
    return {path: read_yaml_settings(Path(path)) for path in given.get("config", ())}


def read_yaml_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file: names with underscores; each value a text, a list of texts, or None.

    Scalars stay as they are written, for the options' own types to read: `3:5` is no number of base sixty here. A
    mapping becomes a list, `{depth: 3:5}` the same as `[depth=3:5]`, and a list inside it is joined by commas.
    Raises InputError for a file that is missing, cannot be read, or holds anything else.
    """
    try:
        settings = read_yaml(path, as_texts=True)
    except OSError as error:
        raise InputError(f"config {str(path)!r} cannot be read ({error.strerror}): name a YAML file.") from error
    except ValueError as error:
        raise InputError(
            f"config {str(path)!r} is no valid YAML ({error}): write lines like `num_trials: 12`."
        ) from error
    if settings is None or (isinstance(settings, str) and settings in _NOTHING):
        return {}
    if not isinstance(settings, dict):
        raise InputError(
            f"config {str(path)!r} must hold lines like `num_trials: 12`, not a {type(settings).__name__}."
        )
    for name, value in settings.items():
        if not _is_plain(value):
            raise InputError(f"config {str(path)!r}: {name} holds lists or names inside of others: write it flat.")
    return {name: _yaml_value(value) for name, value in settings.items()}


def _is_plain(value: Any) -> bool:
    """Whether a YAML node is a text, a list of texts, or names with such values."""
    inner = value.values() if isinstance(value, dict) else [value]
    return all(isinstance(text, str) for one in inner for text in (one if isinstance(one, list) else [one]))


def _yaml_value(value: Any) -> Any:
    """What a YAML node means as the value of an option."""
    if isinstance(value, dict):
        return [f"{name}={','.join(entry) if isinstance(entry, list) else entry}" for name, entry in value.items()]
    return None if isinstance(value, str) and value in _NOTHING else value


def _fill_in(defaults: Defaults) -> Callable[..., None]:
    """The step of parsing that gives options nobody typed the values of other sources."""

    def fill_in(app: Any, commands: tuple[str, ...], arguments: Any) -> None:
        from cyclopts.config import Dict

        words = {one.field_info.name: tuple(_word(token) for token in one.tokens) for one in arguments}
        for source, values in defaults({name: typed for name, typed in words.items() if typed}).items():
            for name in values:
                if name not in words:
                    raise unknown_name(f"{source}: setting", name, words)
            known = {name: value for name, value in values.items() if value is not None}
            Dict(known, source=source)(app, commands, arguments)

    return fill_in


def _refuse_fractions(_app: Any, _commands: tuple[str, ...], arguments: Any) -> None:
    """The step of parsing that refuses a fraction where a whole number is meant: it would be rounded without a word."""
    for one in arguments:
        for token in one.tokens:
            if int in (one.hint, *get_args(one.hint)) and _has_fraction(token.value):
                raise InputError(f"{one.field_info.name} {token.value} must be a whole number: leave the fraction out.")


def _has_fraction(text: str) -> bool:
    """Whether the text is a number that is not whole. What is none, the option's own type refuses."""
    try:
        return not float(text).is_integer()
    except ValueError:
        return False


def _word(token: Any) -> str:
    """What was typed as the value of an option; for a flag, which has none, "True" or "False"."""
    return str(token.implicit_value) if token.value == "" and isinstance(token.implicit_value, bool) else token.value


def _flattened(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """The function with every dataclass parameter replaced by the fields of the dataclass."""
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    records: dict[str, tuple[Any, list[str]]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(hints[name]):
            options = _field_options(hints[name])
            records[name] = (hints[name], [option.name for option in options])
            parameters.extend(options)
        else:
            parameters.append(parameter.replace(annotation=_with_help(hints[name], parameter.default)))

    def command(*positional: Any, **named: Any) -> int | None:
        # A record is made here, outside the parsing, so that its own InputError reaches the person as it is.
        made = {
            name: record(**{field: named.pop(field) for field in fields if field in named})
            for name, (record, fields) in records.items()
        }
        return function(*positional, **named, **made)

    ordered = sorted(parameters, key=lambda parameter: parameter.kind)
    command.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in ordered}
    return command


def _field_options(record: Any) -> list[inspect.Parameter]:
    """One keyword parameter for each field that the dataclass is made from, its own before those it inherits."""
    hints = get_type_hints(record, include_extras=True)
    own = inspect.get_annotations(record)
    options = []
    for field in sorted(dataclasses.fields(record), key=lambda field: field.name not in own):
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING:
            default = inspect.Parameter.empty
        meaning, choices = (field.metadata.get(name) for name in ("meaning", "choices"))
        if meaning and choices:
            meaning = f"{meaning} ({', '.join(choices)})"
        hint = Annotated[hints[field.name], meaning] if meaning else hints[field.name]
        keyword = inspect.Parameter.KEYWORD_ONLY
        options.append(inspect.Parameter(field.name, keyword, default=default, annotation=_with_help(hint, default)))
    return options


def _with_help(hint: Any, default: Any) -> Any:
    """The type hint, its text in `Annotated[type, "text"]` made the help of the option."""
    from cyclopts import Parameter

    plain, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    texts = [note for note in notes if isinstance(note, str)]
    shown = ",".join(map(str, default)) if isinstance(default, tuple | list) else default not in (None, "")
    return Annotated[plain, Parameter(help=" ".join(texts), show_default=shown or False)]


def _command_name(function: Callable[..., int | None]) -> str:
    """What a person types to get here, for the first line of the help."""
    if function.__module__ != "__main__":
        return f"python -m {function.__module__}"
    main_module = sys.modules["__main__"]
    return f"python -m {main_module.__spec__.name}" if main_module.__spec__ else f"python {sys.argv[0]}"
