"""Multinomial logistic regression as a last layer: no learning rate, and a certificate.

The objective is convex; the largest absolute entry of its gradient at the returned point is
reported and lies below the tolerance, or an error is raised. Features are standardised inside; what
is returned belongs to the features as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relearn.errors import ParameterError, TrainingError
from relearn.training.head_targets import (
    Targets,
    check_class_weights,
    check_features,
    check_labels,
    check_penalty,
    read_targets,
)
from relearn.training.minimise import Minimum, minimise
from relearn.training.multinomial_objective import Objective, Standard, standard_of
from relearn.training.ridge_spectrum import check_penalties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TOLERANCE = 1e-5


@dataclass(frozen=True)
class MultinomialFit:
    """A logistic last layer at the minimum of its objective.

    Attributes:
        weight: Float64, shape (classes, p).
        bias: Float64, shape (classes,).
        penalty: Of the standardised weights.
        certificate: Largest absolute entry of the gradient, in standardised coordinates.
        objective: Value at the minimum: mean log-loss plus penalty / 2 times squared norm.
        iterations: Steps taken.
        solver: ``lbfgs``, or ``newton_cg`` if that had to finish.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    certificate: float
    objective: float
    iterations: int
    solver: str

    def predict(self, features: Tensor) -> Tensor:
        """Return logits, float64, shape (m, classes).

        Args:
            features: Float, shape (m, p).
        """
        return features.to(self.weight) @ self.weight.T + self.bias


def fit_multinomial(
    features: Tensor,
    labels: Tensor,
    *,
    penalty: float,
    class_weights: Tensor | str | None = None,
    classes: int | None = None,
    tolerance: float = TOLERANCE,
    start: MultinomialFit | None = None,
) -> MultinomialFit:
    """Return the logistic last layer with the least mean log-loss plus penalty / 2 ||W||^2.

    Args:
        features: Float, shape (n, p).
        labels: int64, shape (n,), from 0.
        penalty: Of the weights for standardised features, 0 or above; the bias is free.
            scikit-learn's ``C`` on standardised features is 1 / (n * penalty).
        class_weights: None, ``balanced``, or one number above 0 for each class, shape (classes,).
        classes: Number of classes; None takes the largest label plus one.
        tolerance: Largest absolute entry of the gradient, above 0.
        start: A fit of the same shape to begin with, such as that of the next larger penalty.

    Raises:
        DataError: NaN, one class, or shapes that do not fit.
        ParameterError: A negative penalty, or unusable weights.
        TrainingError: The tolerance is not reached.
    """
    problem = read_problem(features, labels, class_weights=class_weights, classes=classes)
    theta = None if start is None else problem.standard.from_raw(start.weight, start.bias)
    return problem.fit(penalty, theta=theta, tolerance=tolerance)[0]


def fit_multinomials(
    features: Tensor,
    labels: Tensor,
    *,
    penalties: Sequence[float] | Tensor,
    class_weights: Tensor | str | None = None,
    classes: int | None = None,
    tolerance: float = TOLERANCE,
) -> list[MultinomialFit]:
    """Return one fit for each penalty, each begun where that of the next larger one ended.

    Args:
        features: As in ``fit_multinomial``.
        labels: As in ``fit_multinomial``.
        penalties: 0 or above.
        class_weights: As in ``fit_multinomial``.
        classes: As in ``fit_multinomial``.
        tolerance: As in ``fit_multinomial``.

    Returns:
        The fits, by ascending penalty.

    Raises:
        DataError: NaN, one class, or shapes that do not fit.
        ParameterError: No penalty, a negative one, or unusable weights.
        TrainingError: The tolerance is not reached.
    """
    grid = check_penalties(penalties)
    problem = read_problem(features, labels, class_weights=class_weights, classes=classes)
    return problem.path(grid, tolerance=tolerance)


@dataclass(frozen=True)
class Problem:
    """Standardised rows and their targets, for one fit or a path of them.

    Attributes:
        standard: Mean and spread of the features.
        rows: Standardised, float64, shape (n, p).
        targets: One-hot, with weights.
    """

    standard: Standard
    rows: Tensor
    targets: Targets

    def fit(
        self, penalty: float, *, theta: Tensor | None, tolerance: float
    ) -> tuple[MultinomialFit, Tensor]:
        """Return the fit for one penalty and where it stands in standardised coordinates.

        Args:
            penalty: 0 or above.
            theta: Where to begin, shape (classes, p + 1); None begins at 0.
            tolerance: Largest absolute entry of the gradient, above 0.

        Raises:
            ParameterError: A negative penalty or a tolerance that is not above 0.
            TrainingError: The tolerance is not reached.
        """
        check_penalty(penalty, name="penalty")
        if not tolerance > 0:
            raise ParameterError(f"tolerance: got {tolerance}, expected a number above 0")
        objective = Objective(self.rows, self.targets, penalty)
        begin = objective.zeros() if theta is None else theta
        found = minimise(objective, begin, tolerance=tolerance)
        if not found.gradient <= tolerance:
            raise TrainingError(
                f"penalty: at {penalty:.3g} the gradient is {found.gradient:.3g} after "
                f"{found.iterations} steps, expected at most {tolerance:.3g}; raise the penalty or "
                "the tolerance"
            )
        return _told(self.standard, found, penalty), found.theta

    def path(self, grid: Tensor, *, tolerance: float) -> list[MultinomialFit]:
        """Return the fits of a grid of penalties, warm-started from the largest downwards.

        Args:
            grid: Ascending, shape (penalties,).
            tolerance: As in ``fit``.
        """
        theta, fits = None, []
        for penalty in reversed(grid.tolist()):
            fit, theta = self.fit(penalty, theta=theta, tolerance=tolerance)
            fits.append(fit)
        return fits[::-1]


def _told(standard: Standard, found: Minimum, penalty: float) -> MultinomialFit:
    weight, bias = standard.to_raw(found.theta)
    return MultinomialFit(
        weight=weight,
        bias=bias,
        penalty=penalty,
        certificate=found.gradient,
        objective=found.value,
        iterations=found.iterations,
        solver=found.solver,
    )


def read_problem(
    features: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | str | None,
    classes: int | None,
) -> Problem:
    """Return rows and targets ready to be fitted.

    Args:
        features: Float, shape (n, p).
        labels: int64, shape (n,), from 0.
        class_weights: As in ``fit_multinomial``.
        classes: Number of classes; None takes the largest label plus one.

    Raises:
        DataError: NaN, one class, or shapes that do not fit.
        ParameterError: Unusable weights.
    """
    labels = check_labels(labels, classes)
    check_features(features, rows=len(labels))
    weights = class_weights
    if class_weights is not None and not isinstance(class_weights, str):
        known = classes or int(labels.max()) + 1
        weights = check_class_weights(class_weights, known).to(labels.device)[labels]
    targets = read_targets(labels, classes=classes, weights=weights)
    standard = standard_of(features)
    return Problem(standard, standard.apply(features), targets)
