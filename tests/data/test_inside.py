"""Names from files stay below the folder that they are joined to."""

from pathlib import Path

import pytest

from data.input_error import InputError
from data.inside import check_file_name, inside


@pytest.mark.parametrize("name", ["best", "trials/t0001/best", "a b/c.d", "...", "Gefäß"])
def test_what_lies_below_is_joined(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name, what="checkpoint") == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/../../x", "a/..", "/etc", "//x", "a//b", "a/", "./a", "C:x", "c:/x", "a\\b"),
        *("a\x00b", "a\nb", "\x1b[2J", "\u202ea", "x" * 256, "\udcff"),
    ],
)
def test_what_would_leave_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"^checkpoint "):
        inside(tmp_path, name, what="checkpoint")
    with pytest.raises(InputError, match=r"^member .* makes no file name"):
        check_file_name(name, what="member")


def test_a_link_that_leads_out_is_refused_and_one_inside_is_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "trials").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (home / "out").symlink_to(tmp_path / "other")
    (home / "in").symlink_to(home / "trials")
    assert inside(home, "in/best", what="checkpoint") == home / "in" / "best"
    with pytest.raises(InputError, match="leads out of"):
        inside(home, "out/best", what="checkpoint")
    (tmp_path / "link").symlink_to(home)
    assert inside(tmp_path / "link", "trials", what="checkpoint") == tmp_path / "link" / "trials"


def test_a_file_name_has_no_folder() -> None:
    check_file_name("t0001", what="trial_id")
    with pytest.raises(InputError, match="trial_id 'a/b' makes no file name"):
        check_file_name("a/b", what="trial_id")
