"""The objective of multinomial logistic regression, its gradient and its curvature, in float64.

    f(W, b) = mean_i w_i (-log softmax(W z_i + b)[y_i]) + penalty / 2 ||W||^2
with standardised rows z and row weights w of mean 1; the bias b is not penalised. It is convex, and
strictly so in W where the penalty is above 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.training.head_targets import Targets

_ROUNDING = 16  # spreads below so many units of rounding of the mean count as none


@dataclass(frozen=True)
class Standard:
    """Mean and spread of each column.

    Attributes:
        mean: Float64, shape (p,).
        inverse: 1 / standard deviation, 0 for a constant column, shape (p,).
    """

    mean: Tensor
    inverse: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """Return standardised rows, float64.

        Args:
            features: Float, shape (n, p).
        """
        rows = features.double() - self.mean
        return rows.mul_(self.inverse)

    def to_raw(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight (classes, p) and bias (classes,) for features as they are.

        Args:
            theta: Weight and bias for standardised rows, shape (classes, p + 1).
        """
        weight = theta[:, :-1] * self.inverse
        return weight, theta[:, -1] - weight @ self.mean

    def from_raw(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return theta, shape (classes, p + 1), of a head for features as they are.

        Args:
            weight: Shape (classes, p).
            bias: Shape (classes,).
        """
        spread = torch.where(self.inverse > 0, 1 / self.inverse, 0.0)
        return torch.cat([weight * spread, (bias + weight @ self.mean)[:, None]], dim=1)


def standard_of(features: Tensor) -> Standard:
    """Return mean and spread of the columns.

    Args:
        features: Float, shape (n, p).
    """
    first = features[0].double()
    rows = features.double() - first
    shift = rows.mean(0)
    spread = (rows - shift).square_().mean(0).sqrt()
    mean = first + shift
    least = _ROUNDING * torch.finfo(features.dtype).eps * mean.abs()
    return Standard(mean, torch.where(spread > least, 1 / spread, 0.0))


class Objective:
    """f and its derivatives on some rows.

    Args:
        rows: Standardised, float64, shape (n, p).
        targets: Labels and weights of the rows.
        penalty: 0 or above.
    """

    def __init__(self, rows: Tensor, targets: Targets, penalty: float) -> None:
        self.rows, self.targets, self.penalty = rows, targets, penalty
        self._share = targets.weights / targets.weights.sum()

    def zeros(self) -> Tensor:
        """Return a head without opinion, shape (classes, p + 1)."""
        return self.rows.new_zeros(self.targets.values.shape[1], self.rows.shape[1] + 1)

    def value_and_gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """Return f and its gradient, shape (classes, p + 1).

        Args:
            theta: Weight and, as the last column, bias.
        """
        logs = self._log_probabilities(theta)
        loss = -(self._share @ (logs * self.targets.values).sum(1))
        loss = loss + self.penalty / 2 * theta[:, :-1].square().sum()
        off = (logs.exp() - self.targets.values) * self._share[:, None]
        return float(loss), self._pulled(off, theta)

    def curvature(self, theta: Tensor) -> Curvature:
        """Return the second derivative at a point.

        Args:
            theta: The point.
        """
        return Curvature(self, self._log_probabilities(theta).exp(), self._share)

    def _log_probabilities(self, theta: Tensor) -> Tensor:
        return torch.log_softmax(self._pushed(theta), dim=1)

    def _pushed(self, theta: Tensor) -> Tensor:
        return torch.addmm(theta[:, -1], self.rows, theta[:, :-1].T)

    def _pulled(self, off: Tensor, theta: Tensor) -> Tensor:
        """Return off' [rows, 1] + penalty [W, 0]."""
        pulled = torch.empty_like(theta)
        pulled[:, :-1] = off.T @ self.rows + self.penalty * theta[:, :-1]
        pulled[:, -1] = off.sum(0)
        return pulled


@dataclass(frozen=True)
class Curvature:
    """The second derivative of an objective at one point, known by what it does to a direction.

    Attributes:
        objective: Of which it is the derivative.
        probabilities: At the point, shape (n, classes).
        share: Row weights that add up to 1, shape (n,).
    """

    objective: Objective
    probabilities: Tensor
    share: Tensor

    def times(self, direction: Tensor) -> Tensor:
        """Return the product with a direction, shape (classes, p + 1).

        With V = [rows, 1] direction': rows' (P * (V - sum_k P V)) + penalty W.

        Args:
            direction: Shape (classes, p + 1).
        """
        moved = self.objective._pushed(direction)
        mean = (self.probabilities * moved).sum(1, keepdim=True)
        off = self.probabilities * (moved - mean) * self.share[:, None]
        return self.objective._pulled(off, direction)
