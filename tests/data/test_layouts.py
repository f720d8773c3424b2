"""What each named set does of its own, beyond the contract that all readers keep."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.input_error import InputError
from data.layouts.layout import find_pictures
from data.layouts.stare import PARTS
from data.readers import find, load
from data.segmentation_data import Preparation, SegmentationData
from tests.data.folders import close, some_mask, write_picture
from tests.data.layouts import (
    LAID_OUT,
    index_mask,
    noise,
    square,
    write_article_channels,
    write_article_classes,
    write_camvid,
    write_chase_db1,
    write_diaretdb1,
    write_drive,
    write_idrid,
    write_oxford_pet,
    write_pascal_voc,
    write_stare,
    write_wbc,
)


def read(name: str, root: Path, *, mask_threshold: float = 0.5) -> SegmentationData:
    return load(name, root=root, preparation=Preparation(size="native", mask_threshold=mask_threshold))


def test_stare_has_the_twenty_images_of_its_owner() -> None:
    listed = [name for names in PARTS.values() for name in names.split()]
    assert len(set(listed)) == 20
    assert {part: len(names.split()) for part, names in PARTS.items()} == {"train": 8, "validation": 2, "test": 10}


@pytest.mark.parametrize(("twin", "told"), [("ppm", r"\.ppm' and .*\.ppm\.gz"), ("png", r"\.png' and .*\.ppm\.gz")])
def test_two_files_of_one_picture(tmp_path: Path, twin: str, told: str) -> None:
    write_stare("ah")(tmp_path)
    write_picture(tmp_path / "stare" / "stare-images" / f"im0001.{twin}", noise("im0001", 1))
    with pytest.raises(InputError, match=rf"im0001{told}' differ only in their format: remove one"):
        read("stare", tmp_path)


@pytest.mark.parametrize("name", ["stare-images", "stare-images/im0001.ppm.gz"])
def test_links_out_of_a_set(tmp_path: Path, name: str) -> None:
    write_stare("ah")(tmp_path)
    path = tmp_path / "stare" / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"{name}' is a link to .*, outside of .*: a data set must be whole"):
        find("stare", root=tmp_path)
    path.unlink()
    (tmp_path / "elsewhere").rename(path)
    (tmp_path / "link").symlink_to("stare")
    assert find("stare", root=tmp_path / "link").samples, "the set itself may be linked to"


@pytest.mark.parametrize("closed", ["", "stare", "stare/stare-images"])
def test_a_set_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    write_stare("ah")(tmp_path)
    close(tmp_path / closed, monkeypatch)
    with pytest.raises(
        InputError, match=rf"{closed}[^']*' cannot be read \(Permission denied\): see .* all of data 'stare'"
    ):
        find("stare", root=tmp_path)


def test_an_observer_who_is_not_there(tmp_path: Path) -> None:
    write_stare("ah")(tmp_path)
    with pytest.raises(InputError, match=r"stare' lacks labels-vk/: for data 'stare-second' it must hold .*copy"):
        find("stare-second", root=tmp_path)
    write_chase_db1("2ndHO")(tmp_path / "chase")
    with pytest.raises(InputError, match=r"'chasedb1' needs .* only those of the second: ask for 'chasedb1-second'"):
        find("chasedb1", root=tmp_path / "chase")
    write_chase_db1()(tmp_path / "bare")
    with pytest.raises(InputError, match=r"Image_01L\.jpg' without mask: Image_01L_1stHO\.png .*\(and 5 more of 6\)"):
        find("chasedb1", root=tmp_path / "bare")


def test_all_fourteen_children_teach_and_test_as_in_most_articles(tmp_path: Path) -> None:
    for child in range(1, 15):
        for eye in "LR":
            write_picture(tmp_path / f"Image_{child:02}{eye}.jpg", noise(str(child), 1))
            write_picture(tmp_path / f"Image_{child:02}{eye}_1stHO.png", index_mask((255,)))
    samples = find("chasedb1", root=tmp_path).samples
    assert [sample.name for sample in samples if sample.part == "train"][-1] == "Image_10R"
    assert next(sample.name for sample in samples if sample.part == "test") == "Image_11L"
    assert {sample.part for sample in samples} == {"train", "test"}


def test_drive_without_the_vessels_of_its_test_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_drive(tmp_path)
    shutil.rmtree(tmp_path / "DRIVE" / "test" / "1st_manual")
    with caplog.at_level(logging.WARNING):
        data = read("drive", tmp_path)
    assert set(data.parts) == {"train"} and len(data.names) == 3
    assert ["left out" in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    shutil.rmtree(tmp_path / "DRIVE" / "test")
    assert len(find("drive", root=tmp_path).samples) == 3 and not caplog.records


def test_drive_needs_each_field_of_view(tmp_path: Path) -> None:
    write_drive(tmp_path)
    field_of_view = tmp_path / "DRIVE" / "training" / "mask" / "22_training_mask.gif"
    write_picture(field_of_view, some_mask(height=5, width=7))
    with pytest.raises(InputError, match=r"22_training_mask\.gif' is 7 x 5"):
        read("drive", tmp_path)
    field_of_view.unlink()
    with pytest.raises(InputError, match=r"22_training\.tif' without mask: 22_training_mask\.gif is missing in"):
        read("drive", tmp_path)


@pytest.mark.parametrize(("name", "classes"), [("diaretdb1", 4), ("diaretdb1-red-bright", 2)])
def test_diaretdb1_counts_as_sure_as_it_is_asked_to(tmp_path: Path, name: str, classes: int) -> None:
    write_diaretdb1(tmp_path)
    doubtful = [read(name, tmp_path, mask_threshold=threshold).masks[:, :, -1] for threshold in (0.5, 0.1)]
    assert not doubtful[0].any() and doubtful[1].all() and doubtful[1].shape[1] == classes
    with pytest.raises(InputError, match=r"mask_threshold 0\.8.* lower the threshold"):
        read(name, tmp_path, mask_threshold=0.8)


def test_diaretdb1_needs_all_four_maps(tmp_path: Path) -> None:
    write_diaretdb1(tmp_path)
    path = tmp_path / "diaretdb1/resources/images/ddb1_groundtruth/redsmalldots/image027.png"
    path.unlink()
    with pytest.raises(InputError, match=r"image027\.png' without mask: image027\.png is missing in '.*redsmalldots'"):
        find("diaretdb1", root=tmp_path)
    shutil.rmtree(path.parent)
    with pytest.raises(InputError, match=r"redsmalldots' is missing: it must hold pictures named like \*\.png"):
        find("diaretdb1", root=tmp_path)


def test_the_article_without_test_folder_goes_by_number(tmp_path: Path) -> None:
    write_article_classes(tmp_path)
    shutil.rmtree(tmp_path / "test")
    write_picture(tmp_path / "train" / "images" / "odd.png", noise("odd", 2))
    write_picture(tmp_path / "train" / "GT" / "softexudates" / "odd.png", square(1, 2))
    parts = {sample.name: sample.part for sample in find("diaretdb1-article", root=tmp_path).samples}
    assert parts == {"image001": "train", "image002": "train", "image027": "train", "odd": None}


def test_the_articles_channels_may_be_ones(tmp_path: Path) -> None:
    write_article_channels(tmp_path)
    for path in (tmp_path / "train" / "GT").iterdir():
        write_picture(path, np.array(Image.open(path)) // 255)
    np.testing.assert_array_equal(read("diaretdb1-article", tmp_path).masks[0], [square(0, 2), square(1, 2)])


def _differ(root: Path) -> None:
    write_picture(root / "test" / "GT" / "third" / "image028.png", square(0, 2))


def _stand_twice(root: Path) -> None:
    for path in list((root / "test").rglob("image028.png")):
        path.rename(path.with_name("image002.png"))


def _mix(root: Path) -> None:
    write_picture(root / "train" / "GT" / "image001.png", square(0, 2))


def _lose_masks(root: Path) -> None:
    shutil.rmtree(root / "test" / "GT")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_differ, r"test/GT' has the classes hemorrhages, softexudates, third, but train/GT has hemorrhages, soft"),
        (_stand_twice, r"image 'image002' .* stands in train/ and in test/: remove one"),
        (_mix, r"train/GT' holds both masks and folders \(hemorrhages, softexudates\): keep the one kind"),
        (_lose_masks, r"test/GT' is missing: it must hold"),
    ],
)
def test_the_articles_layout_gone_wrong(tmp_path: Path, spoil: Callable[[Path], None], told: str) -> None:
    write_article_classes(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=told):
        find("diaretdb1-article", root=tmp_path)


def test_a_grey_mask_has_no_three_channels(tmp_path: Path) -> None:
    write_article_channels(tmp_path)
    write_picture(tmp_path / "train" / "GT" / "image028.png", square(0, 2) * np.uint8(255))
    with pytest.raises(InputError, match=r"image028\.png' is grey, but its channels must be red lesions.*save it"):
        read("diaretdb1-article", tmp_path)


def _as_palette(plane: np.ndarray) -> Image.Image:
    picture = Image.fromarray(plane).convert("P")
    picture.putdata(plane.ravel().tolist())
    picture.putpalette([0, 0, 0, 255, 0, 0])
    return picture


@pytest.mark.parametrize(
    "save_as",
    [
        _as_palette,
        lambda plane: Image.fromarray(plane * np.uint8(76)),
        lambda plane: Image.fromarray(plane.astype(bool)),
        lambda plane: Image.fromarray(np.stack([plane * 255, plane * 0, plane * 0, plane * 0 + 255], axis=2)),
    ],
    ids=["palette", "dark grey", "one bit", "with alpha"],
)
def test_idrid_counts_whatever_is_painted(tmp_path: Path, save_as: Callable[[np.ndarray], Image.Image]) -> None:
    write_idrid({"a. Training Set": (1, 2, 3, 4)})(tmp_path)
    masks = tmp_path / "IDRiD" / "A. Segmentation" / "2. All Segmentation Groundtruths" / "a. Training Set"
    save_as(square(3, 4)).save(masks / "1. Microaneurysms" / "IDRiD_01_MA.tif")
    np.testing.assert_array_equal(read("idrid", tmp_path).masks[0, 0], square(3, 4))


def test_idrid_does_not_mind_capital_letters_and_misses_what_is_missing(tmp_path: Path) -> None:
    write_idrid({"a. Training Set": (1, 2, 3, 4)})(tmp_path)
    home = tmp_path / "IDRiD" / "A. Segmentation"
    image = home / "1. Original Images" / "a. Training Set" / "IDRiD_01.jpg"
    masks = home / "2. All Segmentation Groundtruths" / "a. Training Set"
    expected = read("idrid", tmp_path).masks
    image.rename(image.with_name("IDRiD_01.JPG"))
    mask = masks / "2. Haemorrhages" / "IDRiD_01_HE.tif"
    mask.rename(mask.with_name("IDRiD_01_he.TIF"))
    np.testing.assert_array_equal(read("idrid", home).masks, expected)
    image.with_name("IDRiD_01.JPG").unlink()
    with pytest.raises(InputError, match=r"IDRiD_01_.*' without image: copy the set again or remove the mask"):
        find("idrid", root=tmp_path)
    shutil.rmtree(masks / "3. Hard Exudates")
    with pytest.raises(InputError, match=r"3\. Hard Exudates' is missing: it must hold .*_EX\.tif"):
        find("idrid", root=tmp_path)


def _paint(path: Path, value: int) -> None:
    mask = np.array(Image.open(path))
    mask[0, 0] = value
    write_picture(path, mask)


@pytest.mark.parametrize(
    ("name", "write", "mask", "known"),
    [
        ("wbc", write_wbc("images", "masks"), "wbc/masks/001.png", "0, 128, 255"),
        ("camvid", write_camvid, "CamVid/trainannot/a.png", r"0, 1, .*, 10, 11"),
        ("oxford-pet", write_oxford_pet, "oxford-iiit-pet/annotations/trimaps/pug_3.png", "1, 2, 3"),
        ("pascal-voc", write_pascal_voc, "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png", r"0, 1, .*, 20, 255"),
    ],
)
def test_a_value_that_the_owner_never_used(
    tmp_path: Path, name: str, write: Callable[[Path], None], mask: str, known: str
) -> None:
    write(tmp_path)
    _paint(tmp_path / mask, 77)
    with pytest.raises(InputError, match=rf"{mask}' holds the value 77, but only {known} mean anything here: copy"):
        read(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "write", "listed_in"),
    [
        ("oxford-pet", write_oxford_pet, "oxford-iiit-pet/annotations/test.txt"),
        ("pascal-voc", write_pascal_voc, "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"),
    ],
)
def test_a_list_that_is_missing_or_wrong(
    tmp_path: Path, name: str, write: Callable[[Path], None], listed_in: str
) -> None:
    write(tmp_path)
    (tmp_path / listed_in).write_text("late 1 1 1\n" if name == "oxford-pet" else "late\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"image '.*late\.jpg' is missing, but .*{listed_in}' names it: copy"):
        find(name, root=tmp_path)
    (tmp_path / listed_in).unlink()
    with pytest.raises(InputError, match=rf"list .*{listed_in}' cannot be read .*No such file.*: data .* get it from"):
        find(name, root=tmp_path)
    if name == "oxford-pet":
        (tmp_path / listed_in).write_text("torn", encoding="utf-8")
        with pytest.raises(InputError, match=rf"list .*{listed_in}' cannot be read .*: data .* get it from") as caught:
            find(name, root=tmp_path)
        assert "\n" not in str(caught.value)


def test_what_half_a_download_lacks_is_named(tmp_path: Path) -> None:
    write_camvid(tmp_path)
    shutil.rmtree(tmp_path / "CamVid" / "valannot")
    with pytest.raises(InputError, match=r"CamVid' lacks valannot/: for data 'camvid' it must hold"):
        find("camvid", root=tmp_path)
    write_wbc("images", "masks")(tmp_path)
    shutil.rmtree(tmp_path / "wbc" / "masks")
    with pytest.raises(InputError, match=r"wbc/masks' is missing: it must hold pictures named like \*\.png"):
        find("wbc", root=tmp_path)


def test_a_set_is_found_in_its_folder_and_in_the_root_itself(tmp_path: Path) -> None:
    for laid_out in LAID_OUT.values():
        if laid_out.data is None:
            continue
        root = tmp_path / laid_out.data
        laid_out.write(root)
        catalogue = find(laid_out.data, root=root)
        inside = next(
            (path for path in (root / name for name in ("stare", "DRIVE", "CamVid", "wbc", "IDRiD")) if path.is_dir()),
            root,
        )
        assert find(laid_out.data, root=inside).samples == catalogue.samples
        shutil.rmtree(root)


def test_names_are_taken_apart_by_their_pattern(tmp_path: Path) -> None:
    for name in ("21_manual1.gif", "22_MANUAL1.png", "23_manual2.gif", "x24_manual1.gif"):
        write_picture(tmp_path / name, index_mask((255,)))
    assert {key: path.name for key, path in find_pictures(tmp_path, r"\d+", "{}_manual1.gif").items()} == {
        "21": "21_manual1.gif",
        "22": "22_MANUAL1.png",
    }
    assert find_pictures(tmp_path, r"\d+", "{}_manual1.gif", suffixes=(".png",)).keys() == {"22"}
