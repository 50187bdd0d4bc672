"""What a draw does to the mean squares in a net, layer by layer, measured on samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from relearn.methods.last_layer_probe.moment_rules import mean_square, plain_name

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.last_layer_probe.moment_walk import Layer, MomentWalk


@dataclass(frozen=True)
class LayerRow:
    """One layer of a net before and after a draw.

    Attributes:
        name: Of its weight, as in ``named_parameters``.
        kind: ``linear``, such as ``conv2d``, or ``left`` for a weight that kept its values.
        width: Outputs of the layer (units or channels).
        fan_in: Mean number of inputs of an output, padding left out.
        fed_by: What feeds it, such as ``relu``; for ``left`` the reason.
        source: Where the moment is from: ``theory`` (layers, norms and sums), ``closed form`` or
            ``quadrature`` (activations), ``measured`` (what could not be classified).
        moment: Mean square m of what feeds it, on which the draw counts.
        deviation: Of its weights as drawn.
        bias_share: Share of the bias in the mean square of what it gives.
        fed_before: Measured mean square of what feeds it over m, before: E s^2 of the normalised
            activation.
        fed_after: The same after; 1 is expected.
        given_before: Measured mean square of what it gives, before.
        given_after: The same after; ``expected`` is expected.
        expected: 1, or 0 for a last layer set to zero.
        tolerance: 3 / sqrt(width) of each layer on the way since the last norm or measurement,
            added as independent errors are; 0 for a last layer set to zero.
    """

    name: str
    kind: str
    width: int
    fan_in: float
    fed_by: str
    source: str
    moment: float
    deviation: float
    bias_share: float
    fed_before: float
    fed_after: float
    given_before: float
    given_after: float
    expected: float
    tolerance: float

    @property
    def gain(self) -> float:
        """1 / sqrt(moment), the gain of what feeds the layer."""
        return 1 / math.sqrt(self.moment) if self.moment > 0 else math.nan

    @property
    def within(self) -> bool:
        """Whether what it gives is as expected, within the tolerance; True where it was left."""
        return self.kind == "left" or abs(self.given_after - self.expected) <= self.tolerance

    def as_row(self) -> dict[str, Any]:
        """Return the row as a plain dictionary, with ``gain`` and ``within``."""
        return {**vars(self), "gain": self.gain, "within": self.within}


@dataclass(frozen=True)
class Passing:
    """What goes through a layer.

    Attributes:
        taken: Mean square of what feeds it.
        given: Mean square of what it gives.
        correlation: Mean cosine of two samples in what it gives; NaN where it was not asked for.
    """

    taken: float
    given: float
    correlation: float = math.nan


class _Measuring(TorchFunctionMode):
    """Notes the mean squares that go into and come out of each layer at its first call."""

    def __init__(self, net: nn.Module, correlations: bool) -> None:
        super().__init__()
        self.names = {id(p): name for name, p in net.named_parameters()}
        self.correlations = correlations
        self.found: dict[str, Passing] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the function, and note what a layer takes and gives."""
        given = dict(kwargs or {})
        result = func(*args, **given)
        name = plain_name(func)
        if name == "linear" or name.startswith("conv"):
            taken = args[0] if args else given.get("input")
            weight = args[1] if len(args) > 1 else given.get("weight")
            layer = self.names.get(id(weight))
            if layer is not None and layer not in self.found and isinstance(taken, Tensor):
                alike = _mean_cosine(result) if self.correlations else math.nan
                self.found[layer] = Passing(mean_square(taken), mean_square(result), alike)
        return result


def mean_squares(
    module: nn.Module, samples: Tensor, *, correlations: bool = False
) -> dict[str, Passing]:
    """Return the mean squares of what each layer takes and gives, by name of its weight.

    Args:
        module: Run once, in the mode that it is in.
        samples: As the net takes them.
        correlations: Whether to measure how alike two samples have become, too.
    """
    measuring = _Measuring(module, correlations)
    with measuring:
        module(samples)
    return measuring.found


def rows_of(
    module: nn.Module,
    walk: MomentWalk,
    drawn: Mapping[str, tuple[float, float]],
    measured: tuple[Mapping[str, Passing], Mapping[str, Passing]],
) -> list[LayerRow]:
    """Return the rows of a draw: the layers in the order of their calls, then what was left.

    Args:
        module: The net.
        walk: As it was walked.
        drawn: Name to deviation and bias share.
        measured: ``mean_squares`` before and after.
    """
    rows = [_row(layer, drawn[layer.name], measured) for layer in walk.layers.values()]
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1 and name not in walk.layers:
            rows.append(_left(name, parameter, walk.users.get(name)))
    return rows


def unclassified(rows: list[LayerRow]) -> list[str]:
    """Return one line for each layer whose moment had to be measured, or that was left.

    The input is no such layer: its mean square is always measured.

    Args:
        rows: As ``normalised_init_`` returns them.
    """
    told = []
    for row in rows:
        if row.kind == "left":
            told.append(f"{row.name}: left as it is ({row.fed_by})")
        elif row.source == "measured" and row.fed_by != "input":
            told.append(
                f"{row.name}: fed by {row.fed_by}, whose moment {row.moment:.4g} is measured"
            )
    return told


def _row(
    layer: Layer,
    drawn: tuple[float, float],
    measured: tuple[Mapping[str, Passing], Mapping[str, Passing]],
) -> LayerRow:
    before, after = (passing[layer.name] for passing in measured)
    moment = layer.moment if layer.moment > 0 else math.nan
    return LayerRow(
        name=layer.name,
        kind=layer.kind,
        width=layer.width,
        fan_in=layer.fan_in,
        fed_by=layer.feeding.said,
        source=layer.feeding.source,
        moment=layer.moment,
        deviation=drawn[0],
        bias_share=drawn[1],
        fed_before=before.taken / moment,
        fed_after=after.taken / moment,
        given_before=before.given,
        given_after=after.given,
        expected=0.0 if drawn[0] == 0 else 1.0,
        tolerance=0.0 if drawn[0] == 0 else math.sqrt(layer.drift),
    )


def _left(name: str, parameter: Tensor, user: str | None) -> LayerRow:
    reason = f"used by {user}" if user else "not seen in the forward pass as the weight of a layer"
    deviation = float(parameter.detach().double().std(correction=0))
    return LayerRow(
        name=name,
        kind="left",
        width=len(parameter),
        fan_in=math.nan,
        fed_by=reason,
        source="",
        moment=math.nan,
        deviation=deviation,
        bias_share=0.0,
        fed_before=math.nan,
        fed_after=math.nan,
        given_before=math.nan,
        given_after=math.nan,
        expected=math.nan,
        tolerance=0.0,
    )


def _mean_cosine(values: Tensor) -> float:
    """Return the mean cosine over all pairs of different samples."""
    units = torch.nn.functional.normalize(values.detach().double().flatten(1), dim=1)
    count = len(units)
    total = float(units.sum(0).square().sum()) - float(units.square().sum())
    return total / (count * (count - 1)) if count > 1 else math.nan
