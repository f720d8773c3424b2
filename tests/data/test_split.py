from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.input_error import InputError
from data.segmentation_data import Part, SegmentationData, Split, Splitting
from data.split import split_data
from tests.data.folders import data_of


def names_of(data: SegmentationData, indices: tuple[int, ...]) -> set[str]:
    return {data.names[index] for index in indices}


def parts_of(data: SegmentationData, split: Split) -> list[set[str]]:
    return [names_of(data, split.train), names_of(data, split.validation), names_of(data, split.test)]


@st.composite
def grouped_data(draw: st.DrawFn) -> SegmentationData:
    """Data in groups of one to four images; some groups have a part of their owner's, none has two."""
    group_sizes = draw(st.lists(st.integers(1, 4), min_size=3, max_size=8))
    group_parts = [draw(st.sampled_from([None, None, None, *get_args(Part)])) for _ in group_sizes]
    # Three without a part, so that there is always something to draw from.
    group_sizes, group_parts = [1, 1, 1, *group_sizes], [None, None, None, *group_parts]
    count = sum(group_sizes)
    classes = draw(st.integers(1, 4))
    cells = draw(st.lists(st.booleans(), min_size=count * classes, max_size=count * classes))
    groups: list[str | None] = []
    parts: list[Part | None] = []
    for number, (size, part) in enumerate(zip(group_sizes, group_parts, strict=True)):
        # A single image may also have no group at all.
        groups += [f"patient_{number}" if size > 1 or number % 2 else None] * size
        parts += [part] * size
    held = np.array(cells).reshape(count, classes)
    return data_of(held, parts=tuple(parts), groups=tuple(groups))


def permuted(data: SegmentationData, order: list[int]) -> SegmentationData:
    changes: dict[str, Any] = {
        name: tuple(getattr(data, name)[index] for index in order) for name in ("names", "parts", "groups")
    }
    held = data.masks[order, :, 0, 0].astype(bool)
    return data_of(held, **changes)


@settings(max_examples=80, deadline=None)
@given(data=grouped_data(), seed=st.integers(0, 5), test_fraction=st.sampled_from([0.0, 0.2]), shuffle=st.randoms())
def test_a_split_is_a_partition_that_parts_no_group(
    data: SegmentationData, seed: int, test_fraction: float, shuffle: Any
) -> None:
    if "test" in data.parts:
        test_fraction = 0.0
    if "validation" in data.parts and not test_fraction:
        seed = 0  # nothing is drawn
    split = split_data(data, Splitting(split_seed=seed, test_fraction=test_fraction))[0]
    assert sorted(split.train + split.validation + split.test) == list(range(len(data.names)))
    assert split.train and split.validation
    assert bool(split.test) == (test_fraction > 0 or "test" in data.parts)
    groups = [{data.groups[index] for index in part} - {None} for part in (split.train, split.validation, split.test)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    for part, indices in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        assert {index for index, owned in enumerate(data.parts) if owned == part and part != "train"} <= set(indices)
    order = list(range(len(data.names)))
    shuffle.shuffle(order)
    other = permuted(data, order)
    again = split_data(other, Splitting(split_seed=seed, test_fraction=test_fraction))[0]
    assert parts_of(other, again) == parts_of(data, split), "the order of the files does not matter"


def test_the_owner_decides() -> None:
    parts: tuple[Part, ...] = ("test", "train", "validation", "train", "test")
    data = data_of(np.ones((5, 1), bool), parts=parts)
    assert split_data(data)[0] == Split(train=(1, 3), validation=(2,), test=(0, 4))


def test_validation_is_drawn_from_the_owners_train() -> None:
    parts: tuple[Part, ...] = ("train",) * 10 + ("test",) * 5
    data = data_of(np.ones((15, 1), bool), parts=parts)
    splits = [split_data(data, Splitting(split_seed=seed))[0] for seed in range(5)]
    assert all(split.test == (10, 11, 12, 13, 14) for split in splits)
    assert all(len(split.train) == 8 and len(split.validation) == 2 for split in splits)
    assert len({split.validation for split in splits}) > 1, "another seed draws others"


def test_fractions_are_kept() -> None:
    data = data_of(np.ones((50, 1), bool))
    split = split_data(data, Splitting(validation_fraction=0.3, test_fraction=0.1))[0]
    assert (len(split.train), len(split.validation), len(split.test)) == (30, 15, 5)


def test_the_draw_never_changes() -> None:
    data = data_of(np.array([[index % 2 == 0, index % 5 == 0] for index in range(12)]))
    # Not to be adapted: runs that were recorded rely on their seed giving the same parts.
    assert [split_data(data, Splitting(split_seed=seed))[0].validation for seed in (0, 4)] == [(0, 7), (0, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_a_rare_class_is_in_train_and_in_validation(seed: int) -> None:
    held = np.zeros((40, 3), bool)
    held[:, 0] = True
    held[[7, 31], 1] = True  # two images
    held[[7, 11, 12], 2] = True
    split = split_data(data_of(held), Splitting(split_seed=seed))[0]
    for index in range(3):
        assert held[list(split.train), index].any() and held[list(split.validation), index].any()
    assert len(split.validation) == 8


@pytest.mark.parametrize("seed", range(20))
def test_a_class_of_one_image_is_taught(seed: int) -> None:
    held = np.zeros((10, 2), bool)
    held[:, 0] = True
    held[3, 1] = True
    assert 3 in split_data(data_of(held), Splitting(split_seed=seed))[0].train


def test_every_part_gets_its_share_of_every_class() -> None:
    held = np.zeros((100, 2), bool)
    held[:30, 0] = True
    held[20:50, 1] = True
    split = split_data(data_of(held), Splitting(split_seed=1, validation_fraction=0.2, test_fraction=0.2))[0]
    for part in (split.validation, split.test):
        assert len(part) == pytest.approx(20, abs=2)
        np.testing.assert_allclose(held[list(part)].sum(axis=0), 6, atol=1)


def test_a_pixel_that_does_not_count_is_no_class() -> None:
    held = np.zeros((4, 1), bool)
    held[[0, 1, 2], 0] = True
    data = data_of(held, counting=(True, True, False, True))
    for seed in range(10):
        split = split_data(data, Splitting(split_seed=seed, validation_fraction=0.5))[0]
        assert len({0, 1} & set(split.train)) == 1, "the two images whose pixels count are dealt out, one each"


def test_classes_apart_still_leave_an_image_to_choose_by() -> None:
    split = split_data(data_of(np.eye(2, dtype=bool)))[0]
    assert len(split.train) == len(split.validation) == 1


def test_too_few_images() -> None:
    with pytest.raises(InputError, match=r"has 1 image\(s\) .* 2 or more are needed"):
        split_data(data_of(np.ones((1, 1), bool)))[0]
    with pytest.raises(InputError, match=r"has 1 image\(s\)"):
        split_data(data_of(np.ones((5, 1), bool), groups=("one patient",) * 5))[0]
    with pytest.raises(InputError, match=r"has 0 image\(s\)"):
        split_data(data_of(np.ones((2, 1), bool), parts=("validation", "test")))[0]
    assert len(split_data(data_of(np.ones((2, 1), bool)))[0].train) == 1
    with pytest.raises(InputError, match="3 or more"):
        split_data(data_of(np.ones((2, 1), bool)), Splitting(test_fraction=0.2))[0]


def test_a_group_in_two_parts() -> None:
    data = data_of(np.ones((4, 1), bool), parts=("train", "test", "train", "test"), groups=("p", "p", "q", "r"))
    with pytest.raises(InputError, match="group 'p' of 'made' stands in test and train"):
        split_data(data)[0]


def test_a_group_follows_its_member_with_a_part() -> None:
    parts: tuple[Part | None, ...] = (None, "test", None, None, None)
    data = data_of(np.ones((5, 1), bool), parts=parts, groups=("p", "p", None, None, None))
    assert split_data(data)[0].test == (0, 1)


@pytest.mark.parametrize(
    "fractions", [(0.0, 0.0), (1.0, 0.0), (-0.1, 0.0), (0.5, 0.5), (0.2, -0.1), (float("nan"), 0.0)]
)
def test_fractions_out_of_range(fractions: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="_fraction"):
        split_data(
            data_of(np.ones((9, 1), bool)), Splitting(validation_fraction=fractions[0], test_fraction=fractions[1])
        )[0]


def named(count: int, pattern: str = "im{:04}", **facts: Any) -> SegmentationData:
    """Data of one class whose images are called im0001 and on."""
    names = tuple(pattern.format(number) for number in range(1, count + 1))
    return data_of(np.ones((count, 1), bool), names=names, **facts)


def numbers_of(data: SegmentationData, **splitting: Any) -> list[list[int]]:
    """The images of each part of the split, counted from 1."""
    (split,) = split_data(data, Splitting(**splitting))
    return [[index + 1 for index in part] for part in (split.train, split.validation, split.test)]


def test_with_train_ids_whoever_is_not_named_is_kept_for_the_end() -> None:
    data = named(89, "image{:03}")
    train, validation, test = numbers_of(data, train_ids="1-27")
    assert sorted(train + validation) == list(range(1, 28))
    assert len(validation) == 5
    assert test == list(range(28, 90))


def test_ids_stand_above_the_owners_parts() -> None:
    parts: tuple[Part, ...] = ("train",) * 4 + ("validation",) * 2 + ("test",) * 4
    data = named(10, parts=parts)
    assert numbers_of(data) == [[1, 2, 3, 4], [5, 6], [7, 8, 9, 10]]
    assert numbers_of(data, train_ids="1-3,7", validation_ids="4") == [[1, 2, 3, 7], [4], [5, 6, 8, 9, 10]]
    assert numbers_of(data, train_ids="1-3,7", test_ids="10", validation_fraction=0.25)[2] == [4, 5, 6, 8, 9, 10]
    assert numbers_of(data, validation_ids="1,im0002") == [[3, 4, 5, 6], [1, 2], [7, 8, 9, 10]]
    assert numbers_of(data, test_ids="1")[1:] == [[5, 6], [1, 7, 8, 9, 10]]


@settings(max_examples=60, deadline=None)
@given(data=grouped_data(), fold_count=st.integers(2, 3), seed=st.integers(0, 3), shuffle=st.randoms())
def test_in_folds_every_image_chooses_once_and_no_group_is_parted(
    data: SegmentationData, fold_count: int, seed: int, shuffle: Any
) -> None:
    splitting = Splitting(folds=fold_count, split_seed=seed)
    folds = split_data(data, splitting)
    assert len(folds) == fold_count
    test = tuple(index for index, part in enumerate(data.parts) if part == "test")
    learning = sorted(set(range(len(data.names))) - set(test))
    assert sorted(index for fold in folds for index in fold.validation) == learning
    for fold in folds:
        assert fold.test == test
        assert fold.train and fold.validation
        assert sorted(fold.train + fold.validation) == learning
        parted = {data.groups[index] for index in fold.train} & {data.groups[index] for index in fold.validation}
        assert parted <= {None}
    order = list(range(len(data.names)))
    shuffle.shuffle(order)
    other = permuted(data, order)
    again = [parts_of(other, fold) for fold in split_data(other, splitting)]
    assert again == [parts_of(data, fold) for fold in folds], "the order of the files does not matter"


@pytest.mark.parametrize("seed", range(10))
def test_every_fold_has_its_share_of_every_class(seed: int) -> None:
    held = np.zeros((40, 3), bool)
    held[:, 0] = True
    held[:10, 1] = True
    held[[3, 21], 2] = True  # two images: each chooses in one fold
    for fold in split_data(data_of(held), Splitting(folds=5, split_seed=seed)):
        assert (len(fold.train), len(fold.validation)) == (32, 8)
        assert held[list(fold.validation), 1].sum() == 2
        assert held[list(fold.train), 2].any()


def test_a_test_part_is_drawn_before_the_folds() -> None:
    folds = split_data(named(25), Splitting(folds=4, test_fraction=0.2))
    assert len(folds[0].test) == 5
    assert {fold.test for fold in folds} == {folds[0].test}
    assert [len(fold.validation) for fold in folds] == [5, 5, 5, 5]


def test_folds_are_drawn_from_what_ids_leave() -> None:
    folds = split_data(named(10, parts=("train",) * 5 + ("validation",) * 5), Splitting(folds=3, train_ids="1-6"))
    assert sorted(index + 1 for fold in folds for index in fold.validation) == [1, 2, 3, 4, 5, 6]
    assert all(fold.test == (6, 7, 8, 9) for fold in folds)


def test_the_draw_of_folds_never_changes() -> None:
    data = data_of(np.array([[index % 2 == 0, index % 5 == 0] for index in range(12)]))
    # Not to be adapted: runs that were recorded rely on their seed giving the same folds.
    folds = split_data(data, Splitting(folds=3, split_seed=1))
    assert [fold.validation for fold in folds] == [(0, 3, 6, 7), (1, 4, 10, 11), (2, 5, 8, 9)]


@pytest.mark.parametrize("images_a_class", [1, 2])
def test_no_fold_gets_all_that_is_rare(images_a_class: int) -> None:
    held = np.repeat(np.eye(20, dtype=bool), images_a_class, axis=0)
    for seed in range(5):
        folds = split_data(data_of(held), Splitting(folds=5, split_seed=seed))
        assert {len(fold.validation) for fold in folds} == {4 * images_a_class}


def test_what_is_lost_at_a_small_size_does_not_change_the_parts() -> None:
    held = np.array([[True, index in (3, 8, 15)] for index in range(20)])
    native = data_of(held)
    gone = native.statistics.class_pixels.copy()
    gone[:, 1] = 0
    shrunk = replace(native, statistics=replace(native.statistics, class_pixels=gone))
    for seed in range(5):
        splitting = Splitting(split_seed=seed, test_fraction=0.2)
        assert split_data(shrunk, splitting) == split_data(native, splitting)


def test_what_the_owner_keeps_for_the_end_never_teaches() -> None:
    data = named(10, parts=("train",) * 6 + ("test",) * 4)
    (split,) = split_data(data, Splitting(test_ids="1"))
    assert split.test == (0, 6, 7, 8, 9)


def test_an_expression_tells_the_patients() -> None:
    names = ("p1_left", "p1_right", "p2_left", "p2_right", "p4_left", "p3_left")
    data = data_of(np.ones((6, 1), bool), names=names, groups=("one",) * 6)
    for seed in range(10):
        for pattern in (r"^p\d+", r"^(p\d+)_", r"^(?P<patient>p\d+)"):
            (split,) = split_data(data, Splitting(group_by=pattern, split_seed=seed))
            for part in (split.train, split.validation):
                assert len({0, 1} & set(part)) != 1 and len({2, 3} & set(part)) != 1
    with pytest.raises(InputError, match=r"has 4 image\(s\) or group\(s\)|folds 5 is more than the 4 image"):
        split_data(data, Splitting(group_by=r"^p\d+", folds=5))


@pytest.mark.parametrize(
    ("splitting", "words"),
    [
        ({"group_by": "("}, r"group_by '\(' is no regular expression \(missing \), unterminated"),
        ({"group_by": "patient"}, "group_by 'patient' finds nothing in 6 of 6 names of 'made', such as 'im0001'"),
        ({"group_by": "im000[1-4]"}, "finds nothing in 2 of 6 names of 'made', such as 'im0005'"),
        ({"group_by": "im"}, "has 1 image.* see whether group_by 'im' tells the patients apart"),
        ({"train_ids": "1"}, "has 1 image.*: name more --train-ids"),
        ({"folds": 0}, "folds 0 must be 1 or more"),
        ({"folds": 7}, r"folds 7 is more than the 6 image\(s\) or group\(s\) of 'made'"),
        ({"folds": 6, "test_fraction": 0.2}, "folds 6 is more than the 5"),
        ({"folds": 2, "validation_ids": "1"}, "validation_ids '1' and folds 2 cannot both be"),
        ({"folds": 2, "validation_fraction": 0.4}, "validation_fraction 0.4 and folds 2 cannot both be"),
        ({"validation_ids": "1", "split_seed": 7}, "split_seed 7 would do nothing: all parts of 'made' are named"),
        ({"train_ids": "1-3", "test_ids": "im0002"}, "image 'im0002' stands in train_ids and in test_ids"),
        ({"train_ids": "9"}, "train_ids '9' names no image of 'made'"),
        ({"validation_ids": "1-6"}, r"has 0 image\(s\) or group\(s\) that may teach"),
        ({"train_ids": "1,2,3", "group_by": r"^im000(?:[1256]|(?=[34]))"}, "stands in test and train"),
    ],
    ids=str,
)
def test_what_cannot_be_split_is_refused_in_one_line(splitting: dict[str, Any], words: str) -> None:
    data = named(6)
    with pytest.raises(InputError, match=words) as refusal:
        split_data(data, Splitting(**splitting))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"test_fraction": 0.4}, r"test_fraction 0.4 would do nothing: the test part of .* \(2 images"),
        (
            {"validation_fraction": 0.4},
            r"validation_fraction 0.4 would do nothing: the validation part of .* \(1 images",
        ),
    ],
)
def test_a_fraction_of_a_part_that_is_named_already_is_refused(asked: dict[str, float], words: str) -> None:
    data = data_of(np.ones((9, 1), bool))
    ids = {"validation_ids": data.names[0], "test_ids": f"{data.names[1]},{data.names[2]}"}
    assert len(split_data(data, Splitting(**ids))[0].test) == 2
    with pytest.raises(InputError, match=words):
        split_data(data, Splitting(**ids, **asked))
    usual = split_data(data, Splitting(**ids))
    assert split_data(data, Splitting(**ids, **asked), as_before=True) == usual, "what began with it goes on"


def test_what_began_with_settings_that_do_nothing_goes_on() -> None:
    data = named(6)
    for useful, idle in (({"folds": 2}, {"validation_fraction": 0.4}), ({"validation_ids": "1"}, {"split_seed": 7})):
        assert set(split_data(data, Splitting(**useful | idle), as_before=True)[0].validation) <= set(range(6))
