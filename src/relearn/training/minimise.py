"""Two ways to the minimum of a convex objective: L-BFGS, and Newton steps by conjugate gradients.

L-BFGS is fast where the curvature is even; where features are nearly dependent and the penalty is
small it creeps, and Newton-CG, which uses exact products with the curvature, takes over from where
it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.training.multinomial_objective import Curvature, Objective

LBFGS_STEPS = 300
NEWTON_STEPS = 100
_HISTORY = 20
_CG_STEPS = 500
_HALVINGS = 40
_ARMIJO = 1e-4
_ROUNDING = 1e-14  # relative; two values of the objective that differ by less are equal


@dataclass(frozen=True)
class Minimum:
    """Where a minimiser stopped.

    Attributes:
        theta: The point.
        value: Of the objective.
        gradient: Largest absolute entry of the gradient there: the certificate.
        iterations: Steps taken, of both kinds.
        solver: ``lbfgs``, or ``newton_cg`` if that had to finish.
    """

    theta: Tensor
    value: float
    gradient: float
    iterations: int
    solver: str


def minimise(
    objective: Objective, start: Tensor, *, tolerance: float, lbfgs_steps: int = LBFGS_STEPS
) -> Minimum:
    """Return the minimum, or the point where both ways gave up; the gradient tells which.

    Args:
        objective: Convex.
        start: First point.
        tolerance: Largest absolute entry of the gradient that ends the search.
        lbfgs_steps: Steps of L-BFGS before Newton-CG takes over.
    """
    theta, steps = _lbfgs(objective, start, tolerance, lbfgs_steps)
    value, gradient = objective.value_and_gradient(theta)
    if _largest(gradient) <= tolerance:
        return Minimum(theta, value, _largest(gradient), steps, "lbfgs")
    return newton_cg(objective, theta, tolerance=tolerance, before=steps)


def _lbfgs(objective: Objective, start: Tensor, tolerance: float, steps: int) -> tuple[Tensor, int]:
    theta = start.clone()
    if not steps:
        return theta, 0
    search = torch.optim.LBFGS(
        [theta],
        max_iter=steps,
        history_size=_HISTORY,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        value, theta.grad = objective.value_and_gradient(theta.detach())
        return value

    search.step(closure)
    return theta, int(search.state[theta]["n_iter"])


def newton_cg(objective: Objective, start: Tensor, *, tolerance: float, before: int = 0) -> Minimum:
    """Return where Newton steps, each solved by conjugate gradients, stopped.

    Args:
        objective: Convex.
        start: First point.
        tolerance: Largest absolute entry of the gradient that ends the search.
        before: Steps already taken by another way, for the count.
    """
    theta, steps = start, 0
    value, gradient = objective.value_and_gradient(theta)
    while _largest(gradient) > tolerance and steps < NEWTON_STEPS:
        direction = _newton_direction(objective.curvature(theta), gradient)
        moved = _down(objective, theta, direction, (value, gradient))
        if moved is None:
            break
        theta, value, gradient = moved
        steps += 1
    return Minimum(theta, value, _largest(gradient), before + steps, "newton_cg")


def _newton_direction(curvature: Curvature, gradient: Tensor) -> Tensor:
    """Return d with H d = -gradient, more exactly the smaller the gradient (forcing sequence)."""
    direction = torch.zeros_like(gradient)
    residual = -gradient
    search, square = residual.clone(), float(residual.square().sum())
    enough = square * min(0.25, square**0.5)
    for _ in range(_CG_STEPS):
        turned = curvature.times(search)
        bend = float((search * turned).sum())
        if bend <= 0:  # flat up to rounding: nothing to gain along it
            break
        step = square / bend
        direction = direction + step * search
        residual = residual - step * turned
        fresh = float(residual.square().sum())
        if fresh <= enough:
            break
        search, square = residual + fresh / square * search, fresh
    return direction if bool(direction.any()) else -gradient


def _down(
    objective: Objective, theta: Tensor, direction: Tensor, here: tuple[float, Tensor]
) -> tuple[Tensor, float, Tensor] | None:
    """Return the first of the halved steps that goes down enough; None if none does."""
    value, gradient = here
    slope, step = float((gradient * direction).sum()), 1.0
    for _ in range(_HALVINGS):
        point = theta + step * direction
        there, pull = objective.value_and_gradient(point)
        if there <= value + _ARMIJO * step * slope + _ROUNDING * abs(value):
            return point, there, pull
        step /= 2
    return None


def _largest(gradient: Tensor) -> float:
    return float(gradient.abs().max())
