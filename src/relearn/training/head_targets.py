"""What a convex last layer is fitted to: checked features, coded labels, weights of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.errors import DataError, ParameterError

if TYPE_CHECKING:
    from torch import Tensor

BALANCED = "balanced"


@dataclass(frozen=True)
class Targets:
    """What each row shall be mapped to, and how much each row counts.

    Attributes:
        values: Float64, shape (n, outputs); one-hot where there are labels.
        labels: int64, shape (n,); None for real-valued targets.
        weights: Float64, shape (n,), mean 1.
    """

    values: Tensor
    labels: Tensor | None
    weights: Tensor

    def part(self, rows: slice) -> Targets:
        """Return the targets of some rows, with the weights they have.

        Args:
            rows: Which.
        """
        labels = None if self.labels is None else self.labels[rows]
        return Targets(self.values[rows], labels, self.weights[rows])


def read_targets(
    targets: Tensor, *, classes: int | None = None, weights: Tensor | str | None = None
) -> Targets:
    """Return targets with their weights, coded and checked.

    Args:
        targets: Labels, int64, shape (n,), from 0; or real-valued targets, shape (n, outputs).
        classes: Number of classes; None takes the largest label plus one.
        weights: None (all alike), ``balanced`` (each class present weighs the same in total), or
            one number above 0 for each row, shape (n,); only their ratios count.

    Raises:
        DataError: One class only, labels below 0, NaN, or no row.
        ParameterError: Unknown or unusable weights, or fewer classes than labels.
    """
    if targets.is_floating_point():
        values, labels = _real_targets(targets), None
    else:
        labels = check_labels(targets, classes)
        count = classes or int(labels.max()) + 1
        values = torch.nn.functional.one_hot(labels, count).double()
    return Targets(values, labels, _row_weights(weights, len(values), labels).to(values.device))


def check_labels(labels: Tensor, classes: int | None, *, part: bool = False) -> Tensor:
    """Return the labels as int64, once it is sure that a classifier can be fitted to them.

    Args:
        labels: Shape (n,).
        classes: Number of classes; None where it is not given.
        part: Whether they are some of many, which may be of one class.

    Raises:
        DataError: Not one row of whole numbers from 0, or one class only.
        ParameterError: A label is not below ``classes``.
    """
    if labels.ndim != 1 or not len(labels) or labels.is_floating_point():
        raise DataError(
            f"labels: got {labels.dtype} of shape {tuple(labels.shape)}, expected whole numbers of "
            "shape (n,) with n at least 1"
        )
    labels = labels.long()
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise DataError(f"labels: got {low}, expected 0 or more; drop rows without a label")
    if classes is not None and high >= classes:
        raise ParameterError(f"classes: got {classes}, but a label is {high}; give {high + 1}")
    if low == high and not part:
        raise DataError(
            f"labels: all {len(labels)} rows are of class {low}, expected at least two classes; "
            "draw the rows so that each fold holds several classes"
        )
    return labels


def check_features(features: Tensor, *, rows: int | None = None, name: str = "features") -> None:
    """Make sure that features can be fitted.

    Args:
        features: Float, shape (n, p).
        rows: Rows that there must be; None for any number.
        name: What they are called in a message.

    Raises:
        DataError: Not a float matrix, no column, another number of rows, NaN or infinity.
    """
    if features.ndim != 2 or not features.is_floating_point() or not features.shape[1]:
        raise DataError(
            f"{name}: got {features.dtype} of shape {tuple(features.shape)}, expected floats of "
            "shape (n, p) with p at least 1"
        )
    if rows is not None and len(features) != rows:
        raise DataError(f"{name}: got {len(features)} rows, but there are {rows} targets")
    if not bool(torch.isfinite(features).all()):
        bad = int((~torch.isfinite(features).all(1)).sum())
        raise DataError(
            f"{name}: {bad} of {len(features)} rows hold NaN or infinity; look at what made them "
            "(its inputs, its precision)"
        )


def check_penalty(value: float, *, name: str = "penalties") -> None:
    """Make sure that a penalty is a number, finite and not negative.

    Args:
        value: The penalty.
        name: Parameter, as it stands in the message.

    Raises:
        ParameterError: It is not.
    """
    if not 0 <= value < float("inf"):
        raise ParameterError(f"{name}: got {value}, expected a finite number, 0 or above")


def balanced_class_weights(labels: Tensor, classes: int) -> Tensor:
    """Return weights that give each class present the same total; mean 1 over the rows.

    Args:
        labels: int64, shape (n,).
        classes: Number of classes.

    Returns:
        Float64, shape (classes,); 1 for a class without rows.
    """
    counts = labels.bincount(minlength=classes).double()
    weights = len(labels) / (counts * (counts > 0).sum())
    return weights.masked_fill(counts == 0, 1.0)


def check_class_weights(weights: Tensor | None, classes: int) -> Tensor:
    """Return class weights as float64, all 1 where none are given.

    Args:
        weights: Shape (classes,), or None.
        classes: Number of classes.

    Raises:
        ParameterError: Another shape, or not finite and above 0.
    """
    if weights is None:
        return torch.ones(classes, dtype=torch.float64)
    if weights.shape != (classes,):
        raise ParameterError(
            f"class_weights: got shape {tuple(weights.shape)}, expected one for each of {classes} "
            "classes"
        )
    return _positive(weights.double(), "class_weights")


def _positive(weights: Tensor, name: str) -> Tensor:
    if not bool((weights > 0).all()) or not bool(torch.isfinite(weights).all()):
        raise ParameterError(f"{name}: expected finite numbers above 0; leave out what weighs 0")
    return weights


def _real_targets(targets: Tensor) -> Tensor:
    if targets.ndim != 2 or not len(targets) or not targets.shape[1]:
        raise DataError(
            f"targets: got floats of shape {tuple(targets.shape)}, expected (n, outputs); labels "
            "are whole numbers of shape (n,)"
        )
    if not bool(torch.isfinite(targets).all()):
        raise DataError("targets: they hold NaN or infinity, expected finite numbers")
    return targets.double()


def _row_weights(weights: Tensor | str | None, rows: int, labels: Tensor | None) -> Tensor:
    if weights is None:
        return torch.ones(rows, dtype=torch.float64)
    if isinstance(weights, str):
        return _balanced(weights, labels)
    if weights.shape != (rows,):
        raise ParameterError(
            f"weights: got shape {tuple(weights.shape)}, expected one for each of {rows} rows"
        )
    weights = _positive(weights.double(), "weights")
    return weights / weights.mean()


def _balanced(name: str, labels: Tensor | None) -> Tensor:
    if name != BALANCED or labels is None:
        expected = BALANCED if labels is not None else "row weights where targets are real-valued"
        raise ParameterError(f"weights: got {name!r}, expected none or {expected}")
    return balanced_class_weights(labels, int(labels.max()) + 1)[labels]
