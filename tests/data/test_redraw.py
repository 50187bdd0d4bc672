from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relearn.data.images import Split, Stream
from relearn.data.redraw import BASE_SPLITS, base_classes, redraw
from relearn.errors import DataError

NAMES = tuple("abcdefgh")


def stream(sizes, splits=BASE_SPLITS):
    """``sizes`` maps a class number to its images, dealt to the splits in turn, all different.

    Pixel 0 and 1 tell which image it is, pixel 2 of which class.
    """
    dealt = {name: [] for name in splits}
    everyone = [(number, i) for number, size in sorted(sizes.items()) for i in range(size)]
    for place, (number, _) in enumerate(everyone):
        dealt[splits[place % len(splits)]].append([place % 256, place // 256, number, 0])
    made = {}
    for name, pixels in dealt.items():
        images = torch.tensor(pixels, dtype=torch.uint8).view(-1, 1, 2, 2)
        made[name] = Split(images, images[:, 0, 1, 0].long())
    unseen = Split(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0]))
    return Stream(made | {"transfer_support": unseen}, NAMES, torch.full((8,), -1))


def pictures(split):
    return [tuple(p.tolist()) for p in split.images.flatten(1)]


def drawn(source, train=20, validation=30, seed=0):
    return redraw(source, train_images=train, validation_images=validation, seed=seed)


SIZES = {1: 50, 3: 40, 4: 30}
SOURCE = stream(SIZES)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40), st.integers(0, 3))
def test_every_image_of_the_base_classes_is_used_once(train, validation, seed):
    splits = drawn(SOURCE, train, validation, seed)
    assert [len(splits[name]) for name in BASE_SPLITS] == [
        train,
        validation,
        120 - train - validation,
    ]
    together = [p for split in splits.values() for p in pictures(split)]
    assert sorted(together) == sorted(p for n in BASE_SPLITS for p in pictures(SOURCE.splits[n]))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(12, 40), min_size=2, max_size=5), st.integers(10, 12), st.integers(0, 3)
)
def test_every_class_has_its_share_of_every_split(sizes, train, seed):
    source, total = stream(dict(enumerate(sizes))), sum(sizes)
    splits = drawn(source, train, 10, seed)
    for number, size in enumerate(sizes):
        for name, count in (("train", train), ("validation", 10)):
            has = int((splits[name].labels == number).sum())
            assert abs(has - count * size / total) < 1 or has == 1
        assert (splits["test"].labels == number).any()


@pytest.mark.parametrize("train", [0, 20])
def test_labels_are_positions_among_the_base_classes(train):
    classes = base_classes(SOURCE)
    assert classes.tolist() == [1, 3, 4]
    for split in drawn(SOURCE, train=train).values():
        assert split.classes.tolist() == [0, 1, 2]
        assert torch.equal(classes[split.labels], split.images[:, 0, 1, 0].long())


def test_a_draw_is_a_function_of_the_seed():
    torch.manual_seed(5)
    first = drawn(SOURCE)
    torch.manual_seed(6)
    again, other = drawn(SOURCE), drawn(SOURCE, seed=1)
    assert all(torch.equal(first[n].images, again[n].images) for n in BASE_SPLITS)
    assert all(not torch.equal(first[n].images, other[n].images) for n in ("train", "validation"))


def test_a_class_is_drawn_alike_whatever_the_other_classes_are_called():
    renamed = replace(SOURCE, class_names=("a", "b", "c", "changed", "e", "f", "g", "h"))
    first, second = drawn(SOURCE)["train"], drawn(renamed)["train"]
    for number in (0, 2):
        mine, theirs = (s.images[s.labels == number] for s in (first, second))
        assert torch.equal(mine, theirs)
    assert not torch.equal(first.images, second.images)


def test_asking_for_more_keeps_what_was_drawn():
    few, more = drawn(SOURCE, 12, 12), drawn(SOURCE, 24, 12)
    assert set(pictures(few["train"])) < set(pictures(more["train"]))
    assert pictures(few["validation"]) == pictures(more["validation"])


def test_every_image_trains_in_some_draw():
    seen = {p for seed in range(40) for p in pictures(drawn(SOURCE, seed=seed)["train"])}
    assert len(seen) == 120


def test_zero_keeps_the_streams_own_splits():
    kept = drawn(SOURCE, train=0, validation=0)
    assert list(kept) == list(BASE_SPLITS)
    assert all(torch.equal(kept[n].images, SOURCE.splits[n].images) for n in BASE_SPLITS)


def test_a_stream_without_a_test_split_can_be_redrawn_but_not_kept():
    source = stream(SIZES, ("train", "validation"))
    assert len(drawn(source)["test"]) == 70
    with pytest.raises(DataError, match=r"samples\.train_images: 0 keeps .* no 'test' split"):
        drawn(source, train=0)


@pytest.mark.parametrize(
    ("train", "validation", "said"),
    [
        (2, 30, r"samples\.train_images: 2 images leave one of the 3 classes .* use 3 or more"),
        (20, 0, r"samples\.validation_images: 0 images leave one of the 3 classes"),
        (60, 58, r"samples\.train_images: train_images 60 and validation_images 58 leave no test"),
        (200, 3, r"base classes have 120 images in all"),
    ],
)
def test_too_few_images_are_one_line_that_names_the_parameter(train, validation, said):
    with pytest.raises(DataError, match=said) as caught:
        drawn(SOURCE, train, validation)
    assert str(caught.value).startswith("forget_relearn.")
    assert "\n" not in str(caught.value)


def test_a_class_that_is_left_without_a_test_image_is_named():
    with pytest.raises(DataError, match=r"class 'b' has 2 images, of which 1 would train and 1"):
        drawn(stream({0: 60, 1: 2}), 20, 20)
    source = stream({0: 60, 1: 2})
    with pytest.raises(DataError, match=r"'\w+' split has no image of class 'b'"):
        drawn(source, train=0)
