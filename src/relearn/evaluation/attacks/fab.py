"""FAB: the nearest image of another class, found by projecting on the linearised boundary.

The attack has no radius: it looks for the smallest perturbation, one target class at a time, and a
sample is fooled if that is inside the ball.

References:
    Croce and Hein 2020, arXiv 1907.02044, algorithm 1; the targeted form in arXiv 2003.01690,
    section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.evaluation.attacks.losses import likeliest_targets, margin, targeted_margin
from relearn.evaluation.attacks.white_box import (
    climb,
    is_fooled,
    length,
    logits_at,
    per_sample,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from relearn.data.ball import Ball

_TINY = 1e-12
_PAST = 0.01  # how far past the boundary the first step of the final search aims; then its powers


@dataclass(frozen=True)
class Fab:
    """Settings of the attack; it draws nothing.

    Attributes:
        steps: Steps towards each target.
        targets: Target classes, the likeliest first.
        largest_bias: Largest pull towards the image itself (alpha_max).
        overshoot: How far beyond the boundary a step goes (eta), above 1.
        backward: Share of the way from the image that is kept once the net is fooled (beta).
        search_steps: Steps of the search between the image and the best point found.
    """

    steps: int = 100
    targets: int = 9
    largest_bias: float = 0.1
    overshoot: float = 1.05
    backward: float = 0.9
    search_steps: int = 3

    def perturb(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        ball: Ball,
        generator: Generator,
    ) -> Tensor:
        """Return the nearest point found, put into the ball; see ``Attack.perturb``."""
        found = self.nearest(model, pixels, labels, norm=ball.norm, enough=ball.epsilon)
        return ball.project(found, pixels)

    def nearest(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        norm: str,
        enough: float = 0.0,
    ) -> Tensor:
        """Return the nearest point found that fools the net, or the image where there is none.

        Args:
            model: Pixels to logits.
            pixels: float32 in [0, 1], shape (batch, channels, height, width).
            labels: int64, shape (batch,).
            norm: ``linf`` or ``l2``.
            enough: A sample whose point is no further than this rests.
        """
        best = _Nearest(pixels, labels, norm)
        targets = likeliest_targets(logits_at(model, pixels), labels, self.targets)
        for target in targets.unbind(1):
            rows = (best.distances > enough).nonzero().squeeze(1)
            if not len(rows):
                break
            self._approach(model, best, (rows, target[rows]), enough)
            self._search(model, best, rows[best.distances[rows] > enough])
        return best.points

    def _approach(
        self, model: nn.Module, best: _Nearest, aim: tuple[Tensor, Tensor], enough: float
    ) -> None:
        """Step towards one target class; ``aim`` holds rows and their targets."""
        rows, targets = aim
        points = best.pixels[rows]
        for _ in range(self.steps):
            images, labels = best.pixels[rows], best.labels[rows]
            points = self._step(model, points, images, (labels, targets, best.norm))
            fooled = is_fooled(logits_at(model, points), labels)
            best.meet(rows[fooled], points[fooled])
            back = images + self.backward * (points - images)
            points = torch.where(per_sample(fooled), back, points)
            going = best.distances[rows] > enough
            if not bool(going.all()):
                rows, targets, points = rows[going], targets[going], points[going]
            if not len(rows):
                return

    def _step(
        self,
        model: nn.Module,
        points: Tensor,
        images: Tensor,
        seen: tuple[Tensor, Tensor, str],
    ) -> Tensor:
        """Return the biased step of section 3.2: between the projections of point and image."""
        labels, targets, norm = seen
        _, gap, slope = climb(model, points, lambda z: targeted_margin(z, labels, targets))
        # the linearised boundary: gap + <slope, z - points> = 0
        lag = (slope * (images - points)).flatten(1).sum(1)
        ahead = to_hyperplane(points, slope, -gap, norm)
        around = to_hyperplane(images, slope, -gap - lag, norm)
        near, far = length(ahead, norm), length(around, norm)
        bias = per_sample((near / (near + far + _TINY)).clamp(max=self.largest_bias))
        own = points + self.overshoot * ahead
        home = images + self.overshoot * around
        return ((1 - bias) * own + bias * home).clamp(0, 1)

    def _search(self, model: nn.Module, best: _Nearest, rows: Tensor) -> None:
        """Bring the points found closer to the boundary, along the way from the image."""
        rows = rows[best.distances[rows].isfinite()]
        if not len(rows):
            return
        images, labels = best.pixels[rows], best.labels[rows]
        way = best.points[rows] - images
        below = margin(logits_at(model, images), labels)
        above = margin(logits_at(model, images + way), labels)
        low, high = torch.zeros_like(below), torch.ones_like(below)
        for step in range(1, self.search_steps + 1):
            past = _PAST**step
            share = (-below / (above - below + _TINY)).clamp(0, 1 - past) + past
            middle = low + share * (high - low)
            points = (images + per_sample(middle) * way).clamp(0, 1)
            logits = logits_at(model, points)
            values, fooled = margin(logits, labels), is_fooled(logits, labels)
            best.meet(rows[fooled], points[fooled])
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
            below, above = torch.where(fooled, below, values), torch.where(fooled, values, above)


class _Nearest:
    """The nearest point of each sample that fools the net."""

    def __init__(self, pixels: Tensor, labels: Tensor, norm: str) -> None:
        self.pixels, self.labels, self.norm = pixels, labels, norm
        self.points = pixels.clone()
        self.distances = torch.full_like(labels, torch.inf, dtype=torch.float32)

    def meet(self, rows: Tensor, points: Tensor) -> None:
        """Write down the points of some rows that are nearer than before."""
        away = length(points - self.pixels[rows], self.norm)
        nearer = away < self.distances[rows]
        self.points[rows[nearer]] = points[nearer]
        self.distances[rows[nearer]] = away[nearer]


def to_hyperplane(points: Tensor, slope: Tensor, rise: Tensor, norm: str) -> Tensor:
    """Return the smallest change d with <slope, d> = rise and points + d in [0, 1].

    With |d_i| = min(t a_i, room_i), where a_i = 1 (linf) or |slope_i| (l2) and room_i is the way to
    the edge of the range, sum_i |slope_i| |d_i| grows piecewise linearly in t; its corners are
    sorted, and t is read off. Where the range is too small, every pixel goes to its edge.

    Args:
        points: In [0, 1], shape (batch, channels, height, width).
        slope: Same shape.
        rise: Shape (batch,), any sign.
        norm: ``linf`` or ``l2``.

    Returns:
        Shape of ``points``.

    References:
        arXiv 1907.02044, section 2 and appendix A.
    """
    turn = (slope * per_sample(rise)).sign().flatten(1)
    flat, steep = points.flatten(1), slope.flatten(1).abs()
    room = torch.where(turn > 0, 1 - flat, flat)
    pace = torch.ones_like(steep) if norm == "linf" else steep.clamp(min=_TINY)
    corners, order = (room / pace).sort(dim=1)
    weight = steep.gather(1, order)
    speed = weight * pace.gather(1, order)
    none = torch.zeros_like(rise).unsqueeze(1)
    # entry k of both: once the first k pixels are at their edges
    reached = torch.cat([none, (weight * room.gather(1, order)).cumsum(1)], dim=1)
    going = torch.cat([speed.flip(1).cumsum(1).flip(1), none], dim=1)
    need = rise.abs().unsqueeze(1)
    heights = reached[:, 1:] + corners * going[:, 1:]
    passed = (heights < need).sum(1, keepdim=True)
    reach = (need - reached.gather(1, passed)) / going.gather(1, passed).clamp(min=_TINY)
    change = torch.minimum(reach * pace, room) * turn
    return change.view_as(points)
