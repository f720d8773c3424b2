"""YAML of strangers: plain values are read, and what would run, swell or never end is refused."""

from pathlib import Path

import pytest

from data.yaml_file import DEEPEST, MOST_BYTES, YamlFileError, read_yaml

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{place}: &a{place} [{','.join([f'*a{place - 1}'] * 9)}]\n" for place in range(1, 9)
)


def read(tmp_path: Path, text: str | bytes, *, as_texts: bool = False) -> object:
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path, as_texts=as_texts)


def test_plain_values_and_an_alias_are_read(tmp_path: Path) -> None:
    text = "a: &one [1, 2.5]\nb: *one\nc: {d: yes, e: ~}\nf: &g {h: 1}\ni: {<<: *g, h: 2}\n"
    found = {"a": [1, 2.5], "b": [1, 2.5], "c": {"d": True, "e": None}, "f": {"h": 1}, "i": {"h": 2}}
    assert read(tmp_path, text) == found
    assert read(tmp_path, "a: 3:5\nb: [yes, ~]", as_texts=True) == {"a": "3:5", "b": ["yes", "~"]}
    assert read(tmp_path, "") is None


@pytest.mark.parametrize("as_texts", [False, True])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: 'a' stands there twice"),
        ("&a [*a]", "'a' repeats itself inside itself"),
        (BOMB, "values, those that aliases repeat included"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested deeper than"),
        ("[" * 100_000, "nested deeper than"),
        ("a: " + "9" * 5000, "line 1: a number of 5000 signs"),
        ("a: 0x" + "f" * 5000, "a number of 5002 signs"),
        ("? [1, 2]\n: 3", "a name that is no text"),
        ("a: [b", "line "),
        (b"\xff\xfe\x00", "it is no text in UTF-8"),
        ("a" * (MOST_BYTES + 1), "it has more than 8 MiB"),
        ("a: *b", "undefined alias"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_is_beyond_measure_is_refused(tmp_path: Path, text: str | bytes, words: str, as_texts: bool) -> None:
    with pytest.raises((YamlFileError, ValueError), match=words):
        read(tmp_path, text, as_texts=as_texts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!!python/object/apply:os.system ['touch harm']", "could not determine a constructor"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("a: 2001-99-99", "month must be in 1..12"),
        ("!!timestamp x", "it holds what means nothing"),
        ("!!bool 7", "it holds what means nothing"),
    ],
)
def test_what_is_no_plain_value_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(YamlFileError, match=words):
        read(tmp_path, text)


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ValueError, match="it has more than 8 MiB"):
        read_yaml(Path("/dev/zero"))
