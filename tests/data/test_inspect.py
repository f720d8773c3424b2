import base64
import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.command_line import OK, WRONG_INPUT, run_command
from data.doctor import examine
from data.doctor_page import write_page
from data.inspect import FAULTY, main
from data.segmentation_data import Split
from data.summary import summarize
from tests.data.folders import class_folder, data_of, index_folder, some_image, some_mask, write_picture
from tests.toys import data_of as toy_data

PROJECT = Path(__file__).parents[2]


def test_the_summary_counts_by_hand() -> None:
    held = np.array([[1, 0], [1, 0], [0, 0], [1, 1]], dtype=bool)
    # Of the second image, the pixel that holds its class does not count.
    data = data_of(
        held,
        parts=("train", "train", None, "test"),
        groups=("p", "p", None, None),
        counting=(True, False, True, True),
    )
    split = Split(train=(0, 1), validation=(2,), test=(3,))
    summary = summarize(data, (split, split))
    assert summary.images == 4 and summary.groups == 1 and summary.sizes == {(2, 2): 4}
    assert summary.valid_share == 15 / 16
    assert summary.owner_parts == {"train": 2, "test": 1}
    assert summary.split == {"train": 2, "validation": 1, "test": 1} and summary.folds == 2
    first, second = summary.classes
    assert first.pixel_share == pytest.approx(2 / 15) and first.images == 2
    assert first.share_in == pytest.approx({"train": 1 / 7, "validation": 0, "test": 1 / 4})
    assert first.images_in == {"train": 1, "validation": 0, "test": 1}
    assert second.pixel_share == pytest.approx(1 / 15)
    assert second.images_in == {"train": 0, "validation": 0, "test": 1}
    assert summary.empty == ("image_001", "image_002")


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
    table = lines.index("class: pixels in pictures          all        train   validation")
    assert lines[table + 1] == "bright                     0.833% in 5  0.833% in 4  0.833% in 1"
    assert lines[table + 2].split()[:4] == ["red", "1.3%", "in", "4"]
    finding = lines.index("  few_to_choose_by (certain)")
    assert lines[finding - 1] == "2 warnings: this may spoil a search"
    assert [line[:9] for line in lines[finding + 1 : finding + 4]] == ["    what ", "    why  ", "    do   "]
    assert lines[finding + 1].startswith("    what There is only 1 picture to choose by (00")
    assert all(ord(character) < 128 for character in out)


def test_a_terminal_gets_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    root = index_folder(tmp_path)
    write_picture(root / "images" / "void.png", some_image(9))
    write_picture(root / "masks" / "void.png", some_mask())
    assert run_command(main, [str(root)]) == OK
    out, _ = capsys.readouterr()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert "┃" in out and "class_128" in out and "\x1b[1;33m3 warnings\x1b[0m" in out
    what = "    what 1 of 5 pictures holds no class at all (void).\n    why  Fine if"
    assert what in plain
    findings = plain[plain.index("3 warnings") :].splitlines()
    assert max(map(len, findings)) <= 60, "sentences are wrapped to the terminal"


def test_sound_data_gets_one_good_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["synthetic", "--folds", "4"]) == OK
    out, _ = capsys.readouterr()
    assert out.endswith("\nNothing was found that stands in the way of a search.\n")
    assert "split        4 folds, the first: train " in out


def test_errors_end_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = index_folder(tmp_path, values=(1,))
    for index in range(3):
        write_picture(root / "masks" / f"{index:03}.png", some_mask())
    assert run_command(main, [str(root), "--train-ids", "0-1", "--validation-ids", "2"]) == FAULTY
    out, _ = capsys.readouterr()
    assert "2 errors: a search would stop here\n  nothing_to_learn (certain)\n    what None of the 2 pictures" in out


def test_the_page_holds_facts_findings_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "data.html"
    page.write_text("an older page")
    assert run_command(main, ["synthetic-lesions", "--html", str(page)]) == OK
    assert capsys.readouterr().out.endswith(f"page: {page}\n")
    text = page.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["data.html"]
    assert "<dt>images</dt><dd>24</dd>" in text and "overlapping_planes &middot; certain" in text
    assert "<td>" in text and ">vessel</td>" in text
    sources = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(sources) == 24 + 6, "all pictures once, and those of the finding"
    with Image.open(io.BytesIO(base64.b64decode(sources[0]))) as picture:
        assert picture.format == "JPEG" and picture.size == (2 * 160 + 2, 160)
    # Nothing is fetched, and nothing runs.
    assert not re.search(r"https?:|<script|<link|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text


class _Outline(HTMLParser):
    """The tags of a page, and whether they close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert all(not name.startswith("on") for name, _ in attributes)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_names_cannot_write_into_the_page(tmp_path: Path) -> None:
    held = np.array([[1, 0], [0, 1], [1, 1]], dtype=bool)
    evil = '"><script>alert(1)<' + "/script><img src=x onerror=alert(2)>&amp;'"
    data = replace(data_of(held), class_names=(evil, "b"), source=evil)
    data = replace(data, names=tuple(f"{evil}{index}" for index in range(3)))
    splits = (Split(train=(0,), validation=(1,), test=(2,)),)
    page = tmp_path / "data.html"
    findings = examine(data, splits)
    assert any(evil in found.what for found in findings), "findings speak of names"
    write_page(page, data, splits, summarize(data, splits), findings)
    outline = _Outline(page.read_text(encoding="utf-8"))
    assert "script" not in outline.tags and outline.open == [] and outline.tags.count("figure") > 3
    assert outline.tags.count("img") == outline.tags.count("figure"), "no picture but ours"


def test_a_large_set_keeps_the_page_small(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, (80, 256, 256, 3), dtype=np.uint8)  # the worst there is for a JPEG
    masks = draw.integers(0, 2, (80, 1, 256, 256), dtype=np.uint8)
    data = toy_data(noise, masks)
    splits = (Split(train=tuple(range(70)), validation=tuple(range(70, 80))),)
    page = tmp_path / "data.html"
    write_page(page, data, splits, summarize(data, splits), examine(data, splits))
    assert page.stat().st_size < 5_000_000
    assert page.read_text(encoding="utf-8").count('class="card"') == 60
    assert "60 of 80 pictures" in page.read_text(encoding="utf-8")


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
    "page in no folder": (
        lambda root: ["synthetic", "--html", str(root / "none" / "data.html")],
        "is in a folder that does not exist",
    ),
    "page is a folder": (lambda root: ["synthetic", "--html", str(root)], "is a folder: name a file in it"),
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
