"""How the layers of a skeleton hang together: checked here, without torch.

Paper: Daniely, Frostig, Singer, "Toward Deeper Understanding of Neural Networks: The Power of
Initialization and a Dual View on Expressivity", arXiv 1602.05897. A skeleton
is a directed acyclic graph of nodes with one sink. Here nodes come in layers: a layer is a grid of
nodes that are wired alike. A layer of one node that sees listed positions makes any graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from relearn.errors import ParameterError, near_miss

SKELETON = "last_layer_probe.skeleton"
INPUT = "input"
"""Name by which layers refer to the input nodes."""

Grid = tuple[int, int]
Padding = Literal["same", "valid", "zeros"]


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What the nodes of one layer see.

    Attributes:
        name: Unlike that of every other layer, and not ``input``.
        inputs: Layers that are seen, or ``input``.
        window: (height, width) of what a node sees; None: one node that sees all positions.
        stride: Steps of the window.
        padding: ``valid``: whole windows only. ``same``: windows reach over the border, and a node
            there has fewer in-edges, which its weights' variance follows. ``zeros``: as ``same``,
            with the variance of a whole window, as in an ordinary zero-padded convolution.
        positions: (row, column) of what one node sees, in each of its inputs; only without a
            window; empty: all.
    """

    name: str
    inputs: tuple[str, ...] = (INPUT,)
    window: Grid | None = None
    stride: Grid = (1, 1)
    padding: Padding = "same"
    positions: tuple[Grid, ...] = ()


@dataclass(frozen=True)
class Span:
    """Which positions a window sees along one side.

    Attributes:
        starts: First position seen by each output position; below 0 beyond the border.
        window: Positions of a whole window.
        length: Positions there are.
    """

    starts: tuple[int, ...]
    window: int
    length: int

    def seen(self, output: int) -> range:
        """Return the positions that really are there.

        Args:
            output: Index of the output position.
        """
        start = self.starts[output]
        return range(max(start, 0), min(start + self.window, self.length))


def span(length: int, *, window: int, stride: int, padding: Padding) -> Span:
    """Return the windows along one side.

    Args:
        length: Positions of the layer below, at least ``window``.
        window: Positions a window holds.
        stride: Step between windows.
        padding: As in ``Wiring``; with ``same`` and ``zeros`` there are ceil(length / stride)
            windows, and an odd position of padding lies behind.

    Returns:
        The windows, first to last.
    """
    if padding == "valid":
        count, before = (length - window) // stride + 1, 0
    else:
        count = -(-length // stride)
        before = max((count - 1) * stride + window - length, 0) // 2
    return Span(tuple(i * stride - before for i in range(count)), window, length)


@dataclass(frozen=True)
class Layout:
    """What follows from the wiring.

    Attributes:
        order: Names of the layers, each behind all that it sees.
        grids: Positions of each layer, with ``input``.
        sink: Name of the layer that nobody sees.
        depth: Layers on the longest path to the sink.
    """

    order: tuple[str, ...]
    grids: dict[str, Grid]
    sink: str
    depth: int


def lay_out(wirings: Sequence[Wiring], grid: Grid) -> Layout:
    """Return the order, sizes and sink of a skeleton, checked.

    Args:
        wirings: The layers, in any order.
        grid: Positions of the input; (1, 1) for inputs that one node sees whole.

    Returns:
        The layout.

    Raises:
        ParameterError: No layer, two of one name, a layer that is not there, a cycle, a layer
            without way from the input or to the sink, or a window that does not fit.
    """
    if min(grid) < 1:
        raise ParameterError(f"{SKELETON}.grid: got {grid}, expected at least one row and column")
    named, order, sink = _connected(wirings)
    grids, depths = {INPUT: grid}, {INPUT: 0}
    for name in order:
        grids[name] = _grid_of(named[name], grids)
        depths[name] = 1 + max(depths[below] for below in named[name].inputs)
    return Layout(order, grids, sink, depths[sink])


def require_connected(wirings: Sequence[Wiring]) -> None:
    """Raise an error where a graph has a fault that shows without the grid of its input.

    Args:
        wirings: The layers, in any order.

    Raises:
        ParameterError: As ``lay_out``, but for windows.
    """
    _connected(wirings)


def _connected(wirings: Sequence[Wiring]) -> tuple[dict[str, Wiring], tuple[str, ...], str]:
    named = _by_name(wirings)
    order = _ordered(named)
    return named, order, _sink(named, order)


def _by_name(wirings: Sequence[Wiring]) -> dict[str, Wiring]:
    if not wirings:
        raise ParameterError(f"{SKELETON}.layers: got none, expected at least one")
    named: dict[str, Wiring] = {}
    for wiring in wirings:
        if wiring.name in named or wiring.name == INPUT:
            raise ParameterError(
                f"{SKELETON}.layers: two layers are called {wiring.name!r}, expected names of "
                f"their own ({INPUT!r} is the input's)"
            )
        named[wiring.name] = wiring
    for wiring in wirings:
        _check_inputs(wiring, named)
    return named


def _check_inputs(wiring: Wiring, named: dict[str, Wiring]) -> None:
    known = [INPUT, *named]
    where = f"{SKELETON}.layers.{wiring.name}.inputs"
    if not wiring.inputs:
        raise ParameterError(
            f"{where}: disconnected, the layer sees nothing; expected {INPUT!r} or another layer"
        )
    for below in wiring.inputs:
        if below not in known:
            raise ParameterError(
                f"{where}: {below!r} is not known,{near_miss(below, known)} expected one of "
                f"{', '.join(known)}"
            )
    if len(set(wiring.inputs)) < len(wiring.inputs):
        raise ParameterError(f"{where}: got {list(wiring.inputs)}, expected each layer once")


def _ordered(named: dict[str, Wiring]) -> tuple[str, ...]:
    """Return the layers in an order of computation; the order given is kept where it is one."""
    graph = {name: set(wiring.inputs) for name, wiring in named.items()}
    try:
        sorter = TopologicalSorter(graph)
        sorter.prepare()
    except CycleError as fault:
        circle = " -> ".join(reversed(fault.args[1]))
        raise ParameterError(
            f"{SKELETON}.layers: cyclic, {circle}; expected that no layer sees itself by any way"
        ) from None
    rank = {name: place for place, name in enumerate([INPUT, *named])}
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=rank.__getitem__)
        sorter.done(*ready)
        order += ready
    return tuple(name for name in order if name != INPUT)


def _sink(named: dict[str, Wiring], order: tuple[str, ...]) -> str:
    """Return the one layer that nobody sees."""
    seen = {below for wiring in named.values() for below in wiring.inputs}
    ends = [name for name in order if name not in seen]
    if len(ends) > 1:
        raise ParameterError(
            f"{SKELETON}.layers: disconnected, nobody sees {', '.join(ends)}; expected one sink to "
            "which all other layers lead"
        )
    return ends[0]


def _grid_of(wiring: Wiring, grids: dict[str, Grid]) -> Grid:
    where = f"{SKELETON}.layers.{wiring.name}"
    if wiring.window is None:
        for below in wiring.inputs:
            _check_positions(wiring, grids[below])
        return (1, 1)
    if wiring.positions:
        raise ParameterError(f"{where}.positions: got some beside a window, expected one of both")
    sizes = {grids[name] for name in wiring.inputs}
    if len(sizes) > 1:
        listed = ", ".join(f"{name} {grids[name]}" for name in wiring.inputs)
        raise ParameterError(
            f"{where}.inputs: got grids that differ ({listed}), expected one size for a window"
        )
    (grid,) = sizes
    fits = all(1 <= w <= g for w, g in zip(wiring.window, grid, strict=True))
    if not fits:
        raise ParameterError(
            f"{where}.window: got {list(wiring.window)}, expected 1 to {list(grid)}, the grid of "
            f"{wiring.inputs[0]}"
        )
    if min(wiring.stride) < 1:
        raise ParameterError(f"{where}.stride: got {list(wiring.stride)}, expected 1 or more")
    rows, columns = spans(wiring, grid)
    return len(rows.starts), len(columns.starts)


def _check_positions(wiring: Wiring, grid: Grid) -> None:
    where = f"{SKELETON}.layers.{wiring.name}.positions"
    outside = [p for p in wiring.positions if not (0 <= p[0] < grid[0] and 0 <= p[1] < grid[1])]
    if outside:
        raise ParameterError(
            f"{where}: got {list(outside[0])}, expected rows 0 to {grid[0] - 1} and columns 0 to "
            f"{grid[1] - 1}"
        )
    if len(set(wiring.positions)) < len(wiring.positions):
        raise ParameterError(f"{where}: expected each position once")


def spans(wiring: Wiring, grid: Grid) -> tuple[Span, Span]:
    """Return the windows of a layer along rows and columns.

    Args:
        wiring: A layer with a window.
        grid: Positions of the layers it sees.

    Returns:
        The windows along the height and along the width.
    """
    window = wiring.window or grid
    rows, columns = (
        span(grid[side], window=window[side], stride=wiring.stride[side], padding=wiring.padding)
        for side in (0, 1)
    )
    return rows, columns
