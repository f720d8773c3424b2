"""What `groups.txt` may say, and what it may not."""

from pathlib import Path

import pytest

from data.groups_file import write_groups
from data.input_error import InputError
from data.readers import load
from tests.data.folders import index_folder, some_image, some_mask, write_picture


def groups_in(root: Path, text: str) -> dict[str, str | None]:
    (root / "groups.txt").write_text(text, encoding="utf-8")
    data = load(str(root))
    return dict(zip(data.names, data.groups, strict=True))


def test_a_picture_without_a_line_is_a_group_of_its_own(tmp_path: Path) -> None:
    found = groups_in(index_folder(tmp_path), "\ufeff000 ann\n\n002\tbob of it\n  003   ann \r\n")
    assert found == {"000": "ann", "001": None, "002": "bob of it", "003": "ann"}


def test_what_was_kept_does_not_hide_other_groups(tmp_path: Path) -> None:
    index_folder(tmp_path)
    assert set(load(str(tmp_path)).groups) == {None}
    assert groups_in(tmp_path, "000 ann")["000"] == "ann"
    assert groups_in(tmp_path, "000 bob")["000"] == "bob"


def test_names_with_spaces_and_accents(tmp_path: Path) -> None:
    for name in ("two words", "n\u00e9 1"):
        write_picture(tmp_path / "images" / f"{name}.png", some_image())
        write_picture(tmp_path / "masks" / f"{name}.png", some_mask(1))
    assert groups_in(tmp_path, "two words p1\nne\u0301 1\tp 1") == {"two words": "p1", "n\u00e9 1": "p 1"}


def test_names_that_stand_in_two_parts(tmp_path: Path) -> None:
    for part, count in (("train", 2), ("test", 1)):
        index_folder(tmp_path / part, count)
    assert groups_in(tmp_path, "train_000 ann\n001 ann\ntest_000 bob") == {
        "train_000": "ann",
        "train_001": "ann",
        "test_000": "bob",
    }
    with pytest.raises(InputError, match=r"is '000 bob', but '000' is in several parts: write test_000 or train_000"):
        groups_in(tmp_path, "000 bob")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    index_folder(tmp_path)
    groups = {"000": "ann lee", "002": "bob"}
    write_groups(groups, tmp_path / "groups.txt")
    assert groups_in(tmp_path, (tmp_path / "groups.txt").read_text()) == {"001": None, "003": None, **groups}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("000", r"line 1 of .*groups\.txt' is '000': write the name of a picture and its patient, `im0001 patient7`"),
        ("000 a\n000.png b", r"line 2 of .* no picture is called '000\.png': write its name without"),
        ("000 a\n001 a\n000 b", "line 3 of .* is '000 b', but a line above it says 'a': give each picture one group"),
    ],
)
def test_a_line_that_cannot_be_meant(tmp_path: Path, text: str, message: str) -> None:
    index_folder(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        groups_in(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_folder_in_its_place_and_a_link_out(tmp_path: Path) -> None:
    root = index_folder(tmp_path / "cells")
    (root / "groups.txt").mkdir()
    with pytest.raises(InputError, match=r"groups\.txt' cannot be read .*: mend it or remove it"):
        load(str(root))
    (root / "groups.txt").rmdir()
    (tmp_path / "groups.txt").touch()
    (root / "groups.txt").symlink_to(tmp_path / "groups.txt")
    with pytest.raises(InputError, match=r"groups\.txt' is a link to .*, outside of"):
        load(str(root))
