"""Where one node sees the whole input, a skeleton's kernel is one curve of one correlation.

On unit vectors every node's kernel is then a function of rho = <x, x'>, whatever the graph, so that
a kernel costs one curve for every entry at any depth. Where the composition of all layers has no
curve (``curve``), the layers are walked one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from relearn.methods.last_layer_probe.curve import Curve, fitted
from relearn.methods.last_layer_probe.layer_walk import walk_of, walk_through
from relearn.methods.last_layer_probe.skeleton_graph import INPUT

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.skeleton import Skeleton

STRIP = 1 << 17
"""Numbers that go along the curve at a time: half a megabyte in float32."""
ROWS = 4096
"""Rows whose products are taken at once where no half is spared: fewer make them slower."""


def curve_of(skeleton: Skeleton, *, dtype: torch.dtype) -> Curve | None:
    """Return the curve of a skeleton on unit vectors, or None where no polynomial comes close.

    A skeleton keeps its curves: two that count as equal may hold different callables of one name.

    Args:
        skeleton: One whose input is one node.
        dtype: In which it is to be evaluated.
    """
    key = (INPUT, dtype)
    if key not in skeleton.curves:
        walk = walk_of(skeleton, dtype=torch.float64, device=torch.device("cpu"))
        skeleton.curves[key] = fitted(
            lambda rho: walk_through(walk, rho[None, None, None])[0], dtype=dtype
        )
    return skeleton.curves[key]


class Vectors(NamedTuple):
    """Inputs of any length, of which only the direction counts.

    Attributes:
        values: Shape (n, dimension).
        lengths: Shape (n,), none 0.
    """

    values: Tensor
    lengths: Tensor


def kernel_along(curve: Curve, x: Vectors, y: Vectors | None = None, *, block: int) -> Tensor:
    """Return the kernel of vectors.

    Products are taken by strips, each of which goes along the curve while the caches hold it.

    Args:
        curve: Of the skeleton.
        x: n of them.
        y: m others; None: the kernel of ``x`` with itself, of which the upper half is computed.
        block: Rows of a strip of a symmetric kernel; others have ``ROWS``.

    Returns:
        Shape (n, m).
    """
    right = x if y is None else y
    step = block if y is None else ROWS
    inverse, over = 1 / x.lengths[:, None], 1 / right.lengths
    n, m = len(x.values), len(right.values)
    kernel = x.values.new_empty(n, m)
    height = min(step, n, max(1, STRIP // m))
    scratch = x.values.new_empty(height, m)
    for top in range(0, n, step):
        rows, start = slice(top, min(top + step, n)), top if y is None else 0
        strip = kernel[rows, start:]
        torch.mm(x.values[rows] * inverse[rows], right.values[start:].T, out=strip)
        for part in strip.split(height):
            curve.of(part.mul_(over[start:]), scratch[: len(part), start:])
        if y is None:
            kernel[rows.stop :, rows] = kernel[rows, rows.stop :].T
    if y is None:
        mirror_squares(kernel, step)
        kernel.fill_diagonal_(1.0)
    return kernel


def mirror_squares(kernel: Tensor, side: int) -> None:
    """Make the squares on the diagonal symmetric: their two halves were rounded apart.

    Args:
        kernel: Square; changed in place.
        side: Of each square.
    """
    for top in range(0, len(kernel), side):
        square = kernel[top : top + side, top : top + side]
        square.copy_(square.triu() + square.triu(1).T)
