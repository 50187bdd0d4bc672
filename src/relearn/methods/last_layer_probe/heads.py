"""Convex heads on features or kernels: the penalty is chosen, the optimum certified."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from relearn.errors import DataError
from relearn.training.multinomial_path import multinomial_path
from relearn.training.ridge_path import ridge_path, ridge_path_from_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.training.ridge_heads import RidgePath

RIDGE, LOGISTIC = "ridge", "logistic"


@dataclass(frozen=True)
class Solved:
    """A head at its optimum.

    Attributes:
        kind: ``ridge`` or ``logistic``.
        weight: Float64, shape (classes, p); for a kernel p counts its training images.
        bias: Float64, shape (classes,).
        facts: Figures for the records: penalty, what leaving one out gave, the certificate.
        path: One row a penalty: penalty, and accuracy leaving one out (ridge) or on validation
            images (logistic).
        loo_scores: Score of each training row by the head fitted without it, shape (n, classes);
            None for logistic heads.
    """

    kind: str
    weight: Tensor
    bias: Tensor
    facts: dict[str, float] = field(default_factory=dict)
    path: tuple[tuple[float, float], ...] = ()
    loo_scores: Tensor | None = None

    def scores(self, features: Tensor) -> Tensor:
        """Return the scores of new samples, float64, shape (m, classes).

        Args:
            features: Shape (m, p): features, or kernel values to the training images.
        """
        return features.to(self.weight) @ self.weight.T + self.bias

    def sharpened(self, temperature: float) -> Solved:
        """Return the head with all scores divided by a temperature; what it answers is the same.

        Args:
            temperature: Above 0.
        """
        facts = {**self.facts, "temperature": temperature}
        return replace(
            self, weight=self.weight / temperature, bias=self.bias / temperature, facts=facts
        )


def solve_ridge(
    features: Tensor, labels: Tensor, config: LastLayerProbeConfig, *, classes: int
) -> Solved:
    """Return the ridge head whose penalty leaving one out prefers.

    Args:
        features: Shape (n, p).
        labels: int64, shape (n,).
        config: Penalties, weights of classes, and what leaving one out decides by.
        classes: Number of classes.

    Raises:
        DataError: One class, or features that are not finite.
    """
    _require_classes(labels)
    path = ridge_path(
        features,
        labels,
        penalties=_in_scale(config, rows=len(features), width=features.shape[1]),
        weights=_weights(config),
        classes=classes,
        select=config.heads.select_by,
    )
    return _solved(path)


def solve_kernel(
    kernel: Tensor, labels: Tensor, config: LastLayerProbeConfig, *, classes: int
) -> Solved:
    """Return the kernel ridge head whose penalty leaving one out prefers.

    Args:
        kernel: Shape (n, n).
        labels: int64, shape (n,).
        config: As for ``solve_ridge``.
        classes: Number of classes.

    Raises:
        DataError: One class, or a kernel that is not finite and symmetric.
        ParameterError: It is not positive semi-definite.
    """
    _require_classes(labels)
    path = ridge_path_from_kernel(
        kernel,
        labels,
        penalties=_in_scale(config, rows=len(kernel), width=len(kernel)),
        weights=_weights(config),
        classes=classes,
        select=config.heads.select_by,
    )
    return _solved(path)


def solve_logistic(
    features: Tensor,
    labels: Tensor,
    config: LastLayerProbeConfig,
    *,
    classes: int,
    validation: tuple[Tensor, Tensor],
) -> Solved:
    """Return the logistic head whose penalty is best on validation images.

    Args:
        features: Shape (n, p).
        labels: int64, shape (n,).
        config: Penalties, weights of classes, tolerance.
        classes: Number of classes.
        validation: Features and labels on which the penalty is chosen.

    Raises:
        DataError: One class, or features that are not finite.
    """
    _require_classes(labels)
    path = multinomial_path(
        features,
        labels,
        validation=validation,
        penalties=config.heads.logistic.values,
        class_weights=_weights(config),
        classes=classes,
        select="accuracy",
        tolerance=config.heads.tolerance,
    )
    facts = {
        "penalty": path.penalty,
        "gradient": float(path.certificate),
        "iterations": float(path.fit.iterations),
        "at_border": float(bool(path.warning)),
    }
    rows = zip(path.penalties.tolist(), path.accuracy.tolist(), strict=True)
    return Solved(LOGISTIC, path.fit.weight.double(), path.fit.bias.double(), facts, tuple(rows))


def _solved(path: RidgePath) -> Solved:
    weight, bias = path.head()
    hits = path.loo_accuracy
    facts = {
        "penalty": path.penalty,
        "loo_error": float(path.loo_error[path.best]),
        "at_border": float(bool(path.warning)),
    }
    if hits is not None:
        facts["loo_accuracy"] = float(hits[path.best])
    scores = hits if hits is not None else -path.loo_error
    rows = zip(path.penalties.tolist(), scores.tolist(), strict=True)
    return Solved(RIDGE, weight, bias, facts, tuple(rows), path.loo_scores)


def _in_scale(config: LastLayerProbeConfig, *, rows: int, width: int) -> Sequence[float]:
    """Return the penalties in the path's unit, the mean squared norm, from the mean eigenvalue.

    The smaller Gram matrix has min(n, p) eigenvalues that add up to n mean squared norms.
    """
    unit = rows / min(rows, width)
    return [unit * value for value in config.heads.ridge.values]


def _weights(config: LastLayerProbeConfig) -> str | None:
    return None if config.heads.class_weights == "none" else config.heads.class_weights


def _require_classes(labels: Tensor) -> None:
    found = torch.unique(labels)
    if len(found) < 2:
        raise DataError(
            f"last_layer_probe.samples: the training images hold one class ({int(found[0])}), "
            "expected two or more; raise samples.train_images"
        )
