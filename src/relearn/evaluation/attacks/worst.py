"""The worst point of each sample that an attack has met, and which samples it still attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.evaluation.attacks.white_box import is_fooled

if TYPE_CHECKING:
    from torch import Tensor


class Worst:
    """Worst points so far, and the rows that are still attacked.

    A point that fools is worse than any that does not; otherwise the higher loss is worse.

    Args:
        pixels: float32 in [0, 1], shape (n, channels, height, width).
        labels: int64, shape (n,).
        stop_early: Whether a sample that is fooled is attacked no more.

    Attributes:
        points: Worst points, at first the images themselves.
        losses: Their losses, shape (n,).
        fooled: Where they fool the net, bool, shape (n,).
        left: Rows that are still attacked, int64.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, stop_early: bool) -> None:
        self.pixels, self.labels = pixels, labels
        self.points = pixels.clone()
        self.losses = torch.full_like(labels, -torch.inf, dtype=torch.float32)
        self.fooled = torch.zeros_like(labels, dtype=torch.bool)
        self.left = torch.arange(len(labels), device=labels.device)
        self._stop_early = stop_early

    def meet(self, points: Tensor, logits: Tensor, losses: Tensor) -> Tensor | None:
        """Write down what is worse than before; return which rows go on, None for all.

        Args:
            points: Of the rows ``left``, shape (left, channels, height, width).
            logits: Shape (left, classes).
            losses: Shape (left,).
        """
        fooled = is_fooled(logits, self.labels[self.left])
        known = self.fooled[self.left]
        worse = (fooled & ~known) | ((fooled == known) & (losses > self.losses[self.left]))
        rows = self.left[worse]
        self.points[rows], self.losses[rows] = points[worse], losses[worse]
        self.fooled[rows] = fooled[worse]
        if not self._stop_early or not bool(fooled.any()):
            return None
        self.left = self.left[~fooled]
        return ~fooled
