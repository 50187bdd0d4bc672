"""Features of a wide random network whose weights are never stored: drawn again for every batch.

The features are those of ``network.SkeletonBody`` of the same seed. Only ``chunk`` replicas of a
layer's weights exist at a time, so that memory is that of the activations of one batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.input_norm import (
    InputNorm,
    check_inputs,
    default_norm,
    place,
)
from relearn.methods.last_layer_probe.network import check_replicas
from relearn.methods.last_layer_probe.random_layer import RandomLayer, random_layers
from relearn.methods.last_layer_probe.skeleton_graph import INPUT

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.skeleton import Skeleton


def stream_features(
    skeleton: Skeleton,
    batches: Iterable[Tensor],
    *,
    replicas: int,
    seed: int,
    chunk: int = 256,
    input_norm: InputNorm | None = None,
    patch: int = 3,
) -> Iterator[Tensor]:
    """Yield the features of one batch after the other, without gradients.

    Args:
        skeleton: Which.
        batches: Inputs as in ``SkeletonBody``; large batches share the cost of drawing.
        replicas: r, at least 1.
        seed: Of the weights.
        chunk: Replicas whose weights are held at a time, at least 1.
        input_norm: How inputs are placed on spheres; None: ``default_norm``.
        patch: As in ``embed``.

    Yields:
        Shape (batch, replicas * positions of the sink); inner products over r are the empirical
        kernel.

    Raises:
        ParameterError: No replica, or no chunk.
        DataError: Inputs that cannot be placed on spheres.
    """
    check_replicas(replicas)
    if chunk < 1:
        raise ParameterError(f"last_layer_probe.chunk: got {chunk}, expected 1 or more")
    norm = default_norm(skeleton) if input_norm is None else input_norm
    for batch in batches:
        check_inputs(batch, skeleton, norm, patch=patch)
        with torch.no_grad():
            placed = place(batch, skeleton, norm, patch=patch)
            shapes = random_layers(skeleton, replicas=replicas, dimension=placed.shape[1])
            features = _features(skeleton, shapes, placed, seed=seed, chunk=chunk)
        yield features


def empirical_kernel(left: Tensor, right: Tensor, *, replicas: int) -> Tensor:
    """Return k_w(x, x') = <R_w(x), R_w(x')> / r.

    Args:
        left: Features, shape (n, features).
        right: Features, shape (m, features).
        replicas: r, which is less than the number of features where the sink has several positions.

    Returns:
        Shape (n, m).
    """
    return left @ right.T / replicas


def _features(
    skeleton: Skeleton,
    shapes: tuple[RandomLayer, ...],
    placed: Tensor,
    *,
    seed: int,
    chunk: int,
) -> Tensor:
    known = {INPUT: placed}
    last = {below: layer.name for layer in skeleton.layers for below in layer.inputs}
    for shape in shapes:
        layer = shape.layer
        inputs = [known[name] for name in layer.inputs]
        known[layer.name] = _applied(shape, inputs, seed=seed, chunk=chunk)
        for name in layer.inputs:
            if last[name] == layer.name:
                del known[name]
    return known[skeleton.layout.sink].flatten(1).div_(math.sqrt(skeleton.outputs))


def _applied(shape: RandomLayer, inputs: list[Tensor], *, seed: int, chunk: int) -> Tensor:
    """Return all replicas of a layer, with the weights of ``chunk`` of them at a time."""
    result: Tensor | None = None
    for first in range(0, shape.replicas, chunk):
        rows = range(first, min(first + chunk, shape.replicas))
        weight, bias = shape.draw(rows, seed=seed)
        device = inputs[0].device
        part = shape.apply(
            inputs,
            weight.to(device, inputs[0].dtype),
            None if bias is None else bias.to(device, inputs[0].dtype),
        )
        if result is None:
            result = part.new_empty(len(part), shape.replicas, *part.shape[2:])
        result[:, rows.start : rows.stop] = part
    return torch.empty(0) if result is None else result
