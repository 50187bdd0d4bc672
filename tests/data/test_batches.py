import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relearn.data import augment
from relearn.data.batches import Batches, channel_statistics, to_float
from relearn.data.randomness import generator_of
from relearn.errors import DataError, ParameterError


def make(count=23, channels=1, size=6):
    generator = generator_of(0, "test.images")
    images = torch.randint(
        0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator
    )
    return images, torch.arange(count)


def batches(count=23, channels=1, **changes):
    images, labels = make(count, channels)
    knobs = {"batch_size": 5, "seed": 3, "mean": [0.5] * channels, "std": [0.25] * channels}
    return Batches(images, labels, **{**knobs, **changes})


def labels_of(source, epoch=0):
    return torch.cat([labels for _, labels in source.epoch(epoch)])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 3), st.booleans())
def test_an_epoch_shows_every_image_once(count, batch_size, shift, flip):
    source = batches(count, batch_size=batch_size, shift=shift, flip=flip)
    sizes = [len(labels) for _, labels in source.epoch(0)]
    assert sorted(labels_of(source).tolist()) == list(range(count))
    assert len(sizes) == source.steps_per_epoch
    assert set(sizes[:-1]) <= {batch_size}


def test_an_incomplete_last_batch_is_left_out_on_request():
    source = batches(23, batch_size=5, drop_last=True)
    assert [len(labels) for _, labels in source.epoch(0)] == [5] * 4
    assert source.steps_per_epoch == 4


def test_images_stay_with_their_labels():
    images, _ = make()
    source = batches()
    for shown, labels in source.epoch(1):
        assert torch.equal(shown, to_float(images[labels], [0.5], [0.25]))


def test_order_and_noise_are_functions_of_seed_name_and_epoch():
    one, two = batches(shift=2, flip=True), batches(shift=2, flip=True)
    list(two.epoch(0))  # having run before changes nothing
    torch.manual_seed(99)
    for (a, la), (b, lb) in zip(one.epoch(4), two.epoch(4), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(la, lb)
    orders = {
        tuple(labels_of(batches(**change), epoch).tolist())
        for change, epoch in [({}, 0), ({}, 1), ({"seed": 4}, 0), ({"name": "other"}, 0)]
    }
    assert len(orders) == 4


def test_augmentation_does_not_depend_on_the_batch_size():
    small, large = (
        batches(batch_size=4, shift=2, flip=True),
        batches(batch_size=23, shift=2, flip=True),
    )
    joined = torch.cat([images for images, _ in small.epoch(2)])
    assert torch.equal(joined, next(iter(large.epoch(2)))[0])


def test_every_epoch_moves_an_image_anew():
    source = batches(1, shift=2, batch_size=1)
    shown = {tuple(images.flatten().tolist()) for e in range(12) for images, _ in source.epoch(e)}
    assert len(shown) > 3


def replayed(drop_last: bool) -> tuple[str, str]:
    images, labels = torch.zeros(7, 1, 4, 4, dtype=torch.uint8), torch.zeros(7, dtype=torch.int64)
    one, two = (
        Batches(images, labels, batch_size=3, seed=1, mean=(0.0,), std=(1.0,), drop_last=drop_last)
        for _ in range(2)
    )
    for epoch in range(2):
        list(one.epoch(epoch))
        two.replay(epoch)
    return one.order_digest, two.order_digest


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_replayed_epoch_leaves_the_order_digest_of_a_trained_one(drop_last):
    trained, noted = replayed(drop_last)
    assert trained == noted


def test_order_digest_covers_the_indices_and_nothing_else():
    plain, shifted, other = batches(), batches(shift=2, flip=True), batches(seed=4)
    empty = plain.order_digest
    for source in (plain, shifted, other):
        list(source.epoch(0))
    assert plain.order_digest == shifted.order_digest
    assert len({empty, plain.order_digest, other.order_digest}) == 3
    before = plain.order_digest
    list(plain.epoch(1))
    assert plain.order_digest != before


def test_whole_gives_the_stored_order_without_augmentation():
    images, labels = make()
    shown, answered = batches(shift=2, flip=True).whole()
    assert torch.equal(shown, to_float(images, [0.5], [0.25]))
    assert torch.equal(answered, labels)


def test_the_set_itself_is_never_changed():
    images, labels = make()
    before = images.clone()
    source = Batches(
        images, labels, batch_size=5, seed=0, mean=[0.5], std=[0.2], shift=2, flip=True
    )
    list(source.epoch(0))
    assert torch.equal(images, before)


def test_normalised_training_images_have_mean_zero_and_deviation_one():
    images, _ = make(50, channels=3)
    mean, std = channel_statistics(images)
    shown = to_float(images, mean, std)
    assert torch.allclose(shown.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(shown.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_a_constant_channel_divides_by_one():
    assert channel_statistics(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8)) == ((0.2,), (1.0,))


def test_bf16_is_rounded_once_from_float32():
    images, _ = make()
    exact = to_float(images, [0.3], [0.2])
    assert torch.equal(to_float(images, [0.3], [0.2], torch.bfloat16), exact.bfloat16())


def test_wrong_channels_and_sizes_are_refused():
    with pytest.raises(ParameterError, match=r"data\.image\.channels: images have 3"):
        to_float(make(2, 3)[0], [0.5], [0.5])
    with pytest.raises(DataError, match="got 0 images"):
        batches(0)
    with pytest.raises(ParameterError, match="batch_size: got 0"):
        batches(batch_size=0)
    with pytest.raises(ParameterError, match="expected 1 to 23"):
        batches(batch_size=24, drop_last=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(1, 3))
def test_shift_moves_whole_pixels_and_fills_with_the_background(down, right, channels):
    images, _ = make(2, channels)
    background = torch.tensor([[7] * channels, [200] * channels], dtype=torch.uint8)
    moved = augment.shift(images, torch.tensor([[down, right], [0, 0]]), background)
    assert torch.equal(moved[1], images[1])
    size = images.shape[-1]
    for y in range(size):  # the slow road: pixel by pixel
        for x in range(size):
            inside = 0 <= y - down < size and 0 <= x - right < size
            expected = images[0, :, y - down, x - right] if inside else background[0]
            assert torch.equal(moved[0, :, y, x], expected)


def test_shifts_cover_their_range_evenly():
    offsets = augment.draw_offsets(10_000, 2, generator_of(0, "shift"))
    shares = torch.bincount((offsets + 2).flatten(), minlength=5) / offsets.numel()
    assert torch.allclose(shares, torch.full((5,), 0.2), atol=0.02)


def test_background_is_what_the_border_shows():
    paper = torch.full((1, 1, 5, 5), 255, dtype=torch.uint8)
    paper[0, 0, 2, :3] = 0  # a stroke that touches the border
    assert augment.background_of(paper).tolist() == [[255]]


def test_flip_mirrors_the_chosen_images_twice_is_nothing():
    images, _ = make(4)
    mask = torch.tensor([True, False, True, False])
    mirrored = augment.flip(images, mask)
    assert torch.equal(mirrored[0], images[0].flip(-1))
    assert torch.equal(mirrored[1], images[1])
    assert torch.equal(augment.flip(mirrored, mask), images)
