"""Where the Square attack begins and how it changes a square, for a whole batch at once.

References:
    Andriushchenko et al. 2020, arXiv 1912.00049, sections 4.2 (linf) and 4.3 (l2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

_TINY = 1e-12


@dataclass(frozen=True)
class Move:
    """What a change needs to know.

    Attributes:
        epsilon: Radius of the ball, in units of the 0..1 range of pixels.
        side: Side of the square, in pixels.
        generator: CPU generator of place and signs.
    """

    epsilon: float
    side: int
    generator: Generator


def linf_start(pixels: Tensor, epsilon: float, generator: Generator) -> Tensor:
    """Return the images with vertical stripes of +epsilon or -epsilon in each channel.

    Args:
        pixels: Shape (batch, channels, height, width), in [0, 1].
        epsilon: Radius of the ball.
        generator: CPU generator of the signs.
    """
    batch, channels, _, width = pixels.shape
    return (pixels + epsilon * _signs((batch, channels, 1, width), generator, pixels)).clamp(0, 1)


def linf_move(points: Tensor, pixels: Tensor, move: Move) -> Tensor:
    """Return the points with one square at +epsilon or -epsilon in each channel (algorithm 2).

    Args:
        points: Best so far, shape (batch, channels, height, width).
        pixels: The images, same shape.
        move: Radius, side and generator.
    """
    batch, channels = points.shape[:2]
    inside = _inside(_corners(points, move), move.side, points)
    signs = _signs((batch, channels, 1, 1), move.generator, points)
    return torch.where(inside, (pixels + move.epsilon * signs).clamp(0, 1), points)


def l2_start(pixels: Tensor, epsilon: float, generator: Generator) -> Tensor:
    """Return the images with a grid of bumps of random sign, of length epsilon before clamping.

    Args:
        pixels: Shape (batch, channels, height, width), in [0, 1].
        epsilon: Radius of the ball.
        generator: CPU generator of the signs.
    """
    batch, channels, height, width = pixels.shape
    side = min(max(min(height, width) // 5, 3), height, width)
    rows, columns = -(-height // side), -(-width // side)
    signs = _signs((batch, channels, rows, columns), generator, pixels)
    grid = torch.kron(signs, bumps(side).to(pixels))[:, :, :height, :width]
    length = grid.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    started: Tensor = (pixels + epsilon * grid / length).clamp(0, 1)
    return started


def l2_move(points: Tensor, pixels: Tensor, move: Move) -> Tensor:
    """Return the points with the change of one square moved into another (algorithm 3).

    The second square goes back to the image; the length it had, and what the clamp left unused,
    goes to the first one, into a mix of its present direction and fresh bumps.

    Args:
        points: Best so far, shape (batch, channels, height, width).
        pixels: The images, same shape.
        move: Radius, side and generator.
    """
    batch, channels, height, width = points.shape
    # a bump needs three pixels to have a shape
    move = replace(move, side=max(move.side, min(3, height, width)))
    change = points - pixels
    to, taken = _corners(points, move), _corners(points, move)
    both = _inside(to, move.side, points) | _inside(taken, move.side, points)
    unused = (move.epsilon**2 - change.square().sum((1, 2, 3))).clamp(min=0)
    freed = (change * both).square().sum((2, 3))
    length = (freed + unused.unsqueeze(1) / channels).sqrt()[:, :, None, None]
    place = _indices(to, move.side, points)
    window = change[place]
    fresh = _turned(bumps(move.side).to(points), batch, move.generator)
    fresh = fresh.unsqueeze(1) * _signs((batch, channels, 1, 1), move.generator, points)
    mixed = fresh + _unit(window)
    change = change.masked_fill(_inside(taken, move.side, points), 0.0)
    change[place] = _unit(mixed) * length
    return (pixels + change).clamp(0, 1)


def bumps(side: int) -> Tensor:
    """Return two bumps of opposite sign, one above the other, of length 1, shape (side, side).

    eta(r, s) = sum_{k=0}^{M(r, s)} 1 / (n + 1 - k)^2: falling with the distance from the middle of
    each half.

    Args:
        side: Pixels of a side.

    References:
        Equation 2 of section 4.3.
    """
    upper = side // 2
    halves = [_bump(upper, side), -_bump(side - upper, side)] if upper else [_bump(1, 1)]
    whole = torch.cat(halves)
    unit: Tensor = whole / whole.norm()
    return unit


def _bump(height: int, width: int) -> Tensor:
    rows = (torch.arange(height) - height // 2).abs().unsqueeze(1)
    columns = (torch.arange(width) - width // 2).abs().unsqueeze(0)
    away = torch.maximum(rows, columns)
    rings = 1 / torch.arange(1, int(away.max()) + 2, dtype=torch.float32).square()
    return rings.flip(0).cumsum(0).flip(0)[away]


def _signs(shape: tuple[int, ...], generator: Generator, like: Tensor) -> Tensor:
    return (torch.randint(0, 2, shape, generator=generator) * 2 - 1).to(like)


def _corners(points: Tensor, move: Move) -> tuple[Tensor, Tensor]:
    """Return the upper left corner of a square for each sample, two of int64, shape (batch,)."""
    batch, _, height, width = points.shape
    rows = torch.randint(0, height - move.side + 1, (batch,), generator=move.generator)
    columns = torch.randint(0, width - move.side + 1, (batch,), generator=move.generator)
    return rows.to(points.device), columns.to(points.device)


def _inside(corner: tuple[Tensor, Tensor], side: int, like: Tensor) -> Tensor:
    """Return which pixels the square covers, bool, shape (batch, 1, height, width)."""
    covered = []
    for begin, size in zip(corner, like.shape[2:], strict=True):
        away = torch.arange(size, device=like.device) - begin.unsqueeze(1)
        covered.append((away >= 0) & (away < side))
    return (covered[0].unsqueeze(2) & covered[1].unsqueeze(1)).unsqueeze(1)


def _indices(corner: tuple[Tensor, Tensor], side: int, like: Tensor) -> tuple[Tensor, ...]:
    """Return indices that read the square as a tensor (batch, channels, side, side)."""
    batch, channels = like.shape[:2]
    along = torch.arange(side, device=like.device)
    return (
        torch.arange(batch, device=like.device).view(-1, 1, 1, 1),
        torch.arange(channels, device=like.device).view(1, -1, 1, 1),
        (corner[0].unsqueeze(1) + along).view(batch, 1, side, 1),
        (corner[1].unsqueeze(1) + along).view(batch, 1, 1, side),
    )


def _turned(window: Tensor, batch: int, generator: Generator) -> Tensor:
    """Return the bumps, lying or standing by chance, shape (batch, side, side)."""
    lying = torch.randint(0, 2, (batch, 1, 1), generator=generator).bool().to(window.device)
    return torch.where(lying, window.T, window)


def _unit(window: Tensor) -> Tensor:
    """Return each channel of each sample scaled to length 1; zero stays zero."""
    return window / (window.square().sum((2, 3), keepdim=True).sqrt() + _TINY)
