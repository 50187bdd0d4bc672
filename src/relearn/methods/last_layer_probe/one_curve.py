"""Where one node sees the whole input, a skeleton's kernel is one curve of one correlation.

On unit vectors every node's kernel is then a function of rho = <x, x'>, whatever the graph: the
composition of all layers is a function of theta = acos(rho), which is smooth where the duals are
(ReLU, erf, GELU and so on; not where the dual of a jump is composed with itself). A polynomial in
theta gives it to within rounding, so that a kernel costs one curve for every entry at any depth.
Whether it does is measured for each skeleton; where it does not, the layers are walked one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from numpy.polynomial import chebyshev

from relearn.methods.last_layer_probe.layer_walk import walk_of, walk_through

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.skeleton import Skeleton

DEGREES = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)
CLOSE = {torch.float32: 5e-7, torch.float64: 5e-14}
"""Largest error of the polynomial, as evaluated in that precision."""
CHECKS = 1001
STRIP = 1 << 17
"""Numbers that go along the curve at a time: half a megabyte in float32."""


@dataclass(frozen=True)
class Curve:
    """kappa = sum_k c_k z^k with z = 2 acos(rho) / pi - 1.

    Attributes:
        coefficients: c_0 first, float64.
    """

    coefficients: tuple[float, ...]

    def of(self, rho: Tensor, spare: Tensor) -> Tensor:
        """Return kappa of correlations, written over them.

        Args:
            rho: Any; clamped to [-1, 1].
            spare: Scratch of the same shape.
        """
        numbers = self._numbers(rho.dtype, rho.device)
        z = torch.add(numbers[-1], rho.clamp_(-1, 1).acos_(), alpha=2 / math.pi, out=rho)
        torch.add(numbers[1], z, alpha=self.coefficients[-1], out=spare)
        for number in numbers[2:-2]:
            torch.addcmul(number, spare, z, out=spare)
        if len(numbers) == 3:
            return rho.copy_(spare)
        return torch.addcmul(numbers[-2], spare, z, out=rho)

    @lru_cache(maxsize=8)  # noqa: B019 - curves are few and small, and are kept anyway
    def _numbers(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        """Return the coefficients as tensors, the highest one first, and -1."""
        listed = [*reversed(self.coefficients), -1.0]
        return tuple(torch.tensor(each, dtype=dtype, device=device) for each in listed)


def curve_of(skeleton: Skeleton, *, dtype: torch.dtype) -> Curve | None:
    """Return the curve of a skeleton on unit vectors, or None where no polynomial comes close.

    A skeleton keeps its curves: two that count as equal may hold different callables of one name.

    Args:
        skeleton: One whose input is one node.
        dtype: In which it is to be evaluated.
    """
    if dtype not in skeleton.curves:
        skeleton.curves[dtype] = _fitted(skeleton, dtype)
    return skeleton.curves[dtype]


def _fitted(skeleton: Skeleton, dtype: torch.dtype) -> Curve | None:
    walk = walk_of(skeleton, dtype=torch.float64, device=torch.device("cpu"))

    def exact(theta: Tensor) -> Tensor:
        return walk_through(walk, theta.cos()[None, None, None])[0]

    theta = torch.linspace(0, math.pi, CHECKS, dtype=torch.float64)
    checks, rho = exact(theta), theta.cos().to(dtype)
    if dtype == torch.float32:
        checks = exact(rho.double().acos())
    for degree in DEGREES:
        nodes = torch.from_numpy(chebyshev.chebpts1(degree + 1))
        values = exact((nodes + 1) * (math.pi / 2))
        series = chebyshev.chebfit(nodes.numpy(), values.numpy(), degree)
        curve = Curve(tuple(float(c) for c in chebyshev.cheb2poly(series)))
        found = curve.of(rho.clone(), torch.empty_like(rho))
        if float((found.double() - checks).abs().max()) <= CLOSE[dtype]:
            return curve
    return None


def kernel_along(curve: Curve, x: Tensor, y: Tensor | None, *, block: int) -> Tensor:
    """Return the kernel of vectors of any length, of which only the direction counts.

    Products are taken by strips, each of which goes along the curve while the caches hold it.

    Args:
        curve: Of the skeleton.
        x: Shape (n, dimension), none of norm 0.
        y: Shape (m, dimension); None: the kernel of ``x`` with itself.
        block: Rows of a strip.

    Returns:
        Shape (n, m).
    """
    right = x if y is None else y
    inverse, over = 1 / x.norm(dim=1, keepdim=True), 1 / right.norm(dim=1)
    n, m = len(x), len(right)
    kernel = x.new_empty(n, m)
    height = min(block, n, max(1, STRIP // m))
    scratch = x.new_empty(height, m)
    for top in range(0, n, block):
        rows, start = slice(top, min(top + block, n)), top if y is None else 0
        strip = kernel[rows, start:]
        torch.mm(x[rows] * inverse[rows], right[start:].T, out=strip)
        for part in strip.split(height):
            curve.of(part.mul_(over[start:]), scratch[: len(part), start:])
        if y is None:
            kernel[rows.stop :, rows] = kernel[rows, rows.stop :].T
    if y is None:
        mirror_squares(kernel, block)
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
