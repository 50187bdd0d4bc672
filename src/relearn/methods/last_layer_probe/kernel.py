"""The dual kernel of a skeleton: what its random networks tend to as they become wide.

Daniely, Frostig, Singer, arXiv 1602.05897. The kernel is filled tile by tile: a tile goes through
all layers in place while it lies in the cache, only the upper half of a symmetric kernel is
computed, and its diagonal is set to its exact values. Gradients go through the derivative duals, so
that they are finite where two inputs coincide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.errors import DataError, ParameterError
from relearn.methods.last_layer_probe.input_norm import (
    Embedded,
    InputNorm,
    check_inputs,
    default_norm,
    embed,
)
from relearn.methods.last_layer_probe.kernel_memory import require_room
from relearn.methods.last_layer_probe.layer_walk import (
    Walk,
    tile,
    walk_of,
)
from relearn.methods.last_layer_probe.one_curve import (
    Vectors,
    curve_of,
    kernel_along,
    mirror_squares,
)
from relearn.methods.last_layer_probe.scratch import Scratch
from relearn.methods.last_layer_probe.sides import Side, keeps_unit, side_of

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.skeleton import Skeleton

TILE_NUMBERS = 1 << 18
"""Most numbers in a tile over all positions: 1 MB in float32, which the caches hold."""


@dataclass(frozen=True)
class _Tiles:
    """How a kernel is cut.

    Attributes:
        rows: Inputs on the left of a tile.
        columns: Inputs on its right.
    """

    rows: int
    columns: int

    def of(self, n: int, m: int, *, symmetric: bool) -> Iterator[tuple[slice, slice]]:
        """Yield rows and columns of all tiles; of a symmetric kernel the upper half."""
        for top in range(0, n, self.rows):
            for first in range(top if symmetric else 0, m, self.columns):
                yield (
                    slice(top, min(top + self.rows, n)),
                    slice(first, min(first + self.columns, m)),
                )


def dual_kernel(
    skeleton: Skeleton,
    x: Tensor,
    y: Tensor | None = None,
    *,
    input_norm: InputNorm | None = None,
    patch: int = 3,
    block: int = 512,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return kappa(x_i, y_j) for all pairs of inputs.

    Args:
        skeleton: Whose kernel.
        x: Shape (n, channels, height, width), or (n, ...) where one node sees the whole input.
        y: Likewise with m inputs; None: the kernel of ``x`` with itself, symmetric, with exact
            diagonal.
        input_norm: How inputs are placed on spheres; None: ``default_norm``.
        patch: Pixels along each side with ``input_norm="patch"``.
        block: Most inputs along each side of a tile, at least 1. Where one node sees the whole
            input it cuts symmetric kernels alone.
        dtype: float32 or float64, in which everything is computed.

    Returns:
        Shape (n, m) or (n, n), on the device of ``x``.

    Raises:
        DataError: Inputs of a wrong shape, of zero norm, or not finite.
        ParameterError: A block below 1, another precision, an unknown norm, or a kernel that is too
            large for memory; the message says what fits.
    """
    _check(x, y, block, dtype)
    norm = default_norm(skeleton) if input_norm is None else input_norm
    require_room(skeleton, x, y, dtype=dtype)
    asked = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, y))
    if norm == "global" and skeleton.grid == (1, 1) and not asked:
        curve = curve_of(skeleton, dtype=dtype)
        if curve is not None:
            vectors = [
                Vectors(
                    each.detach().to(dtype).flatten(1),
                    check_inputs(each, skeleton, norm, dtype=dtype),
                )
                for each in ((x,) if y is None else (x, y))
            ]
            return kernel_along(curve, *vectors, block=block)
    left = embed(x.to(dtype), skeleton, norm, patch=patch)
    right = None if y is None else embed(y.to(dtype), skeleton, norm, patch=patch)
    walk = walk_of(skeleton, dtype=dtype, device=x.device)
    unit = keeps_unit(skeleton, left)
    tiles = _cut(skeleton, left, block)
    if asked:
        one = side_of(walk, left.vectors, unit=unit)
        other = one if right is None else side_of(walk, right.vectors, unit=unit)
        return _differentiable(walk, one, other, tiles)
    with torch.no_grad():
        one = side_of(walk, left.vectors, unit=unit)
        if right is None:
            return _symmetric(walk, one, tiles)
        return _rectangle(walk, one, side_of(walk, right.vectors, unit=unit), tiles)


def kernel_diagonal(
    skeleton: Skeleton,
    x: Tensor,
    *,
    input_norm: InputNorm | None = None,
    patch: int = 3,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return kappa(x_i, x_i) for each input, without the rest of the kernel.

    Args:
        skeleton: Whose kernel.
        x: As in ``dual_kernel``.
        input_norm: Likewise.
        patch: Likewise.
        dtype: Likewise.

    Returns:
        Shape (n,); ones where all vectors at the input nodes are unit ones.

    Raises:
        DataError: As ``dual_kernel``.
        ParameterError: Likewise.
    """
    _check(x, None, 1, dtype)
    norm = default_norm(skeleton) if input_norm is None else input_norm
    embedded = embed(x.to(dtype), skeleton, norm, patch=patch)
    walk = walk_of(skeleton, dtype=dtype, device=x.device)
    return side_of(walk, embedded.vectors, unit=keeps_unit(skeleton, embedded)).lengths


def _check(x: Tensor, y: Tensor | None, block: int, dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.float64):
        raise ParameterError(
            f"last_layer_probe.kernel.dtype: got {dtype}, expected torch.float32 or torch.float64"
        )
    if block < 1:
        raise ParameterError(f"last_layer_probe.kernel.block: got {block}, expected 1 or more")
    if y is not None and (x.shape[1:] != y.shape[1:] or x.device != y.device):
        raise DataError(
            f"last_layer_probe: got inputs of shapes {tuple(x.shape)} on {x.device} and "
            f"{tuple(y.shape)} on {y.device}, expected two sets that differ in number only"
        )


def _cut(skeleton: Skeleton, embedded: Embedded, block: int) -> _Tiles:
    """Return tiles that the caches hold over all positions: long along the right side."""
    n = embedded.vectors.shape[2]
    positions = max(height * width for height, width in skeleton.layout.grids.values())
    columns = min(block, n)
    rows = max(1, min(block, math.ceil(TILE_NUMBERS / (positions * columns))))
    return _Tiles(rows, columns)


def _rectangle(walk: Walk, left: Side, right: Side, tiles: _Tiles) -> Tensor:
    n, m = len(left.lengths), len(right.lengths)
    kernel = left.vectors.new_empty(n, m)
    scratch = Scratch(dtype=kernel.dtype, device=kernel.device)
    for rows, columns in tiles.of(n, m, symmetric=False):
        kernel[rows, columns] = tile(walk, left.part(rows), right.part(columns), scratch)
    return kernel


def _symmetric(walk: Walk, side: Side, tiles: _Tiles) -> Tensor:
    n = len(side.lengths)
    kernel = side.vectors.new_empty(n, n)
    scratch = Scratch(dtype=kernel.dtype, device=kernel.device)
    for rows, columns in tiles.of(n, n, symmetric=True):
        found = tile(walk, side.part(rows), side.part(columns), scratch)
        kernel[rows, columns] = found
        kernel[columns, rows] = found.T
    mirror_squares(kernel, tiles.rows)
    kernel.diagonal().copy_(side.lengths)
    return kernel


def _differentiable(walk: Walk, left: Side, right: Side, tiles: _Tiles) -> Tensor:
    n, m = len(left.lengths), len(right.lengths)
    strips: dict[int, list[Tensor]] = {}
    for rows, columns in tiles.of(n, m, symmetric=False):
        found = tile(walk, left.part(rows), right.part(columns), None)
        strips.setdefault(rows.start, []).append(found)
    kernel = torch.cat([torch.cat(strip, dim=1) for strip in strips.values()])
    if left is not right:
        return kernel
    eye = torch.eye(n, dtype=torch.bool, device=kernel.device)
    return torch.where(eye, left.lengths[:, None], kernel)
