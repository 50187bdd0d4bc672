"""Ridge paths on both sides of the benchmark, and ours over a stream that is never kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from side_by_side import peak_megabytes, resident_megabytes

from relearn.data.randomness import generator_of
from relearn.training.ridge_path import ridge_path
from relearn.training.ridge_sums import RidgeSums

BATCH = 1000
SPREAD = 2.0  # decades between the largest and the smallest spread of a feature


def draw(rows: int, width: int, classes: int, *, door: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return drawn features, float32, and labels: overlapping classes, features unlike in size."""
    centres = torch.randn(classes, width, generator=generator_of(0, "bench_ridge.centres"))
    generator = generator_of(0, f"bench_ridge.{door}")
    labels = torch.randint(0, classes, (rows,), generator=generator)
    features = torch.randn(rows, width, generator=generator).add_(centres[labels], alpha=0.12)
    return features.mul_(torch.logspace(0, -SPREAD, width)), labels


def path(rows: int, width: int, classes: int) -> Callable[[], float]:
    """Return a repetition that solves the path of 41 penalties; a unit is one path."""
    features, labels = draw(rows, width, classes, door="train")

    def repetition() -> float:
        ridge_path(features, labels)
        return 1.0

    return repetition


def peer(rows: int, width: int, classes: int) -> Callable[[], float]:
    """Return a repetition that solves the same path by scikit-learn's RidgeClassifierCV."""
    from sklearn.linear_model import RidgeClassifierCV

    features, labels = draw(rows, width, classes, door="train")
    found = ridge_path(features, labels)
    alphas = (found.penalties * found.scale).numpy()
    x, y = features.double().numpy(), labels.numpy()  # what it would turn them into

    def repetition() -> float:
        RidgeClassifierCV(alphas=alphas).fit(x, y)
        return 1.0

    return repetition


def agreement(rows: int, width: int, classes: int) -> dict[str, float]:
    """Return both chosen penalties and the share of equal predictions on fresh rows."""
    from sklearn.linear_model import RidgeClassifierCV

    features, labels = draw(rows, width, classes, door="train")
    fresh, truth = draw(rows, width, classes, door="test")
    ours = ridge_path(features, labels)
    alphas = (ours.penalties * ours.scale).numpy()
    theirs = RidgeClassifierCV(alphas=alphas).fit(features.double().numpy(), labels.numpy())
    guess = ours.predict(fresh).argmax(1)
    other = torch.from_numpy(theirs.predict(fresh.double().numpy()))
    return {
        "ours": ours.penalty * ours.scale,
        "peer": float(theirs.alpha_),
        "equal_predictions": float((guess == other).double().mean()),
        "accuracy": float((guess == truth).double().mean()),
    }


def batches(rows: int, width: int, classes: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield features as a body would make them, drawn anew at each pass and kept by nobody."""
    for number in range(math.ceil(rows / BATCH)):
        size = min(BATCH, rows - number * BATCH)
        yield draw(size, width, classes, door=f"stream.{number}")


def streamed(rows: int, width: int, classes: int) -> Callable[[], float]:
    """Return a repetition that streams the rows twice; a unit is one row."""

    def repetition() -> float:
        sums = RidgeSums(width, classes)
        for features, labels in batches(rows, width, classes):
            sums.add(features, labels)
        sums.path(batches(rows, width, classes))
        return float(rows)

    return repetition


def streamed_megabytes(rows: int, width: int, classes: int) -> Callable[[], float]:
    """Return a repetition that says by how much streaming raised the memory of its process."""
    repetition = streamed(rows, width, classes)
    streamed(BATCH, 64, classes)()  # what libraries take at their first call

    def growth() -> float:
        before = resident_megabytes()
        repetition()
        return peak_megabytes() - before

    return growth
