import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.command_line import OK, WRONG_INPUT, run_command
from data.inspect import main, summarize
from data.segmentation_data import Split
from data.split import split_data
from tests.data.folders import class_folder, data_of, index_folder, some_image, some_mask, write_picture

PROJECT = Path(__file__).parents[2]


def test_the_summary_counts_by_hand() -> None:
    held = np.array([[1, 0], [1, 0], [0, 0], [1, 1]], dtype=bool)
    data = data_of(held, parts=("train", "train", None, "test"), groups=("p", "p", None, None))
    data.valid[0, 1] = 0  # two of the sixteen pixels do not count
    data.valid[1, 0, 0] = 0  # nor does the one in which the second image holds its class
    summary = summarize(data, Split(train=(0, 1), validation=(2,), test=(3,)))
    assert summary.images == 4 and summary.groups == 1 and summary.sizes == {(2, 2): 4}
    assert summary.valid_share == 13 / 16
    assert summary.owner_parts == {"train": 2, "test": 1}
    assert summary.split == {"train": 2, "validation": 1, "test": 1}
    first, second = summary.classes
    assert first.pixel_share == pytest.approx(2 / 13) and first.images == 2
    assert first.images_in == {"train": 1, "validation": 0, "test": 1}
    assert second.pixel_share == pytest.approx(1 / 13)
    assert second.images_in == {"train": 0, "validation": 0, "test": 1}
    assert summary.empty == ("image_001", "image_002")
    warnings = "\n".join(summary.warnings)
    assert "class 'class_0' has no pixel in validation (2 image(s)" in warnings
    assert "class 'class_1' has no pixel in train and validation" in warnings
    assert "2 image(s) hold no class at all (image_001, image_002)" in warnings
    assert "only 1 image(s) to choose by" in warnings
    assert len(summary.warnings) == 4


def test_a_rare_class_is_warned_of() -> None:
    data = data_of(np.ones((4, 1), bool))
    assert [warning[:13] for warning in summarize(data, split_data(data)).warnings] == ["only 1 image("]
    large = data_of(np.ones((4, 1), bool))
    wide = np.zeros((4, 1, 64, 64), np.uint8)
    wide[..., 0, 0] = 1
    object.__setattr__(large, "masks", wide)
    object.__setattr__(large, "valid", np.ones((4, 64, 64), np.uint8))
    warning, _ = summarize(large, split_data(large)).warnings
    assert "covers only 0.0244% of the pixels" in warning


def test_a_pipe_gets_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = class_folder(tmp_path, count=5)
    assert run_command(main, [str(root), "--color", "grey"]) == OK
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert f"data         {root}" in lines
    assert "in files     10 x 12" in lines
    assert "prepared     10 x 12, 1 channel(s)" in lines
    assert "split        train 4, validation 1, test 0" in lines
    assert [line.split()[:3] for line in lines[-3:-1]] == [["bright", "0.83%", "5"], ["red", "1.33%", "4"]]
    assert lines[-1].endswith("only 1 image(s) to choose by: val_dice will be rough; add images.")
    assert all(ord(character) < 128 for character in out)


def test_a_terminal_gets_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    root = index_folder(tmp_path)
    write_picture(root / "images" / "void.png", some_image())
    write_picture(root / "masks" / "void.png", some_mask())
    assert run_command(main, [str(root)]) == OK
    out, _ = capsys.readouterr()
    assert "┃" in out and "class_128" in out and "warning: 1 image(s) hold no class at all (void)" in out


def _sizes_differ(root: Path) -> list[str]:
    write_picture(index_folder(root) / "masks" / "001.png", some_mask(1, width=9))
    return [str(root)]


def _truncated(root: Path) -> list[str]:
    index_folder(root)
    path = write_picture(root / "images" / "000.tif", some_image())
    (root / "images" / "000.bmp").unlink()
    path.write_bytes(path.read_bytes()[:10])
    return [str(root)]


def _unpaired(root: Path, kind: str) -> list[str]:
    index_folder(root)
    next((root / kind).iterdir()).unlink()
    return [str(root)]


def _undeclared(root: Path) -> list[str]:
    (index_folder(root) / "classes.txt").write_text("128 cell")
    return [str(root)]


def _class_without_pixel(root: Path) -> list[str]:
    (index_folder(root) / "classes.txt").write_text("128 a\n255 b\n3 c")
    return [str(root)]


# Each makes a bad input in a folder and gives the words of the command line.
BAD: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "missing folder": (lambda root: [str(root / "none")], "does not exist"),
    "empty folder": (lambda root: [str(root)], "is empty"),
    "image without mask": (lambda root: _unpaired(root, "masks"), "without mask"),
    "mask without image": (lambda root: _unpaired(root, "images"), "without image"),
    "sizes differ": (_sizes_differ, "10 x 12 but its mask"),
    "truncated": (_truncated, "cannot be read"),
    "undeclared value": (_undeclared, "mask values 255"),
    "class without pixel": (_class_without_pixel, "class 'c' has no pixel"),
    "unknown name": (lambda root: ["synthtic"], "Did you mean 'synthetic'?"),
    "no root": (lambda root: ["stare"], "needs --data-root"),
    "wrong root": (lambda root: ["stare", "--data-root", str(root)], "stare-images/im0001.ppm.gz"),
    "unknown option": (lambda root: ["synthetic", "--sise", "9"], "Did you mean --size?"),
    "wrong type": (lambda root: ["synthetic", "--size", "big"], '"big" into int'),
    "wrong choice": (lambda root: ["synthetic", "--color", "gray"], 'Did you mean "grey"?'),
    "out of range": (lambda root: ["synthetic", "--size", "0"], "size 0 must be"),
    "threshold": (lambda root: ["synthetic", "--mask-threshold", "2"], "mask_threshold 2.0 must be"),
    "nothing": (lambda root: [], "--data requires an argument"),
    "too much": (lambda root: ["synthetic", "stare"], "unexpected 'stare'"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # pytest undoes data.pictures' own filter
@pytest.mark.parametrize("bad", BAD)
def test_bad_input_ends_with_two_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: Path, bad: str
) -> None:
    make, message = BAD[bad]
    assert run_command(main, make(tmp_path)) == WRONG_INPUT
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ") and message in err
    assert list(cache.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize("bad", ["truncated", "unknown option"])
def test_bad_input_in_a_process_of_its_own(tmp_path: Path, bad: str) -> None:
    make, message = BAD[bad]
    command = [sys.executable, "-m", "data.inspect", *make(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == WRONG_INPUT and done.stdout == ""
    assert done.stderr.count("\n") == 1 and message in done.stderr
