"""The benchmark of features reads what it is given, and keeps its bound on little data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
LITTLE = {"images": 24, "side": 8, "width": 4}


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_features
    import features_work

    return bench_features, features_work


@pytest.fixture
def pictures(tmp_path):
    """Return a folder of 30 training and 6 test images of three classes."""
    door = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 2)):
        for label in "abc":
            place = tmp_path / "pictures" / part / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = door.integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "pictures"


def test_only_training_images_are_read(modules, pictures, tmp_path):
    kept = modules[0].training_images(pictures, 8, tmp_path)
    with np.load(kept) as found:
        assert found["images"].shape == (30, 3, 8, 8)
        assert found["images"].dtype == np.uint8
        assert np.bincount(found["labels"]).tolist() == [10, 10, 10]
    assert modules[1].streamed(**LITTLE, kept=kept)() == 24


def test_fewer_images_than_asked_for_are_an_error(modules, pictures, tmp_path):
    kept = modules[0].training_images(pictures, 8, tmp_path)
    with pytest.raises(ValueError, match="got 30 training images, expected 99"):
        modules[1].streamed(**{**LITTLE, "images": 99}, kept=kept)


def test_the_bound_does_not_grow_with_the_images(modules):
    few, many = (modules[1].bound_megabytes(**{**LITTLE, "images": n}) for n in (24, 24_000))
    assert few == many
    assert modules[0].WHOLE["images"] == 50_000  # training images of CIFAR-10


@pytest.mark.full
def test_little_data_stays_within_the_bound_and_the_last_line_is_json(modules, capsys):
    modules[0].main(["--quick"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["kernel.features"]["ours"] > 0
    assert rows["kernel.features_memory"]["within_bound"]
    assert "drawn images" in rows["kernel.features_memory"]["conditions"]
