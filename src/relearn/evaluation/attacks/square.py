"""Square attack: random search by changing one square of the image at a time, without gradients.

References:
    Andriushchenko et al. 2020, arXiv 1912.00049, algorithms 1 to 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.evaluation.attacks.losses import margin
from relearn.evaluation.attacks.square_moves import Move, l2_move, l2_start, linf_move, linf_start
from relearn.evaluation.attacks.white_box import logits_at, per_sample

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from relearn.data.ball import Ball

_HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
"""Queries of 10,000 after which the share of changed pixels is halved (section 4.1)."""


@dataclass(frozen=True)
class Square:
    """Settings of the attack.

    Attributes:
        queries: Forward passes of each sample.
        initial_share: Share of the pixels that the first squares cover, 0 to 1.
    """

    queries: int = 5000
    initial_share: float = 0.8

    def perturb(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        ball: Ball,
        generator: Generator,
    ) -> Tensor:
        """Return the point of the largest margin for each sample; see ``Attack.perturb``."""
        start, move = (linf_start, linf_move) if ball.norm == "linf" else (l2_start, l2_move)
        found = start(pixels, ball.epsilon, generator)
        left = torch.arange(len(labels), device=labels.device)
        points, images, truth = found.clone(), pixels, labels
        margins = margin(logits_at(model, points), truth)
        for query in range(1, self.queries):
            resting = margins > 0
            if bool(resting.any()):
                found[left] = points
                going = ~resting
                left, points, images = left[going], points[going], images[going]
                truth, margins = truth[going], margins[going]
            if not len(left):
                break
            side = self._side(query, (images.shape[2], images.shape[3]))
            tried = move(points, images, Move(ball.epsilon, side, generator))
            values = margin(logits_at(model, tried), truth)
            better = values > margins
            points = torch.where(per_sample(better), tried, points)
            margins = torch.where(better, values, margins)
        found[left] = points
        return found

    def _side(self, query: int, size: tuple[int, int]) -> int:
        """Return the side of the square that the next query changes, in pixels."""
        of_ten_thousand = query * 10_000 / self.queries
        share = self.initial_share / 2 ** sum(of_ten_thousand > mark for mark in _HALVINGS)
        side = round(math.sqrt(share * size[0] * size[1]))
        return max(1, min(side, *size))
