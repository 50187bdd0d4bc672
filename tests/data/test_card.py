import json

import torch

from relearn.data.card import data_card, sample_grid
from relearn.data.images import LabelledImages, Refused, Split
from relearn.data.manifest import Manifest
from relearn.data.splits import SplitPlan, split_images, stream_of


def make():
    labels = torch.tensor([0] * 6 + [1] * 9 + [2] * 4)
    images = torch.arange(19 * 16).view(19, 1, 4, 4).remainder(251).to(torch.uint8)
    images[1] = images[0]
    part = torch.tensor([0] * 10 + [1] * 9)
    return LabelledImages(
        images, labels, ("a", "b", "c"), part, ("train", "val"), (Refused("b/9.png", "truncated"),)
    )


def test_the_card_accounts_for_every_image():
    images = make()
    table = split_images(images, SplitPlan(by="sample", train_share=0.5, validation_share=0.25))
    stream = stream_of(images, table)
    manifest = Manifest("here", 20, "abc", refused=1, ignored={"hidden": 2}).as_dict()
    card = data_card(manifest, images, stream, [one.reason for one in table.duplicates])
    in_splits = sum(split["images"] for split in card["splits"].values())
    dropped = sum(card["duplicates_dropped"].values())
    assert in_splits + dropped + card["images_unused"] == card["images"] == 19
    assert dropped == 1
    assert card["parts"] == {"train": 10, "val": 9}
    assert card["class_balance"] == {
        "smallest": 4, "median": 6.0, "largest": 9, "ratio": 2.25,
        "smallest_class": "c", "largest_class": "b",
    }  # fmt: skip
    assert card["refused"] == {"count": 1, "first": ["b/9.png: truncated"]}
    assert card["ignored_files"] == {"hidden": 2}
    assert json.loads(json.dumps(card)) == card


def test_the_grid_shows_a_class_a_row():
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 1, 3, 3)
    grid = sample_grid(Split(images, torch.tensor([4, 4, 9, 9, 9, 9])), rows=5, columns=3)
    assert grid.shape == (3 * 2 + 2, 3 * 3 + 2 * 2)
    assert [grid[0, x] for x in (0, 5, 10)] == [0, 1, 128]  # two of class 4, then an empty place
    assert [grid[5, x] for x in (0, 5, 10)] == [2, 3, 4]


def test_the_grid_spreads_over_many_classes_and_keeps_colour():
    images = torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(100, 3, 2, 2)
    grid = sample_grid(Split(images, torch.arange(100)), rows=3, columns=4)
    assert grid.shape == (10, 2, 3)
    assert grid[[0, 4, 8], 0, 0].tolist() == [0, 50, 99]
