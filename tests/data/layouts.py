"""Writes small sets in each layout that can be read, all with the same drawing, and says what reading must give.

Each picture is noise. Class k is a square of its own in the mask, the k-th from the left; what does not count, where a
layout can say so, is the last row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from data.layouts.camvid import CLASSES as CAMVID
from data.layouts.camvid import UNLABELLED
from data.layouts.pascal_voc import CLASSES as VOC
from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode, Part
from tests.data.folders import write_picture

HEIGHT, SIDE = 12, 4
Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class LaidOut:
    """A small set in one layout, and what reading it must give.

    data: the name to ask for, or None for the folder itself.
    write: makes it in a new folder.
    parts: picture name -> part.
    groups: picture name -> group.
    squares: the squares that each class owns.
    counting: which pixels count.
    lacking: picture name -> the classes that it has none of.
    others: patterns of files that are there but belong to no picture.
    """

    data: str | None
    write: Callable[[Path], None]
    class_names: tuple[str, ...]
    label_mode: LabelMode
    parts: Mapping[str, Part | None]
    groups: Mapping[str, str] = field(default_factory=dict)
    squares: tuple[tuple[int, ...], ...] | None = None
    counting: str = "all"
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    @property
    def truth(self) -> Array:
        """What the masks must be: uint8 0/1 (N, K, H, W), pictures by name."""
        squares = self.squares or tuple((index,) for index in range(len(self.class_names)))
        count = max(max(owned) for owned in squares) + 1
        planes = np.stack(
            [sum((square(one, count) for one in owned), np.zeros_like(square(0, count))) for owned in squares]
        )
        masks = np.stack([planes] * len(self.parts))
        for index, name in enumerate(sorted(self.parts)):
            for class_name in self.lacking.get(name, ()):
                masks[index, self.class_names.index(class_name)] = 0
        return masks

    @property
    def valid(self) -> Array:
        """Which pixels must count: uint8 0/1 (N, H, W)."""
        truth = self.truth
        if self.counting == "squares":
            return truth.max(axis=1)
        valid = np.ones_like(truth[:, 0])
        if self.counting == "not the last row":
            valid[:, -1] = 0
        return valid


def square(index: int, count: int) -> Array:
    """The square of one class of `count`: 0/1 (H, W)."""
    plane = np.zeros((HEIGHT, SIDE * max(count, 3)), np.uint8)
    plane[SIDE : 2 * SIDE, SIDE * index : SIDE * (index + 1)] = 1
    return plane


def noise(seed: str, count: int) -> Array:
    """A picture (H, W, 3) for a set of `count` classes, another for each seed."""
    return np.random.default_rng(list(seed.encode())).integers(0, 256, (*square(0, count).shape, 3), dtype=np.uint8)


def index_mask(values: tuple[int, ...], *, background: int = 0, last_row: int | None = None) -> Array:
    """A mask (H, W) in which the squares hold the values."""
    mask = np.full(square(0, len(values)).shape, background, np.uint8)
    for index, value in enumerate(values):
        mask[square(index, len(values)) == 1] = value
    if last_row is not None:
        mask[-1] = last_row
    return mask


def write_palette(path: Path, indices: Array) -> None:
    """Saves a mask as indices into a palette of colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices, "L").convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    picture.save(path)


def write_stare(letters: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for name in ("im0001", "im0082", "im0044", "im0162"):
            write_picture(root / "stare" / "stare-images" / f"{name}.ppm.gz", noise(name, 1))
            write_picture(root / "stare" / f"labels-{letters}" / f"{name}.{letters}.ppm.gz", index_mask((255,)))
        write_picture(root / "stare" / "stare-images" / "im0003.txt.ppm", noise("another", 1))

    return write


def write_chase_db1(*observers: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for name in ("Image_01L", "Image_01R", "Image_05L", "Image_05R", "Image_06L", "Image_06R"):
            write_picture(root / f"{name}.jpg", noise(name, 1))
            for observer in observers:
                write_picture(root / f"{name}_{observer}.png", index_mask((255,)).astype(bool))

    return write


def write_drive(root: Path) -> None:
    for folder, numbers in {"training": (21, 22, 40), "test": (1, 2)}.items():
        home = root / "DRIVE" / folder
        for number in numbers:
            write_picture(home / "images" / f"{number:02}_{folder}.tif", noise(str(number), 1))
            write_picture(home / "1st_manual" / f"{number:02}_manual1.gif", index_mask((255,)))
            field_of_view = index_mask((255,), background=255, last_row=0)
            write_picture(home / "mask" / f"{number:02}_{folder}_mask.gif", field_of_view)


DIARETDB1 = ("hardexudates", "softexudates", "hemorrhages", "redsmalldots")


def write_diaretdb1(root: Path) -> None:
    home = root / "diaretdb1" / "resources" / "images"
    for number in (1, 2, 27, 28, 89):
        name = f"image{number:03}.png"
        write_picture(home / "ddb1_fundusimages" / name, noise(name, 4))
        for index, lesion in enumerate(DIARETDB1):
            # Three of four experts are sure enough of the square, one of four is not of the last row.
            sure = square(index, 4) * np.uint8(191)
            sure[-1] = 64
            write_picture(home / "ddb1_groundtruth" / lesion / name, sure)


def write_article_classes(root: Path) -> None:
    for part, numbers in {"train": (1, 2, 27), "test": (28, 29)}.items():
        for number in numbers:
            name = f"image{number:03}.png"
            write_picture(root / part / "images" / name, noise(name, 2))
            for index, lesion in enumerate(("hemorrhages", "softexudates")):
                write_picture(root / part / "GT" / lesion / name, square(index, 2) * np.uint8(255))


def write_article_channels(root: Path) -> None:
    for number in (1, 2, 27, 28, 89):
        name = f"image{number:03}.png"
        write_picture(root / "train" / "images" / name, noise(name, 2))
        red, bright = square(0, 2), square(1, 2)
        mask = np.stack([red, bright, 1 - red - bright], axis=2) * np.uint8(255)
        write_picture(root / "train" / "GT" / name, mask)


IDRID = {"1. Microaneurysms": "MA", "2. Haemorrhages": "HE", "3. Hard Exudates": "EX", "4. Soft Exudates": "SE"}


def write_idrid(numbers: Mapping[str, tuple[int, ...]]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        home = root / "IDRiD" / "A. Segmentation"
        for folder in numbers:
            for number in numbers[folder]:
                name = f"IDRiD_{number:02}"
                write_picture(home / "1. Original Images" / folder / f"{name}.jpg", noise(name, 4))
                for index, (lesion, letters) in enumerate(IDRID.items()):
                    path = home / "2. All Segmentation Groundtruths" / folder / lesion / f"{name}_{letters}.tif"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if letters == "SE" and number % 2:
                        continue
                    # The owner's masks are red on black.
                    write_picture(path, np.stack([square(index, 4) * np.uint8(255)] + [square(0, 4) * 0] * 2, axis=2))

    return write


def write_camvid(root: Path) -> None:
    for part, names in {"train": "abc", "val": "de", "test": "fg"}.items():
        for name in names:
            write_picture(root / "CamVid" / part / f"{name}.png", noise(name, len(CAMVID)))
            mask = index_mask(tuple(range(len(CAMVID))), background=UNLABELLED)
            write_picture(root / "CamVid" / f"{part}annot" / f"{name}.png", mask)


def write_oxford_pet(root: Path) -> None:
    home = root / "oxford-iiit-pet"
    for split, names in {"trainval": ("Abyssinian_1", "Abyssinian_2", "beagle_10"), "test": ("pug_3", "pug_4")}.items():
        for name in names:
            write_picture(home / "images" / f"{name}.jpg", noise(name, 1))
            trimap = index_mask((1,), background=2, last_row=3)
            write_picture(home / "annotations" / "trimaps" / f"{name}.png", trimap)
        lines = [f"{name} 1 1 1\n" for name in names]
        (home / "annotations" / f"{split}.txt").write_text("".join(lines), encoding="utf-8")


def write_pascal_voc(root: Path) -> None:
    home = root / "VOCdevkit" / "VOC2012"
    for split, names in {"train": ("2007_000032", "2007_000039"), "val": ("2007_000033", "2008_000001")}.items():
        for name in names:
            write_picture(home / "JPEGImages" / f"{name}.jpg", noise(name, len(VOC)))
            mask = index_mask(tuple(range(1, 1 + len(VOC))), last_row=255)
            write_palette(home / "SegmentationClass" / f"{name}.png", mask)
        listed_in = home / "ImageSets" / "Segmentation" / f"{split}.txt"
        listed_in.parent.mkdir(parents=True, exist_ok=True)
        listed_in.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    write_picture(home / "JPEGImages" / "2012_000004.jpg", noise("not of the segmentation part", 1))


def write_wbc(images: str, masks: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for number in (1, 2, 240, 241, 300):
            write_picture(root / "wbc" / images / f"{number:03}.bmp", noise(str(number), 2))
            write_picture(root / "wbc" / masks / f"{number:03}.png", index_mask((128, 255)))

    return write


def write_index_folder(root: Path) -> None:
    for name in "abcd":
        write_picture(root / "images" / f"{name}.jpg", noise(name, 2))
        write_picture(root / "masks" / f"{name}.png", index_mask((1, 2)))


def write_binary_folder(root: Path) -> None:
    for part, names in {"train": "ab", "val": "cd", "test": "ef"}.items():
        for name in names:
            write_picture(root / part / "images" / f"{name}.png", noise(name, 1))
            write_picture(root / part / "masks" / f"{name}.png", index_mask((255,)))


def write_class_folder(root: Path) -> None:
    for name in "abcd":
        write_picture(root / "images" / f"{name}.tif", noise(name, 2))
        for index, class_name in enumerate(("bright", "red")):
            write_picture(root / "masks" / class_name / f"{name}.png", square(index, 2) * np.uint8(255))
        write_picture(root / "fov" / f"{name}.png", index_mask((255, 255), background=255, last_row=0))


def write_color_folder(root: Path) -> None:
    for name in "abcd":
        write_picture(root / "images" / f"{name}.bmp", noise(name, 2))
        colors = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 255], [255, 255, 255]], np.uint8)
        write_picture(root / "masks" / f"{name}.png", colors[index_mask((1, 2), last_row=3)])
    declared = "#ff0000 nucleus\n0,128,255 cytoplasm\n#ffffff ignore\n"
    (root / "classes.txt").write_text(declared, encoding="utf-8")


def write_stack_folder(root: Path) -> None:
    for name in "abcd":
        write_picture(root / "images" / f"{name}.ppm", noise(name, 5))
        (root / "masks").mkdir(exist_ok=True)
        np.save(root / "masks" / f"{name}.npy", np.stack([square(index, 5) for index in range(5)]).astype(np.float32))


def parts_of(**names: str) -> dict[str, Part | None]:
    """Picture name -> part, from the names of each part."""
    known: dict[str, Part | None] = {"train": "train", "validation": "validation", "test": "test", "none": None}
    return {name: known[part] for part, listed in names.items() for name in listed.split()}


_CHASE_PARTS = parts_of(train="Image_01L Image_01R Image_05L Image_05R", test="Image_06L Image_06R")
_CHILDREN = {name: f"child {name[-3:-1]}" for name in _CHASE_PARTS}
_STARE_PARTS = parts_of(train="im0001 im0044", validation="im0082", test="im0162")
_DIARETDB1_PARTS = parts_of(train="image001 image002 image027", test="image028 image089")
_LESIONS = ("hard_exudates", "soft_exudates", "haemorrhages", "red_small_dots")
_IDRID_LESIONS = ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates")

LAID_OUT: dict[str, LaidOut] = {
    "camvid": LaidOut(
        data="camvid",
        write=write_camvid,
        class_names=CAMVID,
        label_mode=MULTICLASS,
        parts=parts_of(train="a b c", validation="d e", test="f g"),
        counting="squares",
    ),
    "chasedb1": LaidOut(
        data="chasedb1",
        write=write_chase_db1("1stHO", "2ndHO"),
        class_names=("vessel",),
        label_mode=MULTILABEL,
        parts=_CHASE_PARTS,
        groups=_CHILDREN,
        others=("*_2ndHO.png",),
    ),
    "chasedb1-second": LaidOut(
        data="chasedb1-second",
        write=write_chase_db1("2ndHO"),
        class_names=("vessel",),
        label_mode=MULTILABEL,
        parts=_CHASE_PARTS,
        groups=_CHILDREN,
    ),
    "diaretdb1": LaidOut(
        data="diaretdb1",
        write=write_diaretdb1,
        class_names=_LESIONS,
        label_mode=MULTILABEL,
        parts=_DIARETDB1_PARTS,
    ),
    "diaretdb1-red-bright": LaidOut(
        data="diaretdb1-red-bright",
        write=write_diaretdb1,
        class_names=("red", "bright"),
        label_mode=MULTILABEL,
        parts=_DIARETDB1_PARTS,
        squares=((2, 3), (0, 1)),
    ),
    "diaretdb1-article": LaidOut(
        data="diaretdb1-article",
        write=write_article_classes,
        class_names=("hemorrhages", "softexudates"),
        label_mode=MULTILABEL,
        parts=parts_of(train="image001 image002 image027", test="image028 image029"),
    ),
    "diaretdb1-article, channels": LaidOut(
        data="diaretdb1-article",
        write=write_article_channels,
        class_names=("red", "bright"),
        label_mode=MULTILABEL,
        parts=_DIARETDB1_PARTS,
    ),
    "drive": LaidOut(
        data="drive",
        write=write_drive,
        class_names=("vessel",),
        label_mode=MULTILABEL,
        parts=parts_of(train="21_training 22_training 40_training", test="01_test 02_test"),
        counting="not the last row",
    ),
    "idrid": LaidOut(
        data="idrid",
        write=write_idrid({"a. Training Set": (1, 2, 54), "b. Testing Set": (55, 56)}),
        class_names=_IDRID_LESIONS,
        label_mode=MULTILABEL,
        parts=parts_of(train="IDRiD_01 IDRiD_02 IDRiD_54", test="IDRiD_55 IDRiD_56"),
        lacking={"IDRiD_01": ("soft_exudates",), "IDRiD_55": ("soft_exudates",)},
    ),
    "idrid, training set only": LaidOut(
        data="idrid",
        write=write_idrid({"a. Training Set": (1, 2, 3, 4, 5, 6, 7, 8)}),
        class_names=_IDRID_LESIONS,
        label_mode=MULTILABEL,
        parts=parts_of(train="IDRiD_01 IDRiD_02 IDRiD_03 IDRiD_04 IDRiD_05 IDRiD_06", test="IDRiD_07 IDRiD_08"),
        lacking={f"IDRiD_{number:02}": ("soft_exudates",) for number in (1, 3, 5, 7)},
    ),
    "oxford-pet": LaidOut(
        data="oxford-pet",
        write=write_oxford_pet,
        class_names=("pet",),
        label_mode=MULTILABEL,
        parts=parts_of(train="Abyssinian_1 Abyssinian_2 beagle_10", test="pug_3 pug_4"),
        counting="not the last row",
        others=("*.txt",),
    ),
    "pascal-voc": LaidOut(
        data="pascal-voc",
        write=write_pascal_voc,
        class_names=VOC,
        label_mode=MULTICLASS,
        parts=parts_of(train="2007_000032 2007_000039", validation="2007_000033 2008_000001"),
        counting="not the last row",
        others=("*.txt", "2012_000004.jpg"),
    ),
    "stare": LaidOut(
        data="stare",
        write=write_stare("ah"),
        class_names=("vessel",),
        label_mode=MULTILABEL,
        parts=_STARE_PARTS,
        others=("im0003.txt.ppm",),
    ),
    "stare-second": LaidOut(
        data="stare-second",
        write=write_stare("vk"),
        class_names=("vessel",),
        label_mode=MULTILABEL,
        parts=_STARE_PARTS,
        others=("im0003.txt.ppm",),
    ),
    "wbc": LaidOut(
        data="wbc",
        write=write_wbc("Dataset 1", "Dataset 1"),
        class_names=("cytoplasm", "nucleus"),
        label_mode=MULTICLASS,
        parts=parts_of(train="001 002 240", test="241 300"),
    ),
    "wbc, two folders": LaidOut(
        data="wbc",
        write=write_wbc("images", "masks"),
        class_names=("cytoplasm", "nucleus"),
        label_mode=MULTICLASS,
        parts=parts_of(train="001 002 240", test="241 300"),
    ),
    "folder of index masks": LaidOut(
        data=None,
        write=write_index_folder,
        class_names=("class_1", "class_2"),
        label_mode=MULTICLASS,
        parts=parts_of(none="a b c d"),
    ),
    "folder of parts": LaidOut(
        data=None,
        write=write_binary_folder,
        class_names=("foreground",),
        label_mode=MULTILABEL,
        parts=parts_of(train="a b", validation="c d", test="e f"),
    ),
    "folder of class folders": LaidOut(
        data=None,
        write=write_class_folder,
        class_names=("bright", "red"),
        label_mode=MULTILABEL,
        parts=parts_of(none="a b c d"),
        counting="not the last row",
    ),
    "folder of masks in colour": LaidOut(
        data=None,
        write=write_color_folder,
        class_names=("nucleus", "cytoplasm"),
        label_mode=MULTICLASS,
        parts=parts_of(none="a b c d"),
        counting="not the last row",
    ),
    "folder of planes": LaidOut(
        data=None,
        write=write_stack_folder,
        class_names=("class_0", "class_1", "class_2", "class_3", "class_4"),
        label_mode=MULTILABEL,
        parts=parts_of(none="a b c d"),
    ),
}
