import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.data.tasks import draw_classes, draw_episode, task_order
from relearn.errors import DataError

CLASSES = torch.tensor([3, 5, 8, 9, 20, 21])


def split(sizes):
    labels = torch.tensor([c for c, size in enumerate(sizes) for _ in range(size)])
    return Split(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels)


@given(st.integers(1, 6), st.integers(0, 9))
def test_classes_are_drawn_once_each_and_nested(count, seed):
    drawn = draw_classes(CLASSES, count, seed=seed, name="few_shot")
    assert len(set(drawn.tolist())) == count
    assert set(drawn.tolist()) <= set(CLASSES.tolist())
    assert torch.equal(drawn, draw_classes(CLASSES, 6, seed=seed, name="few_shot")[:count])


def test_doors_draw_differently():
    drawn = {
        tuple(draw_classes(torch.arange(50), 10, seed=seed, name=name).tolist())
        for seed in (0, 1)
        for name in ("continual", "few_shot")
    }
    assert len(drawn) == 4


@given(st.integers(1, 6), st.integers(0, 9))
def test_tasks_hold_every_class_once_and_differ_by_one_at_most(tasks, seed):
    order = task_order(CLASSES, tasks, seed=seed)
    sizes = [len(task) for task in order]
    assert sorted(torch.cat(order).tolist()) == CLASSES.tolist()
    assert max(sizes) - min(sizes) <= 1
    assert len(order) == tasks


@pytest.mark.parametrize("count", [0, 7])
def test_more_classes_or_tasks_than_there_are_is_refused(count):
    with pytest.raises(DataError, match=rf"{count} classes asked for \(few_shot\), .* has 6"):
        draw_classes(CLASSES, count, seed=0, name="few_shot")
    with pytest.raises(DataError, match=rf"data\.split\.tasks: got {count}, expected 1 to 6"):
        task_order(CLASSES, count, seed=0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(0, 9))
def test_an_episode_is_one_class_and_some_to_remember(sizes, seed):
    images = split(sizes)
    remember = min(10, len(images))
    episode = draw_episode(images, generator=generator_of(seed, "e"), remember=remember)
    assert images.labels[episode.sequence].unique().tolist() == [episode.class_number]
    enough = sizes[episode.class_number] >= 20
    assert (len(set(episode.sequence.tolist())) == 20) or not enough
    assert len(set(episode.remember.tolist())) == remember
    assert torch.equal(episode.batch, torch.cat([episode.sequence, episode.remember]))


def test_a_class_with_fewer_images_is_drawn_with_replacement():
    episode = draw_episode(split([15, 15]), generator=generator_of(0, "e"), remember=0)
    assert len(episode.sequence) == 20
    assert len(episode.batch) == 20


def test_the_uniform_control_draws_from_all_classes():
    images = split([30] * 10)
    episode = draw_episode(images, generator=generator_of(0, "e"), sampling="uniform")
    assert len(images.labels[episode.sequence].unique()) > 3
    assert len(set(episode.sequence.tolist())) == 20


def test_classes_are_uniform_whatever_their_size():
    images, generator = split([5, 200, 5, 50]), generator_of(0, "e")
    drawn = [draw_episode(images, generator=generator).class_number for _ in range(800)]
    shares = torch.bincount(torch.tensor(drawn), minlength=4) / 800
    assert torch.allclose(shares, torch.full((4,), 0.25), atol=0.06)  # four standard deviations


def test_numbers_of_classes_are_those_of_the_split():
    images = Split(torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.tensor([7, 7, 7, 9, 9, 9]))
    seen = {
        draw_episode(images, generator=generator_of(seed, "e"), remember=2).class_number
        for seed in range(20)
    }
    assert seen == {7, 9}


def test_more_to_remember_than_there_is_is_refused():
    with pytest.raises(DataError, match="remembers 64 images, the split has 10"):
        draw_episode(split([5, 5]), generator=generator_of(0, "e"))
