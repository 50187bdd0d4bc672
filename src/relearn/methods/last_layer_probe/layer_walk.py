"""The dual kernel's recursion over the layers of a skeleton, for one tile of pairs of inputs.

Daniely, Frostig, Singer, arXiv 1602.05897. For a node v that sees nodes u, bias share beta:

    kappa_v = dual_s(beta + (1 - beta) mean_u kappa_u)                        unit vectors
    c_v     = E[s(U) s(V)] / E s(g)^2,  (U, V) ~ N(0, [[A, B], [B, D]])       any vectors
    A = beta + (1 - beta) mean_u q_u(x),  B likewise of c_u(x, x'),  D of q_u(x')

Where s is homogeneous of degree p, the second is (A D)^(p/2) dual_s(B / sqrt(A D)): one product
with a map of the left input and one with a map of the right.

A tile holds every position of a layer for some pairs, shape (height, width, left, right), and is
changed in place, so that it stays in the processor's cache over all layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.methods.last_layer_probe.homogeneity import degree_of
from relearn.methods.last_layer_probe.skeleton_graph import INPUT
from relearn.methods.last_layer_probe.window_means import WindowMean, window_means

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.activations import Activation
    from relearn.methods.last_layer_probe.input_norm import Embedded
    from relearn.methods.last_layer_probe.skeleton import Layer, Skeleton


@dataclass(frozen=True)
class Walk:
    """A skeleton made ready for one precision and device.

    Attributes:
        layers: In order of computation.
        means: For each layer, what it sees of each of its inputs.
        last_use: For each name, the layer that reads it last.
    """

    layers: tuple[Layer, ...]
    means: Mapping[str, tuple[WindowMean, ...]]
    last_use: Mapping[str, str]


@dataclass(frozen=True)
class Side:
    """The inputs on one side of a kernel.

    Attributes:
        vectors: Shape (height, width, n, dimension).
        scales: For each layer with a homogeneous activation, sqrt(A), (height, width, n); empty
            where all vectors are unit ones.
        variances: For each layer, A, likewise.
        lengths: <x, x> of the whole kernel, shape (n,).
    """

    vectors: Tensor
    scales: Mapping[str, Tensor]
    variances: Mapping[str, Tensor]
    lengths: Tensor

    def part(self, rows: slice) -> Side:
        """Return some of the inputs.

        Args:
            rows: Which.
        """
        return Side(
            self.vectors[:, :, rows],
            {name: scale[:, :, rows] for name, scale in self.scales.items()},
            {name: variance[:, :, rows] for name, variance in self.variances.items()},
            self.lengths[rows],
        )


def walk_of(skeleton: Skeleton, *, dtype: torch.dtype, device: torch.device) -> Walk:
    """Return the skeleton made ready.

    Args:
        skeleton: Which.
        dtype: Of the tiles.
        device: Where they lie.
    """
    grids = skeleton.layout.grids
    means = {
        layer.name: window_means(layer, grids, dtype=dtype, device=device)
        for layer in skeleton.layers
    }
    last = {below: layer.name for layer in skeleton.layers for below in layer.inputs}
    return Walk(skeleton.layers, means, last)


def keeps_unit(skeleton: Skeleton, embedded: Embedded) -> bool:
    """Tell whether every variance of every node is 1.

    Args:
        skeleton: Which.
        embedded: Its inputs.
    """
    zeros = any(layer.padding == "zeros" and layer.window for layer in skeleton.layers)
    return embedded.unit and not zeros


def side_of(walk: Walk, vectors: Tensor, *, unit: bool) -> Side:
    """Return one side of a kernel with the variances of its inputs at all nodes.

    Args:
        walk: The skeleton.
        vectors: Shape (height, width, n, dimension).
        unit: Whether all variances are 1 and need not be computed.
    """
    n = vectors.shape[2]
    if unit:
        return Side(vectors, {}, {}, vectors.new_ones(n))
    known = {INPUT: vectors.square().sum(dim=3)}
    variances, scales = {}, {}
    for layer in walk.layers:
        a = _input_of(layer, walk, known, change=False)
        variances[layer.name] = a
        degree = degree_of(layer.activation)
        if degree is None:
            moment = layer.activation.second_moment
            known[layer.name] = layer.activation.general(a, a, a) / moment
        else:
            scales[layer.name] = _root(a)
            known[layer.name] = _power(a, degree)
    return Side(vectors, scales, variances, known[walk.layers[-1].name].mean(dim=(0, 1)))


def tile(walk: Walk, left: Side, right: Side, *, change: bool) -> Tensor:
    """Return the kernel of some pairs, the mean over the sink's positions.

    Args:
        walk: The skeleton.
        left: Some inputs.
        right: Others.
        change: Work in place; not where gradients are asked for.

    Returns:
        Shape (left, right).
    """
    products = torch.matmul(left.vectors, right.vectors.transpose(2, 3))
    return walk_through(walk, products, left, right, change=change)


def walk_through(
    walk: Walk,
    products: Tensor,
    left: Side | None = None,
    right: Side | None = None,
    *,
    change: bool = False,
) -> Tensor:
    """Return the kernel of pairs whose inner products at the input nodes are given.

    Args:
        walk: The skeleton.
        products: Shape (height, width, left, right).
        left: Variances of the left inputs; None: all vectors are unit ones.
        right: Of the right ones.
        change: Work in place.

    Returns:
        Shape (left, right).
    """
    known = {INPUT: products}
    for layer in walk.layers:
        b = _input_of(layer, walk, known, change=change)
        if left is not None and right is not None and left.variances:
            known[layer.name] = _at_variances(layer, b, left, right, change=change)
        else:
            known[layer.name] = _dual(layer.activation, b, change=change)
    result = known[walk.layers[-1].name]
    return result[0, 0] if result.shape[:2] == (1, 1) else result.mean(dim=(0, 1))


def _input_of(layer: Layer, walk: Walk, known: dict[str, Tensor], *, change: bool) -> Tensor:
    """Return beta + (1 - beta) * mean over what the nodes see, and forget what nobody reads."""
    parts = []
    for name, mean in zip(layer.inputs, walk.means[layer.name], strict=True):
        last = walk.last_use[name] == layer.name
        part = mean.of(known.pop(name) if last else known[name])
        kept = mean.idle and not last and change
        parts.append(part.clone() if kept else part)  # what others still read stays as it is
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    if layer.beta == 0:
        return total
    if change:
        return total.mul_(1 - layer.beta).add_(layer.beta)
    return total * (1 - layer.beta) + layer.beta


def _dual(activation: Activation, rho: Tensor, *, change: bool) -> Tensor:
    if not change:
        return activation.dual(rho)
    rho.clamp_(-1, 1)
    return rho if activation.name == "identity" else activation.form.dual(rho)


def _at_variances(layer: Layer, b: Tensor, left: Side, right: Side, *, change: bool) -> Tensor:
    """Return E[s(U) s(V)] / E s(g)^2 for the covariances b and the variances of both sides."""
    activation, name = layer.activation, layer.name
    if activation.name == "identity":
        return b
    degree = degree_of(activation)
    if degree is None:
        a, d = left.variances[name][..., None], right.variances[name][:, :, None]
        return activation.general(a, b, d) / activation.second_moment
    one, other = left.scales[name][..., None], right.scales[name][:, :, None]
    rho = _product(b, _inverse(one), _inverse(other), change=change)
    value = _dual(activation, rho, change=change)
    return _product(value, _power(one, degree), _power(other, degree), change=change)


def _product(value: Tensor, one: Tensor, other: Tensor, *, change: bool) -> Tensor:
    return value.mul_(one).mul_(other) if change else value * one * other


def _root(variance: Tensor) -> Tensor:
    """Return the square root, with gradient 0 at 0 in place of an infinite one."""
    full = variance > 0
    return torch.where(full, torch.where(full, variance, 1.0).sqrt(), torch.zeros_like(variance))


def _inverse(scale: Tensor) -> Tensor:
    """Return 1 / scale, and 0 for a scale of 0: what has no variance correlates with nothing."""
    empty = scale == 0
    return torch.where(empty, torch.zeros_like(scale), 1 / torch.where(empty, 1.0, scale))


def _power(scale: Tensor, degree: int) -> Tensor:
    return (scale > 0).to(scale.dtype) if degree == 0 else scale**degree
