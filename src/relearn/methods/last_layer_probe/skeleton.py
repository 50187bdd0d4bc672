"""Computation skeletons: one declaration that gives a random network, a dual kernel and features.

Daniely, Frostig, Singer, "Toward Deeper Understanding of Neural Networks: The Power of
Initialization and a Dual View on Expressivity", arXiv 1602.05897. Where we differ: nodes come in
layers (``skeleton_graph``), and a sink of several positions is read flat, as the last layer of a
convolutional net usually is, so that its kernel is the mean over its positions. An average pooling
is a node with the identity as activation; maxima are outside the theory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.activations import Activation, activation_of
from relearn.methods.last_layer_probe.skeleton_graph import (
    INPUT,
    SKELETON,
    Grid,
    Layout,
    Padding,
    Wiring,
    lay_out,
)

if TYPE_CHECKING:
    import torch

    from relearn.methods.last_layer_probe.curve import Curve
    from relearn.methods.last_layer_probe.skeleton_config import (
        ActivationConfig,
        ConvolutionalConfig,
        GraphConfig,
        SkeletonConfig,
    )


@dataclass(frozen=True, kw_only=True)
class Layer(Wiring):
    """A grid of nodes that are wired alike.

    Attributes:
        activation: s of its nodes; it is normalised when it is used.
        beta: Share of the bias in the variance of what goes into the activation, 0 to 1.
    """

    activation: Activation
    beta: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ConvLayer:
    """One layer of a convolutional chain.

    Attributes:
        window: Positions along each side that a node sees.
        activation: s of its nodes.
        stride: Step of the window along each side.
        padding: As in ``Wiring``.
    """

    window: int
    activation: Activation
    stride: int = 1
    padding: Padding = "same"


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Average pooling: nodes with the identity as activation and no bias.

    Attributes:
        window: Positions along each side.
        stride: Step along each side.
        padding: As in ``Wiring``.
    """

    window: int
    stride: int
    padding: Padding = "valid"


@dataclass(frozen=True)
class Skeleton:
    """A directed acyclic graph of layers with one sink; checked when it is made.

    Attributes:
        layers: In any order; kept in an order of computation.
        grid: Positions of the input; (1, 1): one node sees the whole input as a vector.
    """

    layers: tuple[Layer, ...]
    grid: Grid = (1, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        self.validate()
        named = {layer.name: layer for layer in self.layers}
        object.__setattr__(self, "layers", tuple(named[name] for name in self.layout.order))

    def validate(self) -> None:
        """Raise an error if this is no skeleton.

        Raises:
            ParameterError: As ``lay_out``, or a share of bias outside 0 to 1.
        """
        for layer in self.layers:
            if not 0 <= layer.beta <= 1:
                raise ParameterError(
                    f"{SKELETON}.layers.{layer.name}.beta: got {layer.beta}, expected 0 to 1"
                )
        lay_out(self.layers, self.grid)

    @cached_property
    def layout(self) -> Layout:
        """Order, grids and sink of the layers."""
        return lay_out(self.layers, self.grid)

    @property
    def size(self) -> int:
        """|S|, the nodes that are no input nodes."""
        return sum(self.positions(layer.name) for layer in self.layers)

    @property
    def depth(self) -> int:
        """Nodes on the longest path from the input, without the input node."""
        return self.layout.depth

    @property
    def outputs(self) -> int:
        """Positions of the sink."""
        return self.positions(self.layout.sink)

    @property
    def digest(self) -> str:
        """SHA-256 over wiring, activations and bias shares; the names of layers do not count."""
        index = {name: place for place, name in enumerate((INPUT, *self.layout.order))}
        rows = [_plain(layer, [index[name] for name in layer.inputs]) for layer in self.layers]
        text = json.dumps({"grid": self.grid, "layers": rows}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def curves(self) -> dict[tuple[str, torch.dtype], Curve | None]:
        """Curves found so far: of layers by name, of the whole under ``input``."""
        return {}

    def positions(self, name: str) -> int:
        """Return how many positions a layer has.

        Args:
            name: Of a layer, or ``input``.
        """
        height, width = self.layout.grids[name]
        return height * width

    @classmethod
    def fully_connected(cls, depth: int, activation: Activation, beta: float = 0.0) -> Skeleton:
        """Return a chain of single nodes above one node that sees the whole input.

        Args:
            depth: Nodes of the chain, at least 1.
            activation: Of each.
            beta: Share of the bias, 0 to 1.

        Raises:
            ParameterError: No node, or a share outside 0 to 1.
        """
        if depth < 1:
            raise ParameterError(f"{SKELETON}.fully_connected.depth: got {depth}, expected >= 1")
        return cls(tuple(_chain(depth, activation, beta, below=INPUT)))

    @classmethod
    def convolutional(
        cls,
        layers: Sequence[ConvLayer],
        grid: Grid,
        *,
        pool: Pool | None = None,
        dense: int = 0,
        beta: float = 0.0,
    ) -> Skeleton:
        """Return convolutions over a grid, one after the other.

        Args:
            layers: The convolutions, first to last, at least one.
            grid: (height, width) of the images.
            pool: Average pooling behind the last convolution; None: none.
            dense: Fully connected nodes behind all that, with the last convolution's activation.
            beta: Share of the bias, 0 to 1, but for the pooling, which has none.

        Raises:
            ParameterError: No convolution, or a window that does not fit.
        """
        if not layers:
            raise ParameterError(f"{SKELETON}.convolutional.layers: got none, expected one or more")
        built: list[Layer] = []
        for number, layer in enumerate(layers, start=1):
            below = built[-1].name if built else INPUT
            built.append(_convolution(layer, f"conv{number}", below=below, beta=beta))
        if pool is not None:
            built.append(_pooling(pool, below=built[-1].name))
        built += _chain(dense, layers[-1].activation, beta, below=built[-1].name)
        return cls(tuple(built), grid)

    @classmethod
    def from_config(cls, config: SkeletonConfig, *, grid: Grid) -> Skeleton:
        """Return the skeleton that a configuration describes.

        Args:
            config: Which of its blocks counts is said by its ``name``.
            grid: (height, width) of the images; not read by ``fully_connected``.

        Raises:
            ParameterError: An unknown activation, or no skeleton.
        """
        if config.name == "convolutional":
            return _convolutional_of(config.convolutional, grid)
        if config.name == "graph":
            return _graph_of(config.graph, grid)
        block = config.fully_connected
        return cls.fully_connected(block.depth, _activation(block.activation), block.beta)


def _plain(layer: Layer, inputs: list[int]) -> dict[str, object]:
    """Return what makes a layer what it is, in plain values."""
    activation = layer.activation
    return {
        "inputs": inputs,
        "window": layer.window,
        "stride": layer.stride,
        "padding": layer.padding,
        "positions": layer.positions,
        "beta": layer.beta,
        "activation": [activation.name, dict(activation.parameters)],
        "second_moment": f"{activation.second_moment:.9e}",
    }


def _chain(depth: int, activation: Activation, beta: float, *, below: str) -> list[Layer]:
    names = [f"dense{number}" for number in range(1, depth + 1)]
    return [
        Layer(name=name, inputs=(seen,), activation=activation, beta=beta)
        for name, seen in zip(names, [below, *names], strict=False)
    ]


def _convolution(layer: ConvLayer, name: str, *, below: str, beta: float) -> Layer:
    return Layer(
        name=name,
        inputs=(below,),
        window=(layer.window, layer.window),
        stride=(layer.stride, layer.stride),
        padding=layer.padding,
        activation=layer.activation,
        beta=beta,
    )


def _pooling(pool: Pool, *, below: str) -> Layer:
    conv = ConvLayer(
        window=pool.window,
        stride=pool.stride,
        padding=pool.padding,
        activation=activation_of("identity"),
    )
    return _convolution(conv, "pool", below=below, beta=0.0)


def _activation(config: ActivationConfig) -> Activation:
    return activation_of(config.name, **config.parameters)


def _convolutional_of(config: ConvolutionalConfig, grid: Grid) -> Skeleton:
    layers = [
        ConvLayer(
            window=block.window,
            stride=block.stride,
            padding=block.padding,
            activation=_activation(block.activation),
        )
        for block in config.layers
    ]
    pool = (
        Pool(window=config.pool_window, stride=config.pool_stride) if config.pool_window else None
    )
    return Skeleton.convolutional(layers, grid, pool=pool, dense=config.dense, beta=config.beta)


def _graph_of(config: GraphConfig, grid: Grid) -> Skeleton:
    layers = [
        Layer(**vars(wiring), activation=_activation(block.activation), beta=block.beta)
        for block, wiring in zip(config.layers, config.wirings(), strict=True)
    ]
    height, width = config.grid or grid
    return Skeleton(tuple(layers), (height, width))
