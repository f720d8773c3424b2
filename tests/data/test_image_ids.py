"""Which images numbers and names stand for."""

import pytest

from data.image_ids import find_images
from data.input_error import InputError

RETINAS = ["im0001", "im0002", "im0044", "im0077", "im0324"]


def found(text: str, names: list[str], groups: list[str | None] | None = None) -> list[str]:
    """The names of the images that the text stands for."""
    of_group = groups or [None] * len(names)
    return [names[index] for index in find_images(text, names, of_group, setting="train_ids", source="made")]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1", ["im0001"]),
        ("0001", ["im0001"]),
        ("im0044", ["im0044"]),
        ("1-77", ["im0001", "im0002", "im0044", "im0077"]),
        ("324, 1,im0044", ["im0001", "im0044", "im0324"]),
        ("1,1-2,im0002,", ["im0001", "im0002"]),
        ("40 - 50", ["im0044"]),
    ],
)
def test_numbers_ranges_and_names(text: str, names: list[str]) -> None:
    assert found(text, RETINAS) == names


@pytest.mark.parametrize(
    ("names", "number", "name"),
    [
        (["IDRiD_01", "IDRiD_02"], "1", "IDRiD_01"),
        (["21_training", "22_training"], "22", "22_training"),
        (["image001", "image027"], "27", "image027"),
        (["scan_006_v2", "scan_007_v2", "scan_008_v2"], "7", "scan_007_v2"),
        (["2024_1", "2025_2", "2026_3"], "2", "2025_2"),
        (["12", "a13", "b"], "13", "a13"),
        (["7", "a1", "1"], "1", "1"),
        (["a-1", "a-2", "1-2"], "1-2", "1-2"),
    ],
)
def test_the_number_of_a_name_is_the_one_that_tells_it_from_the_others(
    names: list[str], number: str, name: str
) -> None:
    assert found(number, names) == [name]


def test_a_number_stands_for_all_images_of_one_patient() -> None:
    names = ["Image_01L", "Image_01R", "Image_02L", "Image_02R"]
    assert found("1", names, ["1", "1", "2", "2"]) == ["Image_01L", "Image_01R"]
    assert found("1-2", names, ["1", "1", "2", "2"]) == names
    for groups in (None, ["left", "right", "left", "right"]):
        with pytest.raises(InputError, match=r"number 1 stands for several .*'Image_01L', 'Image_01R'\).*--group-by"):
            found("1", names, groups)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3", "train_ids '3' names no image of 'made'; there are 5, from 'im0001' to 'im0324'"),
        ("100-200", "train_ids '100-200' names no image"),
        ("im0004", "train_ids 'im0004' names no image .* Did you mean 'im00"),
        ("9-1", "train_ids '9-1' is turned round: write 1-9"),
        ("1;2", "train_ids '1;2' names no image"),
        ("", "train_ids '' names no image: write numbers or names"),
        (" , ", "names no image: write numbers or names"),
        ("9" * 5000, "names no image of 'made'"),
    ],
    ids=lambda value: value[:20],
)
def test_what_names_no_image_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        found(text, RETINAS)


def test_names_without_a_number_have_to_be_written() -> None:
    assert found("cat", ["cat", "dog"]) == ["cat"]
    with pytest.raises(InputError, match="'1' names no image"):
        found("1", ["cat", "dog"])
