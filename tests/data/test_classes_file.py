"""What `classes.txt` may say, and what it may not."""

from pathlib import Path

import pytest

from data.classes_file import DeclaredClasses, read_classes_file
from data.input_error import InputError


def declare(folder: Path, text: str) -> DeclaredClasses:
    (folder / "classes.txt").write_text(text, encoding="utf-8")
    declared = read_classes_file(folder / "classes.txt")
    assert declared is not None
    return declared


def test_values(tmp_path: Path) -> None:
    declared = declare(
        tmp_path, "\ufeff# cells\n0 background\n255\tnucleus of it\n\n 128   cytoplasm  # pale\n-1 ignore\n7 ignore"
    )
    assert declared.classes == {255: "nucleus of it", 128: "cytoplasm"} and not declared.in_color
    assert declared.background == (0,) and declared.ignored == (-1, 7)
    assert declared.known == {0, 255, 128, -1, 7}


def test_colors(tmp_path: Path) -> None:
    declared = declare(
        tmp_path, "# roads\n#FF0000 road # red\n0, 255,0 tree\n#ffffff background\n1,2,3 ignore\n#remark"
    )
    assert declared.classes == {0xFF0000: "road", 0x00FF00: "tree"} and declared.in_color
    assert declared.background == (0xFFFFFF,) and declared.ignored == (0x010203,)


@pytest.mark.parametrize("word", ["ignore", "Ignore", "void", "VOID", "unlabeled", "Unlabelled"])
def test_what_does_not_count_has_many_names(tmp_path: Path, word: str) -> None:
    declared = declare(tmp_path, f"0 Background\n1 Cell\n2 {word}\n3 ignore\n4 BACKGROUND")
    assert declared.classes == {1: "Cell"}
    assert declared.background == (0, 4) and declared.ignored == (2, 3)


def test_accents_are_one_sign(tmp_path: Path) -> None:
    assert declare(tmp_path, "1 ne\u0301vrose").classes == {1: "n\u00e9vrose"}


def test_no_file_declares_nothing(tmp_path: Path) -> None:
    assert read_classes_file(tmp_path / "classes.txt") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("128", r"line 1 of .*classes\.txt' is '128': write a mask value and a name, `128 nucleus`, or a colour"),
        ("0 background\nnucleus 128", "line 2 of .* is 'nucleus 128': write"),
        ("128 # nucleus", "line 1 of .* write a mask value and a name"),
        ("1.5 nucleus", "line 1 of .* write a mask value and a name"),
        ("256,0,0 nucleus", "line 1 of .* write a mask value and a name"),
        ("128 a\n128 b", "line 2 of .* repeats '128 b': give each value one name"),
        ("128 a\n127 a", "line 2 of .* repeats '127 a'"),
        ("128 a\n#ff0000 b", "line 2 of .* is '#ff0000 b', but lines above it are of the other kind"),
    ],
)
def test_a_line_that_cannot_be_meant(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        declare(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").mkdir()
    with pytest.raises(InputError, match=r"classes\.txt' cannot be read .*: mend it or remove it"):
        read_classes_file(tmp_path / "classes.txt")
