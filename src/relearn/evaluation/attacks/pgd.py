"""Projected gradient ascent on the cross-entropy, with restarts; a fooled sample leaves at once.

References:
    Madry et al. 2018, arXiv 1706.06083, section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from relearn.evaluation.attacks.losses import cross_entropy
from relearn.evaluation.attacks.white_box import climb, logits_at
from relearn.evaluation.attacks.worst import Worst

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
        worst = Worst(pixels, labels, self.stop_early)
        for _ in range(self.restarts):
            if not len(worst.left):
                break
            self._restart(model, worst, ball, generator)
        return worst.points

    def _restart(self, model: nn.Module, worst: Worst, ball: Ball, generator: Generator) -> None:
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
