"""The plain folder: every kind of masks, what a file of classes says, and what is refused in one line."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.folder import read_folder
from data.input_error import InputError
from data.readers import load
from data.segmentation_data import Preparation
from tests.data.folders import class_folder, close, index_folder, some_image, some_mask, write_picture

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"
RED, GREEN, GREY, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (128, 128, 128), (255, 255, 255), (0, 0, 0)


def row_folder(root: Path, *masks: np.ndarray, suffix: str = ".png") -> Path:
    """A folder of pictures of one row, with these masks."""
    for index, mask in enumerate(masks):
        write_picture(root / "images" / f"{index}.png", some_image(index, 1, mask.shape[1]))
        write_picture(root / "masks" / f"{index}{suffix}", mask)
    return root


def row(*values: object, kind: type = np.uint8) -> np.ndarray:
    """One row of values or colours."""
    return np.array([values], kind)


def parted_folder(root: Path) -> Path:
    for part in ("train", "val", "test"):
        index_folder(root / part, count=2)
    return root


def refuse(root: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(str(root))
    assert "\n" not in str(caught.value)


def test_index_masks_become_planes(tmp_path: Path) -> None:
    data = load(str(row_folder(tmp_path, row(0, 128, 255), row(255, 255, 0))))
    assert data.class_names == ("class_128", "class_255") and data.label_mode == "multiclass"
    np.testing.assert_array_equal(data.masks[:, :, 0], [[[0, 1, 0], [0, 0, 1]], [[0, 0, 0], [1, 1, 0]]])
    np.testing.assert_array_equal(data.images[1], some_image(1, 1, 3))


@pytest.mark.parametrize(("kind", "suffix"), [(np.uint8, ".png"), (np.int64, ".npy"), (np.float32, ".tif")])
def test_two_values_are_one_class(tmp_path: Path, kind: type, suffix: str) -> None:
    data = load(str(row_folder(tmp_path, row(2, 1, 2, kind=kind), suffix=suffix)))
    assert data.class_names == ("foreground",) and data.label_mode == "multilabel"
    np.testing.assert_array_equal(data.masks[0, 0], [[1, 0, 1]])  # without a 0, the smallest value is background


def test_values_of_sixteen_bits_are_classes(tmp_path: Path) -> None:
    data = load(str(row_folder(tmp_path, row(0, 300, 1000, kind=np.uint16))))
    assert data.class_names == ("class_300", "class_1000")
    np.testing.assert_array_equal(data.masks[0, :, 0], [[0, 1, 0], [0, 0, 1]])


def test_large_values_and_steps_of_grey_are_classes(tmp_path: Path) -> None:
    data = load(str(row_folder(tmp_path, row(0, 64, 128, 192, 255))))
    assert data.class_names == ("class_64", "class_128", "class_192", "class_255")


def test_declaring_settles_what_255_and_0_mean(tmp_path: Path) -> None:
    row_folder(tmp_path, row(1, 2, 255), row(1, 1, 2))
    (tmp_path / "classes.txt").write_text("1 background\n2 cell\n255 Void")
    data = load(str(tmp_path))
    assert data.class_names == ("cell",)
    np.testing.assert_array_equal(data.masks[:, 0, 0], [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(data.valid[:, 0], [[1, 1, 0], [1, 1, 1]])


def test_declared_values_name_the_classes(tmp_path: Path) -> None:
    index_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("# cells\n0 background\n255\tnucleus of it\n\n128   cytoplasm  # pale\n")
    data = load(str(tmp_path))
    assert data.class_names == ("nucleus of it", "cytoplasm")
    np.testing.assert_array_equal(data.masks[0, :, 0, :3], [[0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize("unlabelled", [255, -1])
def test_pixels_of_an_ignored_value_do_not_count(tmp_path: Path, unlabelled: int) -> None:
    row_folder(tmp_path, row(0, 1, unlabelled, kind=np.int16), suffix=".npy")
    (tmp_path / "classes.txt").write_text(f"1 cell\n{unlabelled} ignore\n")
    data = load(str(tmp_path))
    assert data.class_names == ("cell",) and data.label_mode == "multilabel"
    np.testing.assert_array_equal(data.masks[0, 0], [[0, 1, 0]])
    np.testing.assert_array_equal(data.valid[0], [[1, 1, 0]])


def test_colors_are_classes_and_black_is_background(tmp_path: Path) -> None:
    # The last two hold one colour each and look like grey masks; a program that saves space makes one of them so.
    masks = row(BLACK, RED, GREEN), row(RED, WHITE, GREY), row(BLACK, BLACK, BLACK), row(GREY, GREY, GREY)
    row_folder(tmp_path, *masks)
    write_picture(tmp_path / "images" / "9.png", some_image(9, 1, 3))
    write_picture(tmp_path / "masks" / "9.png", row(0, 0, 255))
    data = load(str(tmp_path))
    assert data.class_names == ("color_00ff00", "color_808080", "color_ff0000", "color_ffffff")
    assert data.label_mode == "multiclass"
    np.testing.assert_array_equal(
        data.masks[:2, :, 0, 1:], [[[0, 1], [0, 0], [1, 0], [0, 0]], [[0, 0], [0, 1], [0, 0], [1, 0]]]
    )
    assert data.masks[3, 1].all() and not data.masks[2].any() and data.masks[4, 3, 0, 2] == 1


def test_one_color_is_one_class(tmp_path: Path) -> None:
    data = load(str(row_folder(tmp_path, row(BLACK, RED))))
    assert data.class_names == ("foreground",) and data.label_mode == "multilabel"


def test_declared_colors_name_the_classes(tmp_path: Path) -> None:
    row_folder(tmp_path, row(WHITE, RED, GREEN), row(BLACK, WHITE, GREY))
    (tmp_path / "classes.txt").write_text("#ff0000 road\n0,255,0 tree\n#ffffff background\n#808080 ignore\n")
    data = load(str(tmp_path))
    assert data.class_names == ("road", "tree")
    np.testing.assert_array_equal(data.masks[:, :, 0], [[[0, 1, 0], [0, 0, 1]], np.zeros((2, 3))])
    np.testing.assert_array_equal(data.valid[:, 0], [[1, 1, 1], [1, 1, 0]])
    write_picture(tmp_path / "masks" / "1.png", row(BLACK, WHITE, (1, 2, 3)))
    refuse(
        tmp_path,
        r"mask colours #010203 are not in .*classes\.txt' .*1\.png'\): add a line for each, such as `#010203 name`",
    )


def palette_mask(path: Path, indices: np.ndarray, *colors: tuple[int, int, int]) -> None:
    picture = Image.fromarray(indices)
    picture.putpalette([channel for color in colors for channel in color])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def test_palettes_that_agree_stand_for_their_indices(tmp_path: Path) -> None:
    for index in range(2):
        write_picture(tmp_path / "images" / f"{index}.png", some_image(index, 1, 3))
        palette_mask(tmp_path / "masks" / f"{index}.png", row(0, 1, 2), BLACK, RED, GREEN)
    assert load(str(tmp_path)).class_names == ("class_1", "class_2")
    palette_mask(tmp_path / "masks" / "1.png", row(0, 1, 2), BLACK, GREEN, RED)
    refuse(
        tmp_path, r"index 1 is #ff0000 in the palette of mask .*0\.png' but #00ff00 in .*1\.png': say in a file classes"
    )
    (tmp_path / "classes.txt").write_text("#ff0000 road\n#00ff00 tree")
    np.testing.assert_array_equal(load(str(tmp_path)).masks[1, :, 0], [[0, 0, 1], [0, 1, 0]])
    (tmp_path / "classes.txt").write_text("1 road\n2 tree")
    np.testing.assert_array_equal(load(str(tmp_path)).masks[1, :, 0], [[0, 1, 0], [0, 0, 1]])


def test_a_palette_among_colors_is_looked_up(tmp_path: Path) -> None:
    row_folder(tmp_path, row(BLACK, RED, GREEN))
    write_picture(tmp_path / "images" / "1.png", some_image(1, 1, 3))
    palette_mask(tmp_path / "masks" / "1.png", row(1, 0, 1), GREEN, RED)
    data = load(str(tmp_path))
    assert data.class_names == ("color_00ff00", "color_ff0000")
    np.testing.assert_array_equal(data.masks[1, :, 0], [[0, 1, 0], [1, 0, 1]])


@pytest.mark.parametrize("last", [False, True])
def test_planes_may_overlap(tmp_path: Path, last: bool) -> None:
    planes = np.array([[[0, 1, 1]], [[0, 0, 1]], [[1, 0, 0]]], bool)  # (K, H, W)
    row_folder(tmp_path, row(0, 0, 0))
    (tmp_path / "masks" / "0.png").unlink()
    write_picture(tmp_path / "masks" / "0.npy", planes.transpose(1, 2, 0) if last else planes)
    data = load(str(tmp_path))
    assert data.class_names == ("class_0", "class_1", "class_2") and data.label_mode == "multilabel"
    np.testing.assert_array_equal(data.masks[0], planes)
    (tmp_path / "classes.txt").write_text("1 red\n0 bright\n2 ignore")
    named = load(str(tmp_path))
    assert named.class_names == ("red", "bright")
    np.testing.assert_array_equal(named.masks[0], planes[[1, 0]])
    np.testing.assert_array_equal(named.valid[0], [[0, 1, 1]])
    for text in ("0 red\n1 bright", "0 a\n1 b\n2 c\n3 d", "#ff0000 red"):
        (tmp_path / "classes.txt").write_text(text)
        refuse(tmp_path, r"classes\.txt' must name the 3 planes of the masks, from `0 name` to `2 name`")
    (tmp_path / "classes.txt").write_text("0 background\n1 ignore\n2 background")
    refuse(tmp_path, "names no class")


def test_sure_planes_are_thresholded(tmp_path: Path) -> None:
    row_folder(tmp_path, row(0, 0))
    (tmp_path / "masks" / "0.png").unlink()
    write_picture(tmp_path / "masks" / "0.npy", np.array([[[0.4, 0.6]]], np.float32))
    data = load(str(tmp_path))
    assert data.class_names == ("foreground",)
    np.testing.assert_array_equal(data.masks[0, 0], [[0, 1]])
    np.testing.assert_array_equal(
        load(str(tmp_path), preparation=Preparation(mask_threshold=0.1)).masks[0, 0], [[1, 1]]
    )


def test_class_folders_become_planes_that_may_overlap(tmp_path: Path) -> None:
    data = load(str(class_folder(tmp_path)))
    assert data.class_names == ("bright", "red") and data.label_mode == "multilabel"
    np.testing.assert_array_equal(data.masks[1, :, 0, :3], [[1, 0, 0], [1, 1, 0]])
    assert not data.masks[0, 1].any(), "a picture without a file in a class's folder has none of it"


def test_grey_class_masks_are_thresholded_and_ones_count_in_full(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png", some_image(0, 1, 4))
    write_picture(tmp_path / "masks" / "grey" / "a.png", row(0, 127, 128, 255))
    write_picture(tmp_path / "masks" / "ones" / "a.png", row(0, 1, 0, 1))
    write_picture(tmp_path / "masks" / "sure" / "a.npy", row(0, 0.2, 0.4, 0.6, kind=np.float32))
    np.testing.assert_array_equal(load(str(tmp_path)).masks[0, :, 0], [[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]])
    low = load(str(tmp_path), preparation=Preparation(mask_threshold=0.1))
    np.testing.assert_array_equal(low.masks[0, :, 0], [[0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]])


@pytest.mark.parametrize("name", ["field_of_view", "fov"])
@pytest.mark.parametrize("make", [index_folder, class_folder])
def test_what_is_outside_the_field_of_view_does_not_count(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    make(tmp_path)
    for index in range(4):
        write_picture(tmp_path / name / f"{index:03}.gif", some_mask(*[255] * 10))
    data = load(str(tmp_path))
    assert (data.valid[:, 0] == 1).all() and not data.valid[:, 1:].any()
    (tmp_path / name / "002.gif").rename(tmp_path / name / "2.gif")
    refuse(tmp_path, r"do not pair: 002, 2; each image needs the mask of its field of view.*")
    (tmp_path / "fov").mkdir(exist_ok=True)
    (tmp_path / "field_of_view").mkdir(exist_ok=True)
    refuse(tmp_path, r"field_of_view' and .*fov' mean the same: keep one")


def test_parts_come_from_folders_and_names_stay_unique(tmp_path: Path) -> None:
    data = load(str(parted_folder(tmp_path)))
    assert data.names == ("test_000", "test_001", "train_000", "train_001", "validation_000", "validation_001")
    assert data.parts == ("test", "test", "train", "train", "validation", "validation")


def test_fields_of_view_stay_with_pictures_that_are_renamed(tmp_path: Path) -> None:
    for part in ("train", "test"):
        index_folder(tmp_path / part, count=1)
        write_picture(tmp_path / part / "fov" / "000.png", some_mask(*[255] * 10))
    assert [sample.field_of_view for sample in read_folder(tmp_path).samples] == [
        tmp_path / part / "fov" / "000.png" for part in ("test", "train")
    ]


def test_a_photograph_and_its_upright_mask_fit(tmp_path: Path) -> None:
    upright = some_image()
    exif = Image.Exif()
    exif[274] = 6  # the camera lay on its side
    (tmp_path / "images").mkdir()
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "images" / "a.png", exif=exif)
    write_picture(tmp_path / "masks" / "a.png", some_mask(1))
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.images[0], upright)
    assert data.sizes == ((12, 10),) and data.masks[0, 0, 0, 0] == 1


COMPOSED, TAKEN_APART = (unicodedata.normalize(form, "\u00e9t\u00e9 n\u00ba 1") for form in ("NFC", "NFD"))


def test_names_pair_however_they_are_written(tmp_path: Path) -> None:
    assert COMPOSED != TAKEN_APART
    pairs = [
        (TAKEN_APART, COMPOSED),
        ("two words", "two words"),
        ("a.b.c", "a.b.c"),
        ("\u76ee\u306e\u5199\u771f", "\u76ee\u306e\u5199\u771f"),
        ("#1 (copy), 50%", "#1 (copy), 50%"),
    ]
    for image, mask in pairs:
        write_picture(tmp_path / "images" / f"{image}.PNG", some_image())
        write_picture(tmp_path / "masks" / "pi\u00e8ce" / f"{mask}.Tif.gz", some_mask(255))
    for name in ("Thumbs.db", ".DS_Store", "._a.b.c.png", "notes.txt"):
        (tmp_path / "images" / name).write_bytes(b"not for us")
    data = load(str(tmp_path))
    assert sorted(data.names) == sorted(mask for _, mask in pairs) and data.class_names == ("pi\u00e8ce",)
    write_picture(tmp_path / "images" / f"{COMPOSED}.PNG", some_image())
    refuse(tmp_path, "differ only in their format, or in how an accent is written: remove one")


def test_a_folder_is_found_by_every_kind_of_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_folder(tmp_path / "cells")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("cells")
    monkeypatch.chdir(tmp_path)
    absolute = load(str(tmp_path / "cells"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    for data in (load("../cells"), load("cells", root=tmp_path), load("../link")):
        assert (data.source, data.fingerprint) == (absolute.source, absolute.fingerprint)


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    index_folder(tmp_path / "cells")
    path = tmp_path / "cells" / "images" / "001.bmp"
    path.rename(tmp_path / "cells" / "first.bmp")
    path.symlink_to("../first.bmp")
    assert len(load(str(tmp_path / "cells")).names) == 4


@pytest.mark.parametrize("name", ["images/001.bmp", "masks/001.png", "masks", "images", "classes.txt"])
def test_links_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    root = index_folder(tmp_path / "cells")
    (root / "classes.txt").write_text("128 a\n255 b")
    path = root / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refuse(
        root, rf"{name}' is a link to '.*elsewhere', outside of .*: a data set must be whole, so put the file or folder"
    )
    path.unlink()
    path.symlink_to("gone.bmp")
    refuse(root, f"has no {name}/|has images/ but no {name}/|is a link to 'gone.bmp', which is not there")


@pytest.mark.skipif(not (DATASETS / "wbc").is_dir(), reason="the blood cells are not in shared/datasets")
def test_blood_cells() -> None:
    data = load(str(DATASETS / "wbc"), preparation=Preparation(size="native"))
    assert len(data.names) == 300 and len(set(data.sizes)) == 30
    assert data.class_names == ("class_128", "class_255") and data.label_mode == "multiclass"
    shares = [float(data.masks[:, index][data.valid == 1].mean()) for index in range(2)]
    assert shares == pytest.approx([0.19, 0.12], abs=0.005)


# Each: what is done to a good folder of four pictures, and what the one line must say.
def _remove(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def _each_mask(make: Callable[[], np.ndarray], suffix: str = ".png") -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        for path in list((root / "masks").iterdir()):
            path.unlink()
            write_picture(path.with_suffix(suffix), make())

    return spoil


def _one_mask(mask: np.ndarray, suffix: str = ".png") -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        (root / "masks" / "003.png").unlink()
        write_picture(root / "masks" / f"003{suffix}", mask)

    return spoil


def _empty_images(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.rename(path.with_suffix(".webp"))


def _truncate(root: Path) -> None:
    path = root / "images" / "001.bmp"
    path.write_bytes(path.read_bytes()[:100])


def _declare(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "classes.txt").write_text(text)


def _colored(*colors: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros((12, 10, 3), np.uint8)
    mask[0, : len(colors)] = colors
    return mask


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "image without mask": (_remove("masks/002.png"), r"1 of 4 images in .*images' without mask: 002; "),
    "mask without image": (_remove("images/002.bmp"), r"1 of 4 masks in .*masks' without image: 002; remove"),
    "mask in a format of its own": (
        lambda root: (root / "masks" / "002.png").rename(root / "masks" / "002.mat"),
        r"without mask: 002; .* \(\.mat files are not read, but \.png, \.jpg.*\.npy\)",
    ),
    "sizes differ": (
        _one_mask(some_mask(255, width=11)),
        r"003\.bmp' is 10 x 12 but its mask .*003\.png' is 11 x 12",
    ),
    "truncated": (_truncate, r"001\.bmp' cannot be read .*remove it"),
    "undeclared": (_declare("255 nucleus"), r"mask values 128 are not in .*classes\.txt' .*000\.png"),
    "class without pixel": (_declare("128 a\n255 b\n7 c\n"), r"class 'c' has no pixel in any mask"),
    "bad declaration": (_declare("128\n"), r"line 1 of .*classes\.txt' is '128'"),
    "declared twice": (_declare("128 a\n128 b\n"), r"line 2 of .* repeats '128 b'"),
    "no class declared": (_declare("128 background\n255 ignore\n"), r"classes\.txt' names no class"),
    "colours declared": (_declare("#ff0000 a"), r"mask colours #808080, #ffffff are not in .*classes\.txt'"),
    "values declared, masks in colour": (
        lambda root: (_declare("1 a")(root), _each_mask(lambda: _colored(RED))(root)),
        r"000\.png' is in colour, so its pixels name no class",
    ),
    "only background": (_each_mask(some_mask), r"hold no value but 0, so there is no class"),
    "noise": (
        _each_mask(lambda: some_image()[..., 0]),
        r"hold the values .*\(\d\d+ in all\), too many for classes: .*classes\.txt",
    ),
    "noise in colour": (_each_mask(some_image), r"hold the colours #.*\(\d\d+ in all\), too many for classes: "),
    "blurred": (
        _each_mask(lambda: some_mask(255, 255), ".jpg"),
        r"000\.jpg' holds the values .* blurred by its format: save .*PNG",
    ),
    "blurred in colour": (
        _each_mask(lambda: _colored(RED, RED, GREEN, GREEN), ".jpg"),
        r"000\.jpg' holds the colours #.* blurred by its format",
    ),
    "no black": (
        _each_mask(lambda: np.broadcast_to(_colored(RED, WHITE)[:1, :2].repeat(5, 1), (12, 10, 3)).copy()),
        r"no mask in .* holds black, .*classes\.txt, such as `#ffffff background`",
    ),
    "values and colours": (
        _one_mask(_colored(RED)),
        r"003\.png' is in colour but .*000\.png' holds the values 0, 128, 255: save all masks of a folder in one way",
    ),
    "values and planes": (
        _one_mask(np.zeros((3, 12, 10), bool), ".npy"),
        r"003\.npy' holds planes but .*000\.png' one value a pixel: save all",
    ),
    "planes and fewer planes": (
        lambda root: (
            _each_mask(lambda: np.ones((3, 12, 10), bool), ".npy")(root),
            np.save(root / "masks" / "002.npy", np.ones((2, 12, 10))),
        ),
        r"000\.npy' holds 3 planes but .*002\.npy' 2: all must hold one for each class",
    ),
    "planes of another size": (
        _each_mask(lambda: np.ones((3, 12, 11), bool), ".npy"),
        r"000\.npy' has the shape \(3, 12, 11\), and its image is 12 high and 10 wide",
    ),
    "negative values": (
        _one_mask(np.full((12, 10), -1, np.int16), ".npy"),
        r"003\.npy' holds the value -1: say in a file classes\.txt .* `-1 ignore`",
    ),
    "some masks 0 and 1, some 0 and 255": (
        lambda root: (
            _each_mask(lambda: some_mask(1))(root),
            write_picture(root / "masks" / "002.png", some_mask(255)),
        ),
        r"000\.png' holds 1 but .*002\.png' 255, and no mask both, .* in one way, .* name both .*classes\.txt",
    ),
    "255 beside small values": (
        _each_mask(lambda: some_mask(1, 2, 255)),
        r"000\.png' holds 255 beside small values \(1, 2\): say what it is .*classes\.txt, such as `255 ignore`",
    ),
    "255 beside one": (_each_mask(lambda: some_mask(1, 255)), r"000\.png' holds 255 beside small values \(1\): say"),
    "several values without 0": (
        _each_mask(lambda: some_mask(1, 2) + np.uint8(1)),
        r"no mask in .* holds 0 but the values 1, 2, 3, .*classes\.txt, such as `1 background`",
    ),
    "NaN": (_one_mask(np.full((12, 10), np.nan), ".npy"), r"003\.npy' holds NaN or infinity in 120 of 120 pixels"),
    "two of one name": (
        lambda root: write_picture(root / "images" / "002.png", some_image()),
        r"002\.bmp' and .*002\.png' differ only",
    ),
    "no masks": (lambda root: (root / "masks").rename(root / "labels"), r"has images/ but no masks/: it must hold"),
    "no images": (lambda root: (root / "images").rename(root / "pictures"), r"has no images/: it must hold images/"),
    "empty images": (_empty_images, r"images' holds no picture: .* \(\.webp files are not read"),
    "images twice": (lambda root: index_folder(root / "train"), r"exclude each other: keep one"),
    "masks and class folders": (
        lambda root: write_picture(root / "masks" / "red" / "000.png", some_mask(1)),
        r"holds both masks and folders \(red\)",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_folder_is_told_in_one_line(tmp_path: Path, broken: str) -> None:
    spoil, message = BROKEN[broken]
    root = index_folder(tmp_path / "data")
    load(str(root))  # also keeps it: what was kept must not hide the fault
    spoil(root)
    refuse(root, message)


def test_class_folders_that_do_not_pair(tmp_path: Path) -> None:
    root = class_folder(tmp_path)
    write_picture(root / "images" / "late.png", some_image())
    refuse(root, r"1 of 5 images .* without mask: late; .* in the folder of a class")
    (root / "images" / "late.png").unlink()
    write_picture(root / "masks" / "red" / "odd.png", some_mask(255))
    refuse(root, r"1 of 5 masks .* without image: odd")
    (root / "masks" / "red" / "odd.png").unlink()
    (root / "classes.txt").write_text("1 red")
    refuse(root, "remove the one or the other")
    (root / "classes.txt").unlink()
    for path in (root / "masks" / "red").iterdir():
        write_picture(path, some_mask(100, 100))
    refuse(root, r"class 'red' has no pixel .* mask_threshold 0\.5")


@pytest.mark.parametrize("closed", ["", "images", "masks"])
def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    close(index_folder(tmp_path / "cells") / closed, monkeypatch)
    refuse(
        tmp_path / "cells",
        rf"{closed or 'cells'}[^']*' cannot be read \(Permission denied\): see to it that you may read",
    )


def test_a_missing_and_an_empty_folder(tmp_path: Path) -> None:
    refuse(tmp_path, "is empty: it must hold images/")
    refuse(tmp_path / "none", "does not exist")
    (tmp_path / "file").touch()
    refuse(tmp_path / "file", "is no folder")
