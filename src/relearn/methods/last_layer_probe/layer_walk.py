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

from relearn.methods.last_layer_probe.curve import Curve, fitted
from relearn.methods.last_layer_probe.homogeneity import degree_of, power_of
from relearn.methods.last_layer_probe.skeleton_graph import INPUT
from relearn.methods.last_layer_probe.window_means import WindowMean, window_means

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.scratch import Scratch
    from relearn.methods.last_layer_probe.sides import Side
    from relearn.methods.last_layer_probe.skeleton import Layer, Skeleton


@dataclass(frozen=True)
class Walk:
    """A skeleton made ready for one precision and device.

    Attributes:
        layers: In order of computation.
        means: For each layer, what it sees of each of its inputs.
        last_use: For each name, the layer that reads it last.
        curves: Of the layers whose dual is one, in single precision.
    """

    layers: tuple[Layer, ...]
    means: Mapping[str, tuple[WindowMean, ...]]
    last_use: Mapping[str, str]
    curves: Mapping[str, Curve]


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
    curves = {layer.name: _curve(skeleton, layer, dtype) for layer in skeleton.layers}
    found = {name: curve for name, curve in curves.items() if curve is not None}
    return Walk(skeleton.layers, means, last, found)


def _curve(skeleton: Skeleton, layer: Layer, dtype: torch.dtype) -> Curve | None:
    """Return the curve of a layer's dual; in double precision closed forms are as fast."""
    if dtype != torch.float32:
        return None
    key = (layer.name, dtype)
    if key not in skeleton.curves:
        skeleton.curves[key] = fitted(layer.activation.dual, dtype=dtype)
    return skeleton.curves[key]


def tile(walk: Walk, left: Side, right: Side, scratch: Scratch | None) -> Tensor:
    """Return the kernel of some pairs, the mean over the sink's positions.

    Args:
        walk: The skeleton.
        left: Some inputs.
        right: Others.
        scratch: Where to work in place; what is returned is then to be read before the next call.
            None where gradients are asked for.

    Returns:
        Shape (left, right).
    """
    one, other = left.vectors, right.vectors.transpose(2, 3)
    if scratch is None:
        return walk_through(walk, torch.matmul(one, other), left, right)
    out = scratch.take(*one.shape[:3], other.shape[3])
    return walk_through(walk, torch.matmul(one, other, out=out), left, right, scratch=scratch)


def walk_through(
    walk: Walk,
    products: Tensor,
    left: Side | None = None,
    right: Side | None = None,
    *,
    scratch: Scratch | None = None,
) -> Tensor:
    """Return the kernel of pairs whose inner products at the input nodes are given.

    Args:
        walk: The skeleton.
        products: Shape (height, width, left, right).
        left: Variances of the left inputs; None: all vectors are unit ones.
        right: Of the right ones.
        scratch: As in ``tile``.

    Returns:
        Shape (left, right).
    """
    known = {INPUT: products}
    for layer in walk.layers:
        b = input_of(layer, walk, known, scratch)
        if left is not None and right is not None and left.variances:
            known[layer.name] = _at_variances(layer, walk, b, sides=(left, right), scratch=scratch)
        else:
            known[layer.name] = _dual(layer, walk, b, scratch)
    result = known[walk.layers[-1].name]
    if scratch is not None:
        scratch.give(result)
    return result[0, 0] if result.shape[:2] == (1, 1) else result.mean(dim=(0, 1))


def input_of(layer: Layer, walk: Walk, known: dict[str, Tensor], scratch: Scratch | None) -> Tensor:
    """Return beta + (1 - beta) * mean over what the nodes of a layer see.

    Args:
        layer: Which.
        walk: The skeleton.
        known: Values of the layers so far; what nobody reads any more is forgotten.
        scratch: As in ``tile``.

    Returns:
        Shape (height, width, ...) with the layer's positions.
    """
    parts = [
        _part(mean, known, name, scratch, last=walk.last_use[name] == layer.name)
        for name, mean in zip(layer.inputs, walk.means[layer.name], strict=True)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part if scratch is None else total.add_(part)
        if scratch is not None:
            scratch.give(part)
    if layer.beta == 0:
        return total
    if scratch is None:
        return total * (1 - layer.beta) + layer.beta
    return total.mul_(1 - layer.beta).add_(layer.beta)


def _part(
    mean: WindowMean, known: dict[str, Tensor], name: str, scratch: Scratch | None, *, last: bool
) -> Tensor:
    """Return the mean over one input, in memory of its own where it will be changed in place."""
    values = known.pop(name) if last else known[name]
    part = mean.of(values, scratch)
    if scratch is None:
        return part
    if last and not mean.idle:
        scratch.give(values)
    return part.clone() if mean.idle and not last else part


def _dual(layer: Layer, walk: Walk, rho: Tensor, scratch: Scratch | None) -> Tensor:
    activation = layer.activation
    if scratch is None:
        return activation.dual(rho)
    if activation.name == "identity":
        return rho.clamp_(-1, 1)
    if layer.name in walk.curves:
        spare = scratch.take(*rho.shape)
        result = walk.curves[layer.name].of(rho, spare)
        scratch.give(spare)
        return result
    result = activation.form.dual(rho.clamp_(-1, 1))
    scratch.give(rho)
    return result


def _at_variances(
    layer: Layer, walk: Walk, b: Tensor, *, sides: tuple[Side, Side], scratch: Scratch | None
) -> Tensor:
    """Return E[s(U) s(V)] / E s(g)^2 for the covariances b and the variances of both sides."""
    activation, name = layer.activation, layer.name
    if activation.name == "identity":
        return b
    left, right = sides
    degree = degree_of(activation)
    if degree is None:
        a, d = left.variances[name][..., None], right.variances[name][:, :, None]
        result = activation.general(a, b, d) / activation.second_moment
        if scratch is not None:
            scratch.give(b)
        return result
    rho = _scaled(b, left.inverses[name], right.inverses[name], scratch)
    value = _dual(layer, walk, rho, scratch)
    one, other = (power_of(side.scales[name], degree) for side in sides)
    return _scaled(value, one, other, scratch)


def _scaled(value: Tensor, left: Tensor, right: Tensor, scratch: Scratch | None) -> Tensor:
    one, other = left[..., None], right[:, :, None]
    return value * one * other if scratch is None else value.mul_(one).mul_(other)
