"""The folder of a run: its name, who may work in it, and that a refused search leaves nothing behind."""

from dataclasses import replace
from pathlib import Path

import pytest

from data.input_error import InputError
from search.run_folder import RunFolder, check_same_data, choose_name, describe_data, find_run, held, keep_data, new_run
from tests.toys import colored_squares, split_in_two


def test_runs_on_the_same_data_are_numbered(tmp_path: Path) -> None:
    assert choose_name(tmp_path / "none", "stare") == "stare-001"
    for name in ("stare-001", "stare-007", "stare-x", "stare-wide-009"):
        (tmp_path / name).mkdir()
    assert choose_name(tmp_path, "stare") == "stare-008"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("some/where/cells", "cells-001"),
        ("../cells/", "cells-001"),
        ("my cells (new)", "my-cells-new-001"),
        ("...", "run-001"),
    ],
)
def test_a_name_made_from_a_folder_is_a_good_name(tmp_path: Path, data: str, name: str) -> None:
    assert choose_name(tmp_path, data) == name


def test_a_new_run_stays_and_its_name_is_taken(tmp_path: Path) -> None:
    with new_run(tmp_path / "a" / "b", "mine") as run:
        run.settings.touch()
    assert find_run(tmp_path / "a" / "b", "mine") == run
    with pytest.raises(InputError, match=r"run 'mine' exists in .* add --resume, or take another --name"):
        new_run(tmp_path / "a" / "b", "mine").__enter__()


def test_a_refused_search_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no GPU"), new_run(tmp_path / "a" / "b", "mine") as run:
        run.settings.touch()
        raise InputError("no GPU")
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_is_refused_because_another_holds_the_run_takes_nothing_away(tmp_path: Path) -> None:
    with new_run(tmp_path, "mine") as run:
        for keep in (True, False):
            with pytest.raises(InputError, match="is being searched by"), new_run(tmp_path, "mine", keep=keep):
                pass
        run.settings.touch()
        run.begun.set()
    assert run.settings.is_file()


def test_a_refused_search_leaves_what_others_made(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError), new_run(tmp_path / "a", "mine"):
        raise InputError("no GPU")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_search_that_has_begun_is_never_taken_away(tmp_path: Path) -> None:
    with pytest.raises(InputError), new_run(tmp_path, "mine") as run:
        run.begun.set()
        raise InputError("too late")
    assert run.path.is_dir()


def test_a_run_that_is_away_when_its_search_breaks_off_is_there_when_it_comes_back(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"), new_run(tmp_path, "mine") as run:
        (run.path / "trials").mkdir()
        run.begun.set()
        run.path.rename(tmp_path / "elsewhere")
        raise OSError("gone")
    assert (tmp_path / "elsewhere/trials").is_dir()


def test_a_dry_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with new_run(tmp_path / "a", "mine", keep=False) as run:
        run.settings.touch()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for storage in (tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(InputError, match=r"storage '.*' cannot be written"):
            new_run(storage, "mine").__enter__()


def test_a_run_that_is_not_there_is_told_from_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run 'mine' does not exist .* there is none yet"):
        find_run(tmp_path / "none", "mine")
    (tmp_path / "no run").mkdir()
    with new_run(tmp_path, "yours") as run:
        run.settings.touch()
    with pytest.raises(InputError, match=r"run 'mine' does not exist .* there are yours: leave --resume out"):
        find_run(tmp_path, "mine")


def test_one_search_at_a_time_works_in_a_run(tmp_path: Path) -> None:
    with (
        new_run(tmp_path, "mine") as run,
        pytest.raises(InputError, match=r"run 'mine' is being searched by .*@.* \(pid "),
        held(run),
    ):
        pass
    with held(run):
        pass


def test_a_run_goes_on_only_with_the_data_it_began_with(tmp_path: Path) -> None:
    run, data = RunFolder(path=tmp_path), colored_squares("binary")
    facts = describe_data(data, [split_in_two(data)])
    check_same_data(run, facts)
    keep_data(run, facts)
    check_same_data(run, facts)
    assert facts["split"]["validation"] == ["picture4", "picture5"]
    with pytest.raises(InputError, match="data 'toy' has not the split with which run"):
        check_same_data(run, describe_data(data, [split_in_two(data, 3)]))
    folds = [split_in_two(data), split_in_two(data, 3)]
    assert [fold["validation"] for fold in describe_data(data, folds)["folds"]] == [
        ["picture4", "picture5"],
        ["picture3", "picture4", "picture5"],
    ]
    keep_data(run, describe_data(data, folds))
    check_same_data(run, describe_data(data, folds))
    with pytest.raises(InputError, match="data 'toy' has not the folds with which run"):
        check_same_data(run, describe_data(data, folds[::-1]))
    keep_data(run, facts)
    with pytest.raises(InputError, match="data 'toy' has not the fingerprint with which run"):
        check_same_data(run, describe_data(replace(data, fingerprint="other"), [split_in_two(data)]))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"split": {}}'])
def test_a_damaged_account_of_the_data_is_an_input_error(tmp_path: Path, content: str) -> None:
    run = RunFolder(path=tmp_path)
    run.dataset.write_text(content)
    with pytest.raises(InputError, match=r"dataset.json' cannot be read"):
        check_same_data(run, {"source": "x", "fingerprint": "", "split": {}})


def test_an_empty_folder_that_a_killed_search_left_is_used(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with new_run(tmp_path, "mine") as run:
        assert run.path == tmp_path / "mine"


def test_whatever_ends_a_search_before_its_first_trial_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_run(tmp_path / "runs", "mine"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
