import ast
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

import data.command_line
from data.command_line import (
    INTERRUPTED,
    OK,
    WRONG_INPUT,
    Given,
    read_config_option,
    read_yaml_settings,
    run_command,
)
from data.input_error import InputError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings as a search has them."""

    num_trials: int = field(default=12, metadata={"meaning": "trials to start"})
    rate: Annotated[float, "how fast to learn"] = 0.1
    space: tuple[str, ...] = ()
    names: list[str] = field(default_factory=lambda: ["a"])
    max_time: str | None = None
    quiet: bool = False
    color: Literal["rgb", "grey"] = "rgb"
    size: int | Literal["native"] = 256
    fewest: int | None = None

    def __post_init__(self) -> None:
        if self.num_trials < 1:
            raise InputError("num_trials 0 must be 1 or more: raise it.")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A second record beside the first."""

    width: int
    height: int = 3


class Recorder:
    """Keeps what the command was called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def search(self, plan: Plan, *, config: Path | None = None) -> int | None:
        """Searches well.

        It takes its time.
        """
        self.calls.append((plan, config))
        return None


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on the error stream; nothing may stand on the other."""
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ")
    return err


def test_options_of_every_type(recorder: Recorder) -> None:
    words = "--num-trials 3 --rate 1e-3 --space a=1:2 --space b=3 --names x --max-time 2h --quiet --color=grey"
    words += " --size native --fewest 1.0"
    assert run_command(recorder.search, words.split()) == OK
    plan = Plan(
        **{"num_trials": 3, "rate": 1e-3, "space": ("a=1:2", "b=3"), "names": ["x"], "max_time": "2h"},
        **{"quiet": True, "color": "grey", "size": "native", "fewest": 1},
    )
    assert recorder.calls == [(plan, None)]


def test_no_word_gives_the_defaults(recorder: Recorder) -> None:
    assert run_command(recorder.search, []) == OK
    assert recorder.calls == [(Plan(), None)]


def test_records_stand_beside_plain_and_positional_parameters() -> None:
    seen: list[Any] = []

    def command(model: str, images: Path, *, seed: int = 0, place: Place, plan: Plan) -> int:
        """Does it."""
        seen.append((model, images, seed, place, plan))
        return 7

    words = ["m", "--width", "4", "here", "--seed", "5", "--num-trials", "2"]
    assert run_command(command, words) == 7
    assert seen == [("m", Path("here"), 5, Place(width=4), Plan(num_trials=2))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-trails", "3"], "Unknown option: --num-trails. Did you mean --num-trials?"),
        (["--qzx"], "Unknown option: --qzx. See --help."),
        (["--num-trials", "three"], 'Invalid value for --num-trials: unable to convert "three" into int.'),
        (["--num-trials", "2.5"], "num_trials 2.5 must be a whole number: leave the fraction out."),
        (["--fewest", "-0.5"], "fewest -0.5 must be a whole number"),
        (["--size", "99.9"], "size 99.9 must be a whole number"),
        (["--num-trials"], "--num-trials requires an argument"),
        (["--num-trials", "1", "--num-trials", "2"], "--num-trials specified multiple times"),
        (["--color", "gray"], 'Choose from: "rgb", "grey". Did you mean "grey"?'),
        (["stray"], "unexpected 'stray': options start with --; see --help."),
        (["--num-trials", "0"], "num_trials 0 must be 1 or more: raise it."),
        (["--config", "none.yaml"], "config 'none.yaml' cannot be read (No such file or directory)"),
    ],
)
def test_a_mistake_is_one_line(
    recorder: Recorder, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run_command(recorder.search, words, defaults=read_config_option) == WRONG_INPUT
    assert message in refused(capsys)
    assert recorder.calls == []


def test_a_missing_required_option(capsys: pytest.CaptureFixture[str]) -> None:
    def command(place: Place) -> None:
        """Does it."""

    assert run_command(command, []) == WRONG_INPUT
    assert "--width requires an argument" in refused(capsys)


def test_errors_from_within(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken() -> None:
        raise InputError("data 'x' is\n  not here")

    def interrupted() -> None:
        raise KeyboardInterrupt

    def broken() -> None:
        raise ValueError("ours")

    assert run_command(mistaken, []) == WRONG_INPUT
    assert refused(capsys) == "error: data 'x' is not here\n"

    def stopped() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    for command in (interrupted, stopped):
        assert run_command(command, []) == INTERRUPTED
        assert capsys.readouterr().err == "interrupted; the same command begins again\n"
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ValueError, match="ours"):
        run_command(broken, [])


def test_the_words_of_the_process_are_the_default(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["program", "--num-trials", "4"])
    assert run_command(recorder.search) == OK
    assert recorder.calls == [(Plan(num_trials=4), None)]


def test_help_tells_every_option(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(recorder.search, ["--help"], defaults=read_config_option) == OK
    out, _ = capsys.readouterr()
    assert "Usage: python -m tests.data.test_command_line" in out
    for text in ("Searches well.", "It takes its time.", "--num-trials", "trials to start", "[default: 12]"):
        assert text in out
    for text in ("--space", "how fast to learn", "[default: 0.1]", "[default: a]", "--no-quiet", "--config"):
        assert text in out
    assert recorder.calls == []


CONFIG = """
num_trials: 3   # fewer
rate: 1e-3
space: {depth: 3:5, loss: [dice, both]}
max_time: 1:30
quiet: yes
names:
  - x
  - y
color:
"""


def test_a_file_gives_defaults_and_the_command_line_wins(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(CONFIG)
    words = ["--config", str(path)]
    assert run_command(recorder.search, words, defaults=read_config_option) == OK
    assert run_command(recorder.search, [*words, "--space", "q=1", "--no-quiet"], defaults=read_config_option) == OK
    plan = Plan(
        num_trials=3,
        rate=1e-3,
        space=("depth=3:5", "loss=dice,both"),
        names=["x", "y"],
        max_time="1:30",
        quiet=True,
    )
    (first, where), (second, _) = recorder.calls
    assert first == plan and where == path
    assert second.space == ("q=1",) and second.quiet is False and second.num_trials == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_trails: 3", "setting 'num_trails' is not known; allowed: color, config, "),
        ("num_trails: 3", "Did you mean 'num_trials'?"),
        ("num-trials: 3", "Did you mean 'num_trials'?"),
        ("num_trials: three", 'unable to convert "three" into int'),
        ("num_trials: [1, 2]", "[num_trials]"),
        ("num_trials: 0", "num_trials 0 must be"),
        ("num_trials: 2.5", "num_trials 2.5 must be a whole number"),
        ("color: blue", 'Choose from: "rgb", "grey"'),
        ("- a\n- b", "must hold lines like `num_trials: 12`, not a list"),
        ("a: [b", "is no valid YAML (line "),
        ("a: !!python/object/apply:os.getcwd []", "setting 'a' is not known"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(
    recorder: Recorder, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    assert run_command(recorder.search, ["--config", str(path)], defaults=read_config_option) == WRONG_INPUT
    assert message in refused(capsys)
    assert recorder.calls == []


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    for text in ("", "# nothing\n", "~\n", "null\n"):
        path.write_text(text)
        assert read_yaml_settings(path) == {}
    path.write_bytes(b"\xff\xfe\x00bad\xff")
    with pytest.raises(InputError, match="is no valid YAML"):
        read_yaml_settings(path)


def test_the_first_source_wins_and_sees_what_was_typed(recorder: Recorder) -> None:
    typed: list[Given] = []

    def defaults(given: Given) -> Mapping[str, Mapping[str, Any]]:
        typed.append(given)
        return {
            "first.yaml": {"num_trials": "5", "rate": None},
            "second.yaml": {"num_trials": 6, "rate": 0.5, "quiet": True, "color": "rgb"},
        }

    assert run_command(recorder.search, ["--space", "a", "--space", "b", "--color", "grey"], defaults=defaults) == OK
    assert recorder.calls == [(Plan(num_trials=5, rate=0.5, quiet=True, color="grey", space=("a", "b")), None)]
    assert typed == [{"space": ("a", "b"), "color": ("grey",)}]


def test_the_library_is_only_imported_by_a_command() -> None:
    tree = ast.parse(Path(data.command_line.__file__).read_text(encoding="utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imported}
    assert not any(name.startswith(("cyclopts", "yaml", "rich")) for name in names)
