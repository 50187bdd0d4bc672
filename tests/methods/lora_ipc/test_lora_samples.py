"""Tasks, classes and images of one seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_lora_ipc import CLASSES, TASKS, tiny_config, tiny_stream

from relearn.data.images import Split, Stream
from relearn.errors import DataError, ParameterError
from relearn.methods.lora_ipc.samples import TaskStream, draw_tasks, first_of_class


def drawn(seed: int = 0, stream: Stream | None = None, **changes: Any) -> TaskStream:
    config = tiny_config(**changes)
    return draw_tasks(stream or tiny_stream(), config.tasks, config.samples, seed=seed)


def rows(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_every_class_belongs_to_one_task_and_labels_count_in_the_order_of_arrival():
    tasks = drawn()
    assert [label for own in tasks.classes for label in own] == list(range(len(CLASSES)))
    assert sorted(tasks.class_numbers.tolist()) == list(CLASSES)
    for own, train, test in zip(tasks.classes, tasks.train, tasks.test, strict=True):
        assert set(own) == set(train.labels.tolist()) == set(test.labels.tolist())


def test_labels_stand_for_the_images_of_their_class():
    tasks, query = drawn(), tiny_stream().split("transfer_query")
    for label, number in enumerate(tasks.class_numbers.tolist()):
        own = next(
            t for t, classes in zip(tasks.test, tasks.classes, strict=True) if label in classes
        )
        found = Split(own.images[own.labels == label], own.labels[own.labels == label])
        there = Split(query.images[query.labels == number], query.labels[query.labels == number])
        assert rows(found) == rows(there)
        assert tasks.class_names[label] == f"class {number}"


def test_images_that_validate_never_train_and_no_image_is_lost():
    tasks, support = drawn(), tiny_stream().split("transfer_support")
    train = set().union(*(rows(own) for own in tasks.train))
    held = set().union(*(rows(own) for own in tasks.validation))
    assert not train & held
    assert train | held == rows(support)
    assert all(len(own) == 4 for own in tasks.validation)


def test_seeds_order_the_classes_and_draw_the_images_anew():
    assert drawn(0).class_numbers.tolist() != drawn(1).class_numbers.tolist()
    natural = [drawn(seed, tasks__order="natural", tasks__count=TASKS) for seed in (0, 1)]
    assert all(own.class_numbers.tolist() == list(CLASSES) for own in natural)
    assert rows(natural[0].train[0]) != rows(natural[1].train[0])


def test_the_order_of_the_stream_is_kept_where_it_is_asked_for():
    tasks = drawn(tasks__order="stream")
    given = tiny_stream().task_of_class[tasks.class_numbers]
    assert given.tolist() == [0, 0, 1, 1, 2, 2]


def test_limits_are_limits_and_the_first_of_a_larger_number():
    few, many = drawn(samples__train_per_class=2), drawn()
    assert all(len(own) == 4 for own in few.train)
    assert rows(few.train[0]) <= rows(many.train[0])
    assert all(len(own) == 6 for own in drawn(samples__test_per_class=3).test)
    assert len(first_of_class(many.train[0], 3)) == 6


def test_there_may_be_room_for_more_than_is_learnt():
    tasks = drawn(tasks__learn=2, tasks__planned=5, tasks__outputs=9)
    assert (tasks.learnt, tasks.planned, tasks.outputs) == (2, 5, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks__count": 7}, "count"),
        ({"tasks__count": 2, "tasks__order": "stream"}, "has 3 tasks"),
        ({"tasks__learn": 4}, "learn"),
        ({"tasks__outputs": 5}, "outputs: got 5, expected at least 6"),
        ({"tasks__planned": 2}, "planned: got 2, expected at least 3"),
    ],
)
def test_tasks_that_do_not_fit_the_stream_are_refused(change: dict[str, Any], message: str):
    with pytest.raises(ParameterError, match=message):
        drawn(**change)


def test_a_class_without_images_is_refused():
    stream = tiny_stream()
    with pytest.raises(DataError, match="validation_share"):
        drawn(samples__validation_share=0.99)
    query = stream.split("transfer_query")
    kept = query.labels != CLASSES[0]
    lacking = {**stream.splits, "transfer_query": Split(query.images[kept], query.labels[kept])}
    with pytest.raises(DataError, match="no test images"):
        drawn(stream=Stream(lacking, stream.class_names, stream.task_of_class))


def test_a_stream_without_tasks_is_told_what_to_set():
    stream = tiny_stream()
    bare = Stream(stream.splits, stream.class_names, torch.full((9,), -1))
    with pytest.raises(DataError, match=r"tasks\.count"):
        drawn(stream=bare)
    assert len(drawn(stream=bare, tasks__count=2).classes) == 2
