"""What a convex head is fitted to: features, or kernel values, of each part of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch

from relearn.methods.last_layer_probe.heads import (
    LOGISTIC,
    RIDGE,
    Solved,
    solve_kernel,
    solve_logistic,
    solve_ridge,
)

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.methods.last_layer_probe.samples import Samples

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Question:
    """What a head is fitted to and chosen by.

    Attributes:
        labels: Of the training rows, int64, shape (n,).
        validation: Labels of the validation images.
        classes: Number of classes.
        config: Knobs of the heads.
        rows: Training rows that are used; None for all.
    """

    labels: Tensor
    validation: Tensor
    classes: int
    config: LastLayerProbeConfig
    rows: Tensor | None = None

    @classmethod
    def of(cls, samples: Samples, config: LastLayerProbeConfig) -> Question:
        """Return the question that a seed's images ask.

        Args:
            samples: Of the seed.
            config: Knobs of the heads.
        """
        truth = samples.validation.labels
        return cls(samples.train.labels, truth, samples.classes, config)

    @property
    def taught(self) -> Tensor:
        """Labels of the rows that are used."""
        return self.labels if self.rows is None else self.labels[self.rows]


class Representation(Protocol):
    """The images as a head sees them."""

    @property
    def width(self) -> int:
        """Numbers that a head weighs for each class."""
        ...

    def solve(self, question: Question) -> Solved:
        """Return the head at its optimum.

        Args:
            question: Labels and rows.
        """
        ...

    def settled(self, kind: str) -> Representation:
        """Return the same with one kind of head, which was chosen before.

        Args:
            kind: ``ridge`` or ``logistic``.
        """
        ...

    def scores(self, solved: Solved, part: str, question: Question) -> Tensor:
        """Return the scores of one part of the images, float64, shape (m, classes).

        Args:
            solved: From ``solve`` with this question.
            part: ``train``, ``validation``, ``test`` or a further part.
            question: As for ``solve``.
        """
        ...


@dataclass(frozen=True)
class Features:
    """Rows of numbers.

    Attributes:
        parts: Part of the images to features, shape (m, p).
        kinds: Heads that compete; the better one on validation images is taken.
    """

    parts: Mapping[str, Tensor]
    kinds: tuple[str, ...] = (RIDGE,)

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self.parts["train"].shape[1])

    def solve(self, question: Question) -> Solved:
        """Return the best head of ``kinds`` on validation images; equals go to the first.

        Args:
            question: Labels and rows.
        """
        solved = [self._solve(kind, question) for kind in self.kinds]
        if len(solved) == 1:
            return solved[0]
        return max(solved, key=lambda head: self.hits(head, question))

    def settled(self, kind: str) -> Features:
        """Return the same features with one kind of head.

        Args:
            kind: ``ridge`` or ``logistic``.
        """
        return replace(self, kinds=(kind,))

    def _solve(self, kind: str, question: Question) -> Solved:
        rows = self.parts["train"]
        taught = rows if question.rows is None else rows[question.rows]
        if kind == LOGISTIC:
            return solve_logistic(
                taught,
                question.taught,
                question.config,
                classes=question.classes,
                validation=(self.parts["validation"], question.validation),
            )
        return solve_ridge(taught, question.taught, question.config, classes=question.classes)

    def hits(self, solved: Solved, question: Question) -> float:
        """Return the accuracy on validation images.

        Args:
            solved: A head.
            question: Labels.
        """
        scores = self.scores(solved, "validation", question)
        return float((scores.argmax(1) == question.validation).double().mean())

    def scores(self, solved: Solved, part: str, question: Question) -> Tensor:
        """Return the scores of one part of the images.

        Args:
            solved: A head.
            part: One of ``parts``.
            question: Not read; kernels need its rows.
        """
        del question
        return solved.scores(self.parts[part])


@dataclass(frozen=True)
class Kernels:
    """Kernel values between each part of the images and the training images.

    Attributes:
        parts: Part of the images to values, shape (m, n); ``train`` is (n, n).
    """

    parts: Mapping[str, Tensor]

    @property
    def width(self) -> int:
        """Number of training images."""
        return int(self.parts["train"].shape[1])

    def solve(self, question: Question) -> Solved:
        """Return the kernel ridge head.

        Args:
            question: Labels and rows.
        """
        kernel = self.parts["train"]
        if question.rows is not None:
            kernel = kernel[question.rows][:, question.rows]
        return solve_kernel(kernel, question.taught, question.config, classes=question.classes)

    def settled(self, kind: str) -> Kernels:
        """Return itself: kernels have ridge heads.

        Args:
            kind: Not read.
        """
        del kind
        return self

    def scores(self, solved: Solved, part: str, question: Question) -> Tensor:
        """Return the scores of one part of the images.

        Args:
            solved: A head.
            part: One of ``parts``.
            question: Its rows are those the head was fitted to.
        """
        values = self.parts[part]
        return solved.scores(values if question.rows is None else values[:, question.rows])


def kinds_of(config: LastLayerProbeConfig, *, linear: bool = False) -> tuple[str, ...]:
    """Return the heads that compete.

    Args:
        config: ``heads.bodies``.
        linear: Of the linear baseline, which always tries both.
    """
    if linear or config.heads.bodies == "best":
        return (RIDGE, LOGISTIC)
    return (config.heads.bodies,)


def temperature_of(scores: Tensor, labels: Tensor) -> float:
    """Return the temperature at which softmax of the scores has the least loss on these labels.

    Ridge scores are near 0 and 1, so that their softmax would be almost uniform. One of
    81 temperatures from 0.001 to 10 is taken.

    Args:
        scores: Float64, shape (m, classes), of images that were not fitted.
        labels: int64, shape (m,).
    """
    grid = torch.logspace(-3, 1, 81, dtype=torch.float64)
    losses = torch.stack(
        [torch.nn.functional.cross_entropy(scores.double() / t, labels) for t in grid]
    )
    return float(grid[int(losses.argmin())])
