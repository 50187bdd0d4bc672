"""Auto-PGD: gradient ascent with momentum that chooses its own step size.

References:
    Croce and Hein 2020, arXiv 2003.01690, algorithm 1 and sections 3 to 4.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch

from relearn.errors import EvidenceError, one_of
from relearn.evaluation.attacks import losses
from relearn.evaluation.attacks.white_box import climb, logits_at, per_sample
from relearn.evaluation.attacks.worst import Worst

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from relearn.data.ball import Ball

_MOMENTUM = 0.75  # alpha of algorithm 1
_ENOUGH = 0.75  # rho: share of steps that must climb between two checkpoints
_TINY = 1e-12
_LOSSES: dict[str, tuple[losses.Loss, bool, int]] = {
    "cross_entropy": (losses.cross_entropy, False, 2),
    "logits_ratio": (losses.logits_ratio, False, 3),
    "targeted_logits_ratio": (losses.targeted_logits_ratio, True, 4),
    "targeted_margin": (losses.targeted_margin, True, 2),
}
"""Name to (loss, whether it has a target, classes that it needs)."""


@dataclass(frozen=True)
class Apgd:
    """Settings of the attack; it has no step size.

    Attributes:
        loss: ``cross_entropy``, ``logits_ratio`` (DLR), ``targeted_logits_ratio`` or
            ``targeted_margin``.
        steps: Steps of each restart.
        restarts: Starts of each sample, and of each target.
        targets: Target classes of the targeted losses, the likeliest first.
        stop_early: As for ``Pgd``.
    """

    loss: str = "cross_entropy"
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    stop_early: bool = True

    def perturb(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        ball: Ball,
        generator: Generator,
    ) -> Tensor:
        """Return the worst point met for each sample; see ``Attack.perturb``.

        Raises:
            ParameterError: The loss is not known.
            EvidenceError: The loss needs more classes than the net has.
        """
        if self.loss not in _LOSSES:
            raise one_of("apgd.loss", self.loss, _LOSSES)
        loss, targeted, needed = _LOSSES[self.loss]
        logits = logits_at(model, pixels)
        if logits.shape[1] < needed:
            raise EvidenceError(
                f"apgd: the loss {self.loss!r} needs {needed} classes, the net has "
                f"{logits.shape[1]}; use targeted_margin or cross_entropy"
            )
        count = self.targets if targeted else 1
        worst = Worst(pixels, labels, self.stop_early)
        for target in losses.likeliest_targets(logits, labels, count).unbind(1):
            climber = _Climber(model, loss, target, worst, ball)
            for _ in range(self.restarts):
                if len(worst.left):
                    self._restart(climber, generator)
        return worst.points

    def _restart(self, climber: _Climber, generator: Generator) -> None:
        path = climber.begin(generator)
        marks = checkpoints(self.steps)
        for step in range(1, self.steps + 1):
            if not len(path.points):
                return
            path = climber.advance(path, 1.0 if step == 1 else _MOMENTUM)
            if step in marks:
                path = _look_back(path, step - marks[step])


@dataclass(frozen=True)
class _Path:
    """Where the samples that are still attacked stand; every field has one row for each.

    ``before`` is the point of the step before, ``climbs`` counts the steps that raised the loss
    since the last checkpoint, ``known_best`` is the best loss then, ``rested`` says whether the
    step size was kept there.
    """

    images: Tensor
    points: Tensor
    before: Tensor
    gradient: Tensor
    losses: Tensor
    best: Tensor
    best_gradient: Tensor
    best_losses: Tensor
    step_size: Tensor
    climbs: Tensor
    known_best: Tensor
    rested: Tensor

    def keep(self, rows: Tensor | None) -> _Path:
        """Return the path of some of its samples, None for all."""
        if rows is None:
            return self
        return _Path(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class _Climber:
    """Makes the steps towards one target."""

    model: nn.Module
    loss: losses.Loss
    targets: Tensor
    worst: Worst
    ball: Ball

    def begin(self, generator: Generator) -> _Path:
        """Return the path at its start, with a first step of 2 epsilon."""
        images = self.worst.pixels[self.worst.left]
        points = self.ball.random_start(images, generator)
        logits, values, gradient = self._look(points)
        sizes = torch.full_like(values, 2 * self.ball.epsilon)
        never = torch.zeros_like(values, dtype=torch.bool)
        path = _Path(
            *(images, points, points, gradient, values),
            *(points, gradient, values, sizes, torch.zeros_like(values), values, never),
        )
        return path.keep(self.worst.meet(points, logits, values))

    def advance(self, path: _Path, momentum: float) -> _Path:
        """Return the path one step further: steps 6 to 9 of algorithm 1."""
        stretch = per_sample(path.step_size) * self._direction(path.gradient)
        ahead = self.ball.project(path.points + stretch, path.images)
        moved = momentum * (ahead - path.points) + (1 - momentum) * (path.points - path.before)
        points = self.ball.project(path.points + moved, path.images)
        logits, values, gradient = self._look(points)
        better = values > path.best_losses
        wide = per_sample(better)
        path = replace(
            path,
            points=points,
            before=path.points,
            gradient=gradient,
            losses=values,
            climbs=path.climbs + (values > path.losses),
            best=torch.where(wide, points, path.best),
            best_gradient=torch.where(wide, gradient, path.best_gradient),
            best_losses=torch.where(better, values, path.best_losses),
        )
        return path.keep(self.worst.meet(points, logits, values))

    def _look(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = self.worst.left
        labels, targets = self.worst.labels[rows], self.targets[rows]
        return climb(self.model, points, lambda z: self.loss(z, labels, targets))

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.ball.norm == "linf":
            return gradient.sign()
        return gradient / per_sample(gradient.flatten(1).norm(dim=1) + _TINY)


def checkpoints(steps: int) -> dict[int, int]:
    """Return the steps at which the step size is looked at, each with the one before it.

    p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06); w_j = ceil(p_j steps).

    Args:
        steps: Steps of a restart.

    References:
        Section 3.1.
    """
    before, share = 0, 22  # in hundredths, which floats would round past the next step
    marks: dict[int, int] = {}
    last = 0
    while share <= 100:
        mark = -(-share * steps // 100)
        if mark > last:
            marks[mark] = last
            last = mark
        before, share = share, share + max(share - before - 3, 6)
    return marks


def _look_back(path: _Path, steps: int) -> _Path:
    """Halve the step size of samples that climb too seldom or stand, and send them to their best.

    Conditions 1 and 2 of section 3.1, over the given number of steps since the last checkpoint.
    """
    seldom = path.climbs < _ENOUGH * steps
    stands = path.rested & (path.best_losses <= path.known_best)
    halve = seldom | stands
    wide = per_sample(halve)
    return replace(
        path,
        step_size=torch.where(halve, path.step_size / 2, path.step_size),
        points=torch.where(wide, path.best, path.points),
        gradient=torch.where(wide, path.best_gradient, path.gradient),
        losses=torch.where(halve, path.best_losses, path.losses),
        climbs=torch.zeros_like(path.climbs),
        known_best=path.best_losses,
        rested=~halve,
    )
