"""The YAML block of a skeleton, checked without torch; windows when a grid is known.

Alternatives are sibling blocks of which ``name`` chooses one, so that environments can be merged
over base.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.skeleton_graph import (
    INPUT,
    SKELETON,
    Padding,
    Wiring,
    lay_out,
    require_connected,
)
from relearn.strict import Strict


class ActivationConfig(Strict):
    """An activation by name.

    Attributes:
        name: Such as ``relu``; the known ones stand in ``activations``.
        parameters: Its numbers, such as ``{below: 0.1}``; empty: its defaults.
    """

    name: str
    parameters: dict[str, int | float | list[float]] = Field(default_factory=dict)


class FullyConnectedConfig(Strict):
    """A chain of nodes above one that sees the whole input.

    Attributes:
        depth: Nodes of the chain.
        activation: Of each.
        beta: Share of the bias in the variance of what goes into an activation.
    """

    depth: int = Field(ge=1, le=10_000)
    activation: ActivationConfig
    beta: float = Field(ge=0, le=1)


class ConvLayerConfig(Strict):
    """One convolution.

    Attributes:
        window: Pixels along each side that a node sees.
        stride: Step of the window.
        padding: ``same`` (border nodes see less), ``valid`` or ``zeros``.
        activation: Of its nodes.
    """

    window: int = Field(ge=1)
    stride: int = Field(ge=1)
    padding: Padding
    activation: ActivationConfig


class ConvolutionalConfig(Strict):
    """Convolutions one after the other.

    Attributes:
        layers: First to last.
        pool_window: Pixels along each side of an average pooling behind them; 0: none.
        pool_stride: Its step.
        dense: Fully connected nodes behind all that.
        beta: Share of the bias.
    """

    layers: list[ConvLayerConfig] = Field(min_length=1)
    pool_window: int = Field(ge=0)
    pool_stride: int = Field(ge=1)
    dense: int = Field(ge=0)
    beta: float = Field(ge=0, le=1)


class GraphLayerConfig(Strict):
    """One layer of any graph.

    Attributes:
        name: Of its own.
        inputs: Layers that it sees, or ``input``.
        window: Positions along each side; 0: one node that sees all, or the listed ``positions``.
        stride: Step of the window.
        padding: ``same``, ``valid`` or ``zeros``.
        positions: [row, column] of what one node sees; only with ``window: 0``.
        activation: Of its nodes.
        beta: Share of the bias.
    """

    name: str
    inputs: list[str] = Field(default_factory=lambda: [INPUT])
    window: int = Field(default=0, ge=0)
    stride: int = Field(default=1, ge=1)
    padding: Padding = "same"
    positions: list[list[int]] = Field(default_factory=list)
    activation: ActivationConfig
    beta: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        wrong = [position for position in self.positions if len(position) != 2]
        if wrong:
            raise ValueError(f"positions: got {wrong[0]}, expected [row, column]")
        return self

    def wiring(self) -> Wiring:
        """Return what its nodes see."""
        return Wiring(
            name=self.name,
            inputs=tuple(self.inputs),
            window=(self.window, self.window) if self.window else None,
            stride=(self.stride, self.stride),
            padding=self.padding,
            positions=tuple((row, column) for row, column in self.positions),
        )


class GraphConfig(Strict):
    """Any directed acyclic graph of layers with one sink.

    Attributes:
        layers: In any order.
        grid: [height, width] of the input; empty: that of the images, and the windows are then
            checked when they are known.
    """

    layers: list[GraphLayerConfig]
    grid: list[int] = Field(default_factory=list, max_length=2)

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if len(self.grid) == 1:
            raise ValueError(f"grid: got {self.grid}, expected [height, width] or nothing")
        if not self.layers:
            return self
        try:
            if self.grid:
                lay_out(self.wirings(), (self.grid[0], self.grid[1]))
            else:
                require_connected(self.wirings())
        except ParameterError as fault:
            raise ValueError(str(fault).removeprefix(f"{SKELETON}.")) from None
        return self

    def wirings(self) -> list[Wiring]:
        """Return what the layers see."""
        return [layer.wiring() for layer in self.layers]


class SkeletonConfig(Strict):
    """A skeleton, declared.

    Attributes:
        name: Which of the blocks below counts.
        fully_connected: A chain of nodes.
        convolutional: Convolutions.
        graph: Anything else.
    """

    name: Literal["fully_connected", "convolutional", "graph"]
    fully_connected: FullyConnectedConfig
    convolutional: ConvolutionalConfig
    graph: GraphConfig = Field(default_factory=lambda: GraphConfig(layers=[]))

    @model_validator(mode="after")
    def _has_its_graph(self) -> Self:
        if self.name == "graph" and not self.graph.layers:
            raise ValueError("graph: got nothing, expected its layers because name is graph")
        return self
