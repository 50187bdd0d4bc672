"""Whether a backbone is good enough is asked on unseen classes, and never by a test image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_lora_ipc import CLASSES, tiny_base, tiny_config, tiny_stream

from relearn.data.images import Split, Stream
from relearn.errors import DataError
from relearn.methods.lora_ipc.base_gate import base_strength


def with_splits(**splits: Split) -> Stream:
    """Return the tiny stream with some splits in place of others; none of selection classes."""
    kept = {name: s for name, s in tiny_stream().splits.items() if "selection" not in name}
    return replace(tiny_stream(), splits=kept | splits)


def noise(split: Split) -> Split:
    drawn = torch.randint(0, 256, split.images.shape, generator=torch.Generator().manual_seed(0))
    return Split(drawn.byte(), split.labels)


def test_classes_kept_apart_are_asked_where_there_are_some():
    whole = tiny_stream().split("transfer_support")
    two = Split(whole.images[whole.labels < 3], whole.labels[whole.labels < 3])
    stream = with_splits(selection_support=two, selection_query=two)
    found = base_strength(tiny_base(), stream, tiny_config())
    assert (found.asked, found.classes) == ("kept apart", 2)


def test_without_them_the_classes_of_the_tasks_are_asked_by_their_training_images():
    found = base_strength(tiny_base(), with_splits(), tiny_config())
    assert (found.asked, found.classes) == ("of the tasks", len(CLASSES))
    assert found.raw_pixels > 0.9  # prototypes with noise are easily told apart
    blurred = {name: noise(tiny_stream().split(name)) for name in ("train", "transfer_query")}
    assert base_strength(tiny_base(), with_splits(**blurred), tiny_config()) == found


def test_halves_hold_every_class_and_share_no_image():
    support = tiny_stream().split("transfer_support")
    unlearnable = with_splits(transfer_support=noise(support))
    found = base_strength(tiny_base(), unlearnable, tiny_config())
    assert found.raw_pixels < 0.5  # an image that taught itself would be found again


def test_a_class_of_one_image_cannot_be_halved():
    support = tiny_stream().split("transfer_support")
    kept = torch.cat([torch.nonzero(support.labels == c).flatten()[:1] for c in CLASSES])
    few = Split(support.images[kept], support.labels[kept])
    with pytest.raises(DataError, match=r"data\.split\.support_per_class: class 1 has one image"):
        base_strength(tiny_base(), with_splits(transfer_support=few), tiny_config())
