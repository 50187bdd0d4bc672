"""The inputs on one side of a dual kernel, with the variances that they have at every node.

On unit vectors all variances are 1 and nothing is kept; otherwise A of ``layer_walk`` is one map
over the positions of each layer for each input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.methods.last_layer_probe.homogeneity import degree_of, power_of
from relearn.methods.last_layer_probe.layer_walk import Walk, input_of
from relearn.methods.last_layer_probe.skeleton_graph import INPUT

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.input_norm import Embedded
    from relearn.methods.last_layer_probe.skeleton import Skeleton


@dataclass(frozen=True)
class Side:
    """The inputs on one side of a kernel.

    Attributes:
        vectors: Shape (height, width, n, dimension).
        scales: For each layer with a homogeneous activation, sqrt(A), (height, width, n); empty
            where all vectors are unit ones.
        inverses: 1 over these, 0 where they are 0.
        variances: For each layer, A, likewise.
        lengths: <x, x> of the whole kernel, shape (n,).
    """

    vectors: Tensor
    scales: Mapping[str, Tensor]
    inverses: Mapping[str, Tensor]
    variances: Mapping[str, Tensor]
    lengths: Tensor

    def part(self, rows: slice) -> Side:
        """Return some of the inputs.

        Args:
            rows: Which.
        """
        return Side(
            self.vectors[:, :, rows],
            _rows_of(self.scales, rows),
            _rows_of(self.inverses, rows),
            _rows_of(self.variances, rows),
            self.lengths[rows],
        )


def _rows_of(maps: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: each[:, :, rows] for name, each in maps.items()}


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
        return Side(vectors, {}, {}, {}, vectors.new_ones(n))
    known = {INPUT: vectors.square().sum(dim=3)}
    variances, scales = {}, {}
    for layer in walk.layers:
        a = input_of(layer, walk, known, None)
        variances[layer.name] = a
        degree = degree_of(layer.activation)
        if degree is None:
            moment = layer.activation.second_moment
            known[layer.name] = layer.activation.general(a, a, a) / moment
        else:
            scales[layer.name] = _root(a)
            known[layer.name] = power_of(a, degree)
    inverses = {name: _inverse(scale) for name, scale in scales.items()}
    return Side(vectors, scales, inverses, variances, known[walk.layers[-1].name].mean(dim=(0, 1)))


def _root(variance: Tensor) -> Tensor:
    """Return the square root, with gradient 0 at 0 in place of an infinite one."""
    full = variance > 0
    return torch.where(full, torch.where(full, variance, 1.0).sqrt(), torch.zeros_like(variance))


def _inverse(scale: Tensor) -> Tensor:
    """Return 1 / scale, and 0 for a scale of 0: what has no variance correlates with nothing."""
    empty = scale == 0
    return torch.where(empty, torch.zeros_like(scale), 1 / torch.where(empty, 1.0, scale))
