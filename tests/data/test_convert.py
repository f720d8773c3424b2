"""Data sets written as plain folders."""

from pathlib import Path

import numpy as np
import pytest

from data.command_line import run_command
from data.convert import main, write_folder
from data.pictures import picture_size
from data.readers import load
from tests.data.folders import index_folder, some_image, some_mask, write_picture


def test_a_drawn_set_reads_back_the_same_inside_its_field_of_view(tmp_path: Path) -> None:
    drawn = load("synthetic-lesions")
    write_folder(drawn, tmp_path / "copy")
    copy = load(str(tmp_path / "copy"))
    assert set(copy.class_names) == set(drawn.class_names)
    for index, name in enumerate(copy.names):
        was = drawn.names.index(name.split("/")[-1])
        assert copy.parts[index] == drawn.parts[was]
        assert np.array_equal(copy.images[index], drawn.images[was])
        assert np.array_equal(copy.valid[index], drawn.valid[was])
        for plane, class_name in zip(copy.masks[index], copy.class_names, strict=True):
            assert np.array_equal(plane, drawn.masks[was, drawn.class_names.index(class_name)])


def test_classes_of_an_index_mask_keep_their_names(tmp_path: Path) -> None:
    folder = index_folder(tmp_path / "cells")
    (folder / "classes.txt").write_text("128 cytoplasm\n255 nucleus\n")
    cells = load(str(folder))
    write_folder(cells, tmp_path / "copy")
    copy = load(str(tmp_path / "copy"))
    assert copy.class_names == ("cytoplasm", "nucleus")
    assert copy.label_mode == "multiclass"
    assert np.array_equal(copy.masks, cells.masks)


def test_without_a_field_of_view_none_is_written(tmp_path: Path) -> None:
    write_folder(load(str(index_folder(tmp_path / "cells"))), tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["classes.txt", "images", "masks"]


def test_the_command_keeps_the_size(tmp_path: Path) -> None:
    write_picture(tmp_path / "wide" / "images" / "a.png", some_image(0, 4, 300))
    write_picture(tmp_path / "wide" / "masks" / "a.png", some_mask(1, height=4, width=300))
    assert run_command(main, [str(tmp_path / "wide"), str(tmp_path / "copy")]) == 0
    assert picture_size(tmp_path / "copy" / "images" / "a.png") == (4, 300)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "retinas")
    assert run_command(main, ["synthetic", folder]) == 0
    assert "24 pictures" in capsys.readouterr().out
    assert run_command(main, ["synthetic", folder]) == 2
    assert capsys.readouterr().err.splitlines() == [f"error: folder {folder!r} exists: name a new one."]
    (tmp_path / "file").write_text("")
    assert run_command(main, ["synthetic", str(tmp_path / "file" / "below")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
