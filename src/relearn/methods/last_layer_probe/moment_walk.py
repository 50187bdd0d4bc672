"""One forward pass that sees every function a net calls and draws each layer as it is reached.

The net is run, not traced, so that any model will do: whatever its forward pass calls is seen, as
modules or as plain functions. A layer's weights are drawn when it is first called, with the mean
square of what feeds it; all that lies behind then sees the fresh weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from relearn.errors import TrainingError
from relearn.methods.last_layer_probe.moment_rules import (
    TRANSPARENT,
    Flow,
    after_activation,
    after_join,
    after_norm,
    after_scaling,
    after_sum,
    is_activation,
    is_norm,
    mean_square,
    plain_name,
    unknown,
)

if TYPE_CHECKING:
    from torch import nn

_CONVOLUTIONS = {f"conv{turned}{d}d" for turned in ("", "_transpose") for d in (1, 2, 3)}
_SUMS = {"add", "iadd", "radd", "sub", "isub", "rsub", "subtract"}
_FACTORS = {
    "mul",
    "imul",
    "rmul",
    "multiply",
    "div",
    "itruediv",
    "truediv",
    "divide",
    "true_divide",
}
_ASKING = {"get", "size", "dim", "numel", "len", "is_floating_point", "stride", "is_contiguous"}


@dataclass(frozen=True)
class Layer:
    """A linear map or convolution as it is called.

    Attributes:
        name: Of its weight, as in ``named_parameters``.
        kind: ``linear`` or such as ``conv2d``.
        weight: The parameter.
        bias: Its bias; None without.
        fan_in: Inputs of one output: the mean over all positions of those that are no padding.
        fan_out: Outputs that one input reaches, padding and stride left aside.
        feeding: What is known of its inputs.
        moment: Mean square that the draw counts on: known, or measured on the samples.
        place: Number of the layer in the order of the calls.
    """

    name: str
    kind: str
    weight: Tensor
    bias: Tensor | None
    fan_in: float
    fan_out: float
    feeding: Flow
    moment: float
    place: int

    @property
    def width(self) -> int:
        """Outputs: units or channels."""
        turned = "transpose" in self.kind
        return int(self.weight.shape[1 if turned else 0])

    @property
    def drift(self) -> float:
        """As ``Flow.drift``, of what it gives."""
        return self.feeding.drift + 9 / self.width


class MomentWalk(TorchFunctionMode):
    """Follows the mean square through one forward pass, inside ``with``.

    Args:
        net: Whose parameters are to be recognised.
        draw: Writes the weights of a layer.

    Attributes:
        layers: Those met, by name of the weight.
        users: Name of a parameter to the function that took it otherwise than as a layer's weight.
    """

    def __init__(self, net: nn.Module, draw: Callable[[Layer], None]) -> None:
        super().__init__()
        self.draw = draw
        self.layers: dict[str, Layer] = {}
        self.users: dict[str, str] = {}
        self._names = {id(p): name for name, p in net.named_parameters()}
        self._parameters = {id(p): p for p in net.parameters()}
        self._flows: dict[int, tuple[Tensor, Flow]] = {}  # the tensors too: ids are used again

    def begin(self, images: Tensor) -> None:
        """Take a tensor as the net's input.

        Args:
            images: Float.
        """
        self._set(images, unknown("input"))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the function, and note what it makes of the mean square."""
        given = dict(kwargs or {})
        name = plain_name(func)
        if name in _ASKING:  # shapes and such: no tensors to follow
            return func(*args, **given)
        is_layer = name == "linear" or name in _CONVOLUTIONS
        flow = self._layer(name, args, given) if is_layer else None
        if flow is None:
            self._note_users(name, args, given)
            flow = self._flow_of(func, args, given)
        result = func(*args, **given)
        for part in result if isinstance(result, list | tuple) else (result,):
            if isinstance(part, Tensor) and part.is_floating_point():
                self._set(part, flow)
        return result

    def _set(self, tensor: Tensor, flow: Flow) -> None:
        self._flows[id(tensor)] = (tensor, flow)

    def _of(self, tensor: Any) -> Flow | None:
        return self._flows[id(tensor)][1] if id(tensor) in self._flows else None

    def _layer(self, kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Flow | None:
        """Draw a layer that is met for the first time, and return what it gives."""
        x, weight, bias = (
            args[place] if len(args) > place else kwargs.get(key)
            for place, key in enumerate(("input", "weight", "bias"))
        )
        name = self._names.get(id(weight))
        if name is None or not isinstance(x, Tensor) or not isinstance(weight, Tensor):
            return None
        if name not in self.layers:
            feeding = self._of(x) or unknown("another input")
            moment = feeding.moment
            if moment is None:
                moment = mean_square(x)
            if not math.isfinite(moment):
                raise TrainingError(
                    f"normalised_init_: {name} is fed numbers that are NaN or infinite "
                    f"({feeding.said}); look at the samples"
                )
            fans = _fans(kind, args, kwargs)
            mine = None if bias is None else self._parameters.get(id(bias))
            place = len(self.layers)
            self.layers[name] = Layer(name, kind, weight, mine, *fans, feeding, moment, place)
            self.draw(self.layers[name])
        layer = self.layers[name]
        return Flow(1.0, "layer", gaussian=True, origin=frozenset({layer.place}), drift=layer.drift)

    def _note_users(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        for value in (*args, *kwargs.values()):
            for part in value if isinstance(value, list | tuple) else (value,):
                if isinstance(part, Tensor) and id(part) in self._names:
                    self.users.setdefault(self._names[id(part)], name)

    def _flow_of(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Flow:
        """Return the flow behind a function that is no layer."""
        name = plain_name(func)
        if name in ("cat", "concat", "concatenate") and args:
            parts = [part for part in args[0] if isinstance(part, Tensor)]
            return after_join(map(self._of, parts), [part.numel() for part in parts])
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        flow = self._of(tensors[0]) if tensors else None
        if flow is None:
            return unknown(name)
        if len(tensors) > 1 and name in _SUMS and len(args) > 1:
            return after_sum(name, (flow, self._of(tensors[1])), tensors[0] is tensors[1])
        if name in _FACTORS and len(args) == 2:
            return self._scaled(name, flow, args)
        return _of_one(func, flow, args, kwargs)

    def _scaled(self, name: str, flow: Flow, args: tuple[Any, ...]) -> Flow:
        number = args[0] if self._of(args[0]) is None else args[1]
        if self._of(number) is not None or id(number) in self._names:
            return unknown(name)
        if isinstance(number, Tensor) and number.numel() > 1:
            return unknown(name)
        factor = float(number)
        if "div" in name:
            if number is args[0] or factor == 0:
                return unknown(name)
            factor = 1 / factor
        return after_scaling(flow, factor)


def _of_one(
    func: Callable[..., Any], flow: Flow, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Flow:
    """Return the flow behind a function of one tensor."""
    name = plain_name(func)
    if is_norm(name):
        return after_norm(name, flow, args, kwargs)
    if is_activation(name):
        return after_activation(flow, func, args, kwargs)
    if name in TRANSPARENT or _lets_pass(name, args, kwargs):
        return flow
    return unknown(name)


def _lets_pass(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether dropout is switched off, or padding repeats what is there."""
    if "dropout" in name:
        training = kwargs.get("training", args[2] if len(args) > 2 else True)
        share = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        return not training or float(share) == 0
    if name == "pad":
        return bool(kwargs.get("mode", args[2] if len(args) > 2 else "constant") != "constant")
    return False


def _fans(kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[float, float]:
    """Return the mean in-degree of an output, and the out-degree of an input inside the map."""
    x, weight = args[0] if args else kwargs["input"], args[1] if len(args) > 1 else kwargs["weight"]
    if kind == "linear":
        return float(weight.shape[1]), float(weight.shape[0])
    turned = "transpose" in kind
    last = ("output_padding", "groups", "dilation") if turned else ("dilation", "groups")
    names = ("input", "weight", "bias", "stride", "padding", *last)
    settings = {**dict(zip(names, args, strict=False)), **kwargs}
    groups = int(settings.pop("groups", 1))
    taps = weight.new_ones(1, 1, *weight.shape[2:])
    settings |= {"weight": taps, "bias": None}
    # counts the inputs of each output: fewer at the borders, which the padding feeds zeros
    ones = weight.new_ones(1, 1, *x.shape[2:])
    settings["input"] = ones
    counted = float(getattr(torch.nn.functional, kind)(**settings).double().mean())
    window = float(taps.numel())
    if turned:
        return counted * weight.shape[0] / groups, window * weight.shape[1]
    return counted * weight.shape[1], window * weight.shape[0] / groups
