from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relearn.data.duplicates import OTHER_CLASS, SAME_CLASS
from relearn.data.images import LabelledImages
from relearn.data.randomness import generator_of
from relearn.data.splits import SplitPlan, SplitTable, share_out, split_images, stream_of
from relearn.errors import DataError, ParameterError


def source(sizes, parts=None, part_names=("all",)):
    """Images all different, ``sizes[c]`` of class c."""
    labels = torch.tensor([c for c, size in enumerate(sizes) for _ in range(size)])
    images = torch.randint(
        0, 256, (len(labels), 1, 4, 4), dtype=torch.uint8, generator=generator_of(0, "test.split")
    )
    images[:, 0, 0, 0] = torch.arange(len(labels)) % 256
    images[:, 0, 0, 1] = torch.arange(len(labels)) // 256
    names = tuple(f"c{number:03d}" for number in range(len(sizes)))
    part = torch.zeros_like(labels) if parts is None else torch.tensor(parts)
    return LabelledImages(images, labels, names, part, part_names)


BY_CLASS = SplitPlan(
    base_classes=6, selection_classes=2, transfer_classes=3, support_per_class=3,
    query_per_class=2, tasks=3,
)  # fmt: skip
BY_SAMPLE = SplitPlan(by="sample", train_share=0.6, validation_share=0.2)

plans = st.builds(
    SplitPlan,
    by=st.sampled_from(["class", "sample"]),
    seed=st.integers(0, 5),
    base_classes=st.integers(0, 4),
    selection_classes=st.none() | st.integers(0, 3),
    transfer_classes=st.integers(0, 3),
    train_share=st.sampled_from([0.5, 0.75]),
    validation_share=st.sampled_from([0.0, 0.25]),
    support_per_class=st.integers(0, 3),
    query_per_class=st.integers(0, 3),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(6, 12), min_size=10, max_size=14), plans)
def test_nothing_leaks_from_one_split_to_another(sizes, plan):
    images = source(sizes)
    stream = stream_of(images, split_images(images, plan))
    pictures = [tuple(p.tolist()) for s in stream.splits.values() for p in s.images.flatten(1)]
    assert len(set(pictures)) == len(pictures)
    groups = {}
    for name, split in stream.splits.items():
        groups.setdefault(name.split("_")[0] if "_" in name else "base", set()).update(
            split.classes.tolist()
        )
    together = [number for group in groups.values() for number in group]
    assert len(set(together)) == len(together)  # base, selection and transfer share no class
    assert ("transfer" in groups) == (plan.by == "class")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(5, 30), min_size=2, max_size=6), st.integers(0, 3))
def test_samples_are_divided_alike_in_every_class(sizes, seed):
    images = source(sizes)
    stream = stream_of(images, split_images(images, replace(BY_SAMPLE, seed=seed)))
    for number, size in enumerate(sizes):
        counts = [int((stream.splits[n].labels == number).sum()) for n in stream.splits]
        assert sum(counts) == size
        for count, share in zip(counts, (0.6, 0.2, 0.2), strict=True):
            assert abs(count - share * size) < 1


@given(st.integers(3, 400), st.lists(st.integers(0, 20), min_size=3, max_size=3))
def test_shares_are_given_out_whole_and_to_everyone(count, weights):
    assume(sum(weights) > 0)
    shares = [weight / sum(weights) for weight in weights]
    given_out = share_out(count, shares)
    assert sum(given_out) == count
    assert all((amount > 0) == (share > 0) for amount, share in zip(given_out, shares, strict=True))


def test_fifteen_and_five_of_twenty():
    assert share_out(20, (0.75, 0.25, 0.0)) == [15, 5, 0]


def test_counts_asked_for_are_counts_given():
    images = source([10] * 12)
    table = split_images(images, BY_CLASS)
    stream = stream_of(images, table)
    sizes = {name: (len(split), len(split.classes)) for name, split in stream.splits.items()}
    assert sizes == {
        "train": (48, 6), "validation": (12, 6),
        "selection_support": (6, 2), "selection_query": (4, 2),
        "transfer_support": (9, 3), "transfer_query": (6, 3),
    }  # fmt: skip
    assert table.unused == 120 - 85


def test_no_class_is_kept_for_choices_where_none_is_asked_for():
    images = source([10] * 12)
    stream = stream_of(images, split_images(images, replace(BY_CLASS, selection_classes=None)))
    assert not any(name.startswith("selection") for name in stream.splits)
    assert len(stream.split("transfer_query").classes) == 3
    with pytest.raises(DataError, match=r"no 'selection_query' split.*under data\.split"):
        stream.split("selection_query")


def test_a_split_is_a_function_of_its_seed():
    images = source([8] * 12)
    torch.manual_seed(5)
    first = split_images(images, BY_CLASS)
    torch.manual_seed(6)
    assert split_images(images, BY_CLASS) == first
    assert split_images(images, replace(BY_CLASS, seed=1)) != first


def test_a_class_is_divided_alike_whatever_the_other_classes():
    few, many = source([9] * 3), source([9] * 8)
    rows = {row.index: row.split for row in split_images(many, BY_SAMPLE).rows}
    assert all(rows[row.index] == row.split for row in split_images(few, BY_SAMPLE).rows)


def test_parts_decide_where_classes_come_from():
    sizes = [10] * 16
    parts = [0] * 80 + [1] * 80  # eight classes in each part
    images = source(sizes, parts, ("background", "evaluation"))
    plan = replace(BY_CLASS, base_part="background", transfer_part="evaluation", base_classes=0)
    stream = stream_of(images, split_images(images, plan))
    assert stream.split("train").classes.tolist() == list(range(8))
    for name in ("selection_query", "transfer_support"):
        assert int(stream.split(name).classes.min()) >= 8


def test_by_sample_a_part_becomes_the_test_split_whole():
    parts = ([0] * 6 + [1] * 4) * 5
    images = source([10] * 5, parts, ("train", "test"))
    plan = SplitPlan(
        by="sample", base_part="train", transfer_part="test", train_share=0.5, validation_share=0.5
    )
    stream = stream_of(images, split_images(images, plan))
    assert torch.equal(stream.split("test").images, images.images[images.part == 1])
    assert (len(stream.split("train")), len(stream.split("validation"))) == (15, 15)


def test_numbers_left_at_zero_fit_any_folder():
    images = source([7, 9, 30, 4, 6, 8, 2])
    plan = SplitPlan(train_share=0.75, validation_share=0.25)
    stream = stream_of(images, split_images(images, plan))
    assert all(
        len(stream.split(name).classes) == 2 for name in ("transfer_query", "selection_query")
    )
    assert len(stream.split("train").classes) == 3
    assert int(stream.task_of_class.max()) == 1


def test_the_test_split_may_be_empty():
    images = source([8] * 12)
    stream = stream_of(images, split_images(images, BY_CLASS))
    assert "test" not in stream.splits
    with pytest.raises(DataError, match="no 'test' split"):
        stream.split("test")


def test_tasks_cover_the_classes_once_and_evenly():
    images = source([10] * 12)
    by_class = stream_of(images, split_images(images, BY_CLASS))
    unseen = by_class.split("transfer_query").classes
    assert sorted(by_class.task_of_class[unseen].tolist()) == [0, 1, 2]
    assert int((by_class.task_of_class >= 0).sum()) == 3
    by_sample = stream_of(images, split_images(images, replace(BY_SAMPLE, tasks=5)))
    assert sorted(torch.bincount(by_sample.task_of_class).tolist()) == [2, 2, 2, 3, 3]


def copied(images, pairs):
    pixels = images.images.clone()
    for first, second in pairs:
        pixels[second] = pixels[first]
    return replace(images, images=pixels)


def test_of_identical_images_one_is_kept_and_the_others_reported():
    images = copied(source([8] * 3), [(0, 3), (0, 5)])
    table = split_images(images, BY_SAMPLE)
    assert [(d.index, d.kept, d.reason) for d in table.duplicates] == [
        (3, 0, SAME_CLASS),
        (5, 0, SAME_CLASS),
    ]
    assert {0} <= {row.index for row in table.rows}
    assert {3, 5}.isdisjoint(row.index for row in table.rows)


def test_identical_images_with_different_labels_are_all_dropped():
    table = split_images(copied(source([8] * 3), [(0, 12)]), BY_SAMPLE)
    assert [(d.index, d.kept, d.reason) for d in table.duplicates] == [
        (0, -1, OTHER_CLASS),
        (12, -1, OTHER_CLASS),
    ]
    assert {0, 12}.isdisjoint(row.index for row in table.rows)


def test_the_copy_in_the_held_out_part_is_kept():
    images = copied(source([10] * 3, ([0] * 6 + [1] * 4) * 3, ("train", "test")), [(0, 7)])
    plan = replace(BY_SAMPLE, base_part="train", transfer_part="test")
    (dropped,) = split_images(images, plan).duplicates
    assert (dropped.index, dropped.kept) == (0, 7)


def test_classes_with_too_few_images_are_not_drawn_for_transfer():
    images = source([3, 3, 3, 3, 3, 3, 10, 10, 10, 10, 10])
    stream = stream_of(images, split_images(images, replace(BY_CLASS, base_classes=0)))
    assert int(stream.split("transfer_query").classes.min()) >= 6
    assert int(stream.split("selection_query").classes.min()) >= 6


def test_too_few_images_for_the_episode_names_what_is_needed():
    with pytest.raises(
        DataError,
        match=r"data\.split\.transfer_classes: 3 transfer and 2 selection.*5 classes with 5 or more"
        r".*support 3 \+ query 2.*got 0, the smallest class has 4",
    ):
        split_images(source([4] * 12), BY_CLASS)


def test_too_few_classes_names_the_parameter():
    with pytest.raises(DataError, match=r"data\.split\.base_classes: 5 classes.*needed are 6"):
        split_images(source([10] * 10), BY_CLASS)
    with pytest.raises(DataError, match=r"data\.split\.transfer_classes: .*got 3.*by=sample"):
        split_images(source([10] * 3), SplitPlan())


def test_too_few_images_of_a_base_class_names_the_class():
    with pytest.raises(
        DataError, match=r"data\.split\.validation_share: class 'c001' has 2 distinct.*need 3"
    ):
        split_images(source([8, 2, 8]), BY_SAMPLE)


def test_too_many_tasks_are_refused():
    with pytest.raises(DataError, match=r"data\.split\.tasks: got 4, expected 1 to 3"):
        split_images(source([10] * 12), replace(BY_CLASS, tasks=4))


def test_unknown_and_equal_parts_are_refused():
    images = source([10] * 4, ([0] * 6 + [1] * 4) * 4, ("train", "test"))
    with pytest.raises(ParameterError, match=r"data\.split\.base_part: 'tain'.*mean train"):
        split_images(images, replace(BY_SAMPLE, base_part="tain"))
    with pytest.raises(ParameterError, match=r"data\.split\.transfer_part: 'test' is base_part"):
        split_images(images, replace(BY_SAMPLE, base_part="test", transfer_part="test"))


def table_and_images():
    images = source([10] * 12)
    return split_images(images, BY_CLASS), images


def test_the_table_survives_a_file():
    table, images = table_and_images()
    again = SplitTable.from_columns(table.columns())
    assert again.rows == table.rows
    assert stream_of(images, again).digest == stream_of(images, table).digest


def test_the_stream_obeys_the_table():
    table, images = table_and_images()
    shorter = replace(table, rows=tuple(row for row in table.rows if row.split != "validation"))
    stream = stream_of(images, shorter)
    assert "validation" not in stream.splits
    assert len(stream.split("train")) == 48


def test_names_that_a_spreadsheet_took_for_numbers_are_recognised():
    images = replace(source([6, 6]), class_names=("007", "1.10"))
    columns = split_images(images, BY_SAMPLE).columns()
    columns["class"] = [float(name) for name in columns["class"]]
    stream = stream_of(images, SplitTable.from_columns(columns))
    assert len(stream.split("train")) == 8


def edited(columns, row, **changes):
    return {
        name: [changes.get(name, value) if i == row else value for i, value in enumerate(values)]
        for name, values in columns.items()
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": 500}, "there are 120 images"),
        ({"index": -1}, "there are 120 images"),
        ({"split": "trian"}, "did you mean train"),
        ({"class": "other"}, "its class is 'c0"),
        ({"split": "transfer_support"}, "is both in"),
        ({"task": 7}, "has two tasks"),
        ({"task": "x"}, "must be whole numbers"),
    ],
    ids=str,
)
def test_a_table_that_does_not_fit_is_refused(changes, message):
    table, images = table_and_images()
    first = next(i for i, row in enumerate(table.rows) if row.split == "train")
    with pytest.raises(DataError, match=rf"splits\.csv: .*{message}.*prepare_data"):
        stream_of(images, SplitTable.from_columns(edited(table.columns(), first, **changes)))


def test_a_table_with_a_row_twice_a_column_less_or_no_training_is_refused():
    table, images = table_and_images()
    with pytest.raises(DataError, match="stands there twice"):
        stream_of(images, replace(table, rows=(*table.rows, table.rows[0])))
    with pytest.raises(DataError, match="columns task are missing"):
        SplitTable.from_columns({k: v for k, v in table.columns().items() if k != "task"})
    with pytest.raises(DataError, match="no row is in the train split"):
        stream_of(images, replace(table, rows=table.rows[:0]))


def test_identical_images_put_back_by_hand_are_found():
    table, images = table_and_images()
    rows = [row for row in table.rows if row.split in ("train", "validation")]
    first = next(row for row in rows if row.split == "train")
    other = next(
        row for row in rows if row.split == "validation" and row.class_name == first.class_name
    )
    with pytest.raises(DataError, match=r"images \d+ \(\w+\) and \d+ \(\w+\) are identical"):
        stream_of(copied(images, [(first.index, other.index)]), table)
