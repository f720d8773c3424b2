"""Data sets written as plain folders."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.command_line import run_command
from data.convert import main, write_folder
from data.input_error import InputError
from data.pictures import picture_size
from data.readers import load
from data.segmentation_data import Preparation
from tests.data.folders import data_of, index_folder, some_image, some_mask, write_picture
from tests.data.layouts import LAID_OUT


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


def test_patients_stay_together(tmp_path: Path) -> None:
    children = LAID_OUT["chasedb1"]
    children.write(tmp_path / "set")
    before = load("chasedb1", root=tmp_path / "set", preparation=Preparation(size="native"))
    write_folder(before, tmp_path / "copy")
    after = load(str(tmp_path / "copy"))
    assert set(after.groups) == set(children.groups.values())
    assert (after.names, after.groups, after.parts) == (before.names, before.groups, before.parts)


def test_more_classes_than_a_mask_can_tell(tmp_path: Path) -> None:
    data = data_of(np.ones((1, 256), bool))
    write_folder(data, tmp_path / "planes")
    with pytest.raises(
        InputError, match=r"data 'made' has 256 classes that exclude each other, and .* tell 255: leave"
    ):
        write_folder(replace(data, label_mode="multiclass"), tmp_path / "values")
    assert not (tmp_path / "values").exists()


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save

    def fill_the_disk(image: Image.Image, path: Path) -> None:
        if path.parent.name == "masks":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(image, path)

    index_folder(tmp_path / "cells")
    monkeypatch.setattr(Image.Image, "save", fill_the_disk)
    words = [str(tmp_path / "cells"), str(tmp_path / "copies" / "copy")]
    assert run_command(main, words) == 2
    assert not list((tmp_path / "copies").iterdir())
    monkeypatch.undo()
    assert run_command(main, words) == 0
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["copy"]


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
