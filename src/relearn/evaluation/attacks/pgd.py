"""Projected gradient ascent on the cross-entropy, with restarts; a fooled sample leaves at once.

References:
    Madry et al. 2018, arXiv 1706.06083, section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from relearn.evaluation.attacks.losses import cross_entropy
from relearn.evaluation.attacks.white_box import climb, is_fooled, logits_at

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from relearn.data.ball import Ball


@dataclass(frozen=True)
class Pgd:
    """Settings of the attack.

    Attributes:
        step_size: Length of a step in the ball's norm, in units of the 0..1 range of pixels.
        steps: Steps of each restart.
        restarts: Starts of each sample.
        random_start: Whether a restart begins somewhere in the ball instead of at the image.
        stop_early: Whether a sample that is fooled rests; False goes on for the highest loss,
            which is what an attack on another net (transfer) needs.
    """

    step_size: float
    steps: int
    restarts: int = 1
    random_start: bool = True
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
        """Return the worst point met for each sample; see ``Attack.perturb``."""
        worst = _Worst(pixels, labels, self.stop_early)
        for _ in range(self.restarts):
            if not len(worst.left):
                break
            self._restart(model, worst, ball, generator)
        return worst.points

    def _restart(self, model: nn.Module, worst: _Worst, ball: Ball, generator: Generator) -> None:
        images, labels = worst.pixels[worst.left], worst.labels[worst.left]
        points = ball.random_start(images, generator) if self.random_start else images
        for _ in range(self.steps):
            loss = partial(cross_entropy, labels=labels, targets=labels)
            logits, losses, gradient = climb(model, points, loss)
            kept = worst.meet(points, logits, losses)
            if kept is not None:
                points, gradient = points[kept], gradient[kept]
                images, labels = images[kept], labels[kept]
            if not len(points):
                return
            points = ball.ascend(points, images, gradient, self.step_size)
        logits = logits_at(model, points)
        worst.meet(points, logits, cross_entropy(logits, labels, labels))


class _Worst:
    """The worst point of each sample so far, and which samples are still attacked."""

    def __init__(self, pixels: Tensor, labels: Tensor, stop_early: bool) -> None:
        self.pixels, self.labels = pixels, labels
        self.points = pixels.clone()
        self.losses = torch.full_like(labels, -torch.inf, dtype=torch.float32)
        self.fooled = torch.zeros_like(labels, dtype=torch.bool)
        self.left = torch.arange(len(labels), device=labels.device)
        self._stop_early = stop_early

    def meet(self, points: Tensor, logits: Tensor, losses: Tensor) -> Tensor | None:
        """Write down what is worse than before; return which rows go on, None for all."""
        fooled = is_fooled(logits, self.labels[self.left])
        known = self.fooled[self.left]
        # a point that fools is worse than any that does not, whatever its loss
        worse = (fooled & ~known) | ((fooled == known) & (losses > self.losses[self.left]))
        rows = self.left[worse]
        self.points[rows], self.losses[rows] = points[worse], losses[worse]
        self.fooled[rows] = fooled[worse]
        if not self._stop_early or not bool(fooled.any()):
            return None
        self.left = self.left[~fooled]
        return ~fooled
