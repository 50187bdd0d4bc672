"""One layer of a skeleton as a random layer: how its weights are drawn from a seed, and applied.

Daniely, Frostig, Singer, arXiv 1602.05897: every node has r replicas, and two nodes joined by an
edge are joined completely. Weights are independent normal numbers of mean 0 and variance
(1 - beta) / |in(v)| from an input node (whose vector has length 1) and (1 - beta) / (r |in(v)|)
from any other; biases have variance beta. Where we differ: the nodes of a layer share their
weights, as in a convolution, which leaves the expected kernel as it is; |in(v)| is the true number
of nodes seen, so that nodes at a border have larger weights.

Every block of rows has a door of its own, so that any part of the weights can be drawn alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import conv2d, linear, pad

from relearn.data.randomness import generator_of
from relearn.methods.last_layer_probe.skeleton_graph import INPUT, Grid, Span, spans

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.skeleton import Layer, Skeleton

ROWS = 64
"""Replicas that are drawn behind one door."""


@dataclass(frozen=True)
class RandomLayer:
    """Shapes of one layer.

    Attributes:
        layer: Of the skeleton.
        place: Its number in the order of computation; it names the doors.
        channels: Of each input: its replicas, or the dimension of the input's vectors.
        grids: Positions of each input.
        replicas: r.
    """

    layer: Layer
    place: int
    channels: tuple[int, ...]
    grids: tuple[Grid, ...]
    replicas: int

    @property
    def seen(self) -> tuple[int, ...]:
        """Positions of a whole node's view in each input."""
        if self.layer.window is not None:
            return (self.layer.window[0] * self.layer.window[1],) * len(self.grids)
        listed = len(self.layer.positions)
        return tuple(listed or height * width for height, width in self.grids)

    @property
    def fan_in(self) -> int:
        """Weights into one replica of a node."""
        return sum(c * s for c, s in zip(self.channels, self.seen, strict=True))

    def draw(self, rows: range, *, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return the weights into some replicas, the same whatever else is drawn.

        Args:
            rows: Which, of 0 to ``replicas`` - 1.
            seed: Of the network.

        Returns:
            Weights, shape (rows, fan_in), and biases, shape (rows,), or None where beta is 0.
        """
        scales = self._scales()
        weights, biases = [], []
        for block in range(rows.start // ROWS, -(-rows.stop // ROWS)):
            door = f"last_layer_probe.skeleton.{self.place}.{block}"
            generator = generator_of(seed, door)
            drawn = torch.randn(ROWS, self.fan_in + 1, generator=generator)
            part = slice(max(rows.start - block * ROWS, 0), min(rows.stop - block * ROWS, ROWS))
            weights.append(drawn[part, 1:] * scales)
            biases.append(drawn[part, 0] * math.sqrt(self.layer.beta))
        return torch.cat(weights), torch.cat(biases) if self.layer.beta > 0 else None

    def apply(self, inputs: list[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the normalised activations of some replicas.

        Args:
            inputs: Of each layer that is seen, shape (n, channels, height, width).
            weight: Shape (rows, fan_in).
            bias: Shape (rows,), or None.

        Returns:
            Shape (n, rows, height above, width above).
        """
        if self.layer.window is None:
            flat = [self._flat(values) for values in inputs]
            before = linear(torch.cat(flat, dim=1), weight)[:, :, None, None]
        else:
            before = self._convolved(torch.cat(inputs, dim=1), weight)
        if bias is not None:
            before = before + bias[:, None, None]
        return self.layer.activation.normalised(before)

    def _scales(self) -> Tensor:
        """Return the deviation of each weight into a replica, shape (fan_in,)."""
        share = (1 - self.layer.beta) / sum(self.seen)
        parts = []
        for name, channels, seen in zip(self.layer.inputs, self.channels, self.seen, strict=True):
            variance = share if name == INPUT else share / channels
            parts.append((channels, seen, math.sqrt(variance)))
        if self.layer.window is None:
            return torch.cat([torch.full((c * s,), scale) for c, s, scale in parts])
        each = torch.cat([torch.full((c,), scale) for c, _, scale in parts])
        return each.repeat_interleave(self.seen[0])

    def _flat(self, values: Tensor) -> Tensor:
        if self.layer.positions:
            rows, columns = zip(*self.layer.positions, strict=True)
            return values[:, :, list(rows), list(columns)].flatten(1)
        return values.flatten(1)

    def _convolved(self, values: Tensor, weight: Tensor) -> Tensor:
        height, width = self.layer.window or (1, 1)
        rows, columns = spans(self.layer, self.grids[0])
        padded = pad(values, (*_padding(columns), *_padding(rows)))
        kernel = weight.view(len(weight), -1, height, width)
        before = conv2d(padded, kernel, stride=self.layer.stride)
        if self.layer.padding != "same":
            return before
        factor = _border(rows)[:, None] * _border(columns)
        return before * factor.to(before.device, before.dtype)


def random_layers(skeleton: Skeleton, *, replicas: int, dimension: int) -> tuple[RandomLayer, ...]:
    """Return the shapes of all layers, in order of computation.

    Args:
        skeleton: Which.
        replicas: r, at least 1.
        dimension: Of the vectors at the input nodes.
    """
    grids = skeleton.layout.grids
    return tuple(
        RandomLayer(
            layer,
            place,
            tuple(dimension if name == INPUT else replicas for name in layer.inputs),
            tuple(grids[name] for name in layer.inputs),
            replicas,
        )
        for place, layer in enumerate(skeleton.layers)
    )


def _padding(span: Span) -> tuple[int, int]:
    """Return the positions beyond the border before and behind."""
    return max(-span.starts[0], 0), max(span.starts[-1] + span.window - span.length, 0)


def _border(span: Span) -> Tensor:
    """Return sqrt(window / positions that are there) for each output position."""
    seen = torch.tensor([len(span.seen(output)) for output in range(len(span.starts))])
    return (span.window / seen.double()).sqrt()
