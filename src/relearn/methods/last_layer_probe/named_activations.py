"""The activations known by name: the function, its parameters, its kinks and its dual's form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from relearn.methods.last_layer_probe import piecewise_duals, polynomial_duals, smooth_duals
from relearn.methods.last_layer_probe.hermite import hermite_sum
from relearn.methods.last_layer_probe.numeric_duals import numeric_form

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.dual_form import DualForm

FINITE = "a finite number"
POSITIVE = "a number above 0 and at most 10"
DEGREE = "a whole number from 0 to 60"
SERIES = "a list of 1 to 61 finite numbers, not all 0: the coefficients of h_0, h_1, ..."


@dataclass(frozen=True)
class Named:
    """One entry of the list of named activations.

    Attributes:
        function: Parameters -> s.
        form: Parameters -> moments and duals.
        defaults: Every parameter with its default.
        expected: What each parameter may be, in words; also picks the check.
        kinks: Where s or its derivative jumps.
        closed: Whether the form is closed.
    """

    function: Callable[..., Callable[[Tensor], Tensor]]
    form: Callable[..., DualForm]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    kinks: tuple[float, ...] = ()
    closed: bool = True

    def accepts(self, parameter: str, value: Any) -> bool:
        """Tell whether the value is in the parameter's range.

        Args:
            parameter: One of ``defaults``.
            value: What was given.
        """
        return CHECKS[self.expected[parameter]](value)


def _finite(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _degree(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 60


def _series(value: Any) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str) and 1 <= len(value) <= 61
    return listed and all(map(_finite, value)) and any(value)


CHECKS: dict[str, Callable[[Any], bool]] = {
    FINITE: _finite,
    POSITIVE: lambda value: _finite(value) and 0 < value <= 10,
    DEGREE: _degree,
    SERIES: _series,
}


def _fixed(function: Callable[[Tensor], Tensor]) -> Callable[..., Callable[[Tensor], Tensor]]:
    return lambda: function


def _ab_relu(a: float, b: float) -> Callable[[Tensor], Tensor]:
    return lambda t: a * t.clamp(max=0) + b * t.clamp(min=0)


def _scaled(function: Callable[[Tensor], Tensor]) -> Callable[..., Callable[[Tensor], Tensor]]:
    return lambda scale: lambda t: function(scale * t)


def _by_quadrature(name: str, apply: Callable[[Tensor], Tensor]) -> Named:
    return Named(_fixed(apply), cache(partial(numeric_form, apply, name=name)), closed=False)


def _elu(alpha: float) -> Callable[[Tensor], Tensor]:
    return partial(functional.elu, alpha=alpha)


@cache
def _elu_form(alpha: float) -> DualForm:
    return numeric_form(_elu(alpha), name="elu", kinks=(0.0,))


def _unit(degree: int) -> list[float]:
    return [0.0] * degree + [1.0]


SCALE: dict[str, Any] = {"defaults": {"scale": 1.0}, "expected": {"scale": POSITIVE}}

NAMED: dict[str, Named] = {
    "identity": Named(_fixed(lambda t: t), piecewise_duals.identity),
    "relu": Named(_fixed(torch.relu), lambda: piecewise_duals.rectified(0.0, 1.0), kinks=(0.0,)),
    "leaky_relu": Named(
        lambda negative_slope: partial(functional.leaky_relu, negative_slope=negative_slope),
        lambda negative_slope: piecewise_duals.rectified(negative_slope, 1.0),
        {"negative_slope": 0.01},
        {"negative_slope": FINITE},
        kinks=(0.0,),
    ),
    "ab_relu": Named(
        _ab_relu,
        piecewise_duals.rectified_pair,
        {"a": -1.0, "b": 1.0},
        {"a": FINITE, "b": FINITE},
        kinks=(0.0,),
    ),
    "abs": Named(_fixed(torch.abs), lambda: piecewise_duals.rectified(-1.0, 1.0), kinks=(0.0,)),
    "step": Named(
        _fixed(lambda t: (t > 0).to(t.dtype)), lambda: piecewise_duals.jump(0.0), kinks=(0.0,)
    ),
    "sign": Named(_fixed(torch.sign), lambda: piecewise_duals.jump(-1.0), kinks=(0.0,)),
    "exp": Named(_scaled(torch.exp), smooth_duals.exponential, **SCALE),
    "erf": Named(_scaled(torch.erf), smooth_duals.error_function, **SCALE),
    "sin": Named(_scaled(torch.sin), partial(smooth_duals.wave, odd=True), **SCALE),
    "cos": Named(_scaled(torch.cos), partial(smooth_duals.wave, odd=False), **SCALE),
    "random_fourier": Named(
        _scaled(lambda t: (t - math.pi / 4).cos()), smooth_duals.fourier, **SCALE
    ),
    "gaussian": Named(
        lambda decay: lambda t: (-decay * t * t).exp(),
        smooth_duals.bell,
        {"decay": 0.5},
        {"decay": POSITIVE},
    ),
    "gelu": Named(_fixed(functional.gelu), smooth_duals.gelu),
    "hermite": Named(
        lambda degree: partial(hermite_sum, coefficients=_unit(degree)),
        lambda degree: polynomial_duals.hermite_series(_unit(degree)),
        {"degree": 2},
        {"degree": DEGREE},
    ),
    "square": Named(
        _fixed(torch.square), lambda: polynomial_duals.hermite_series([1.0, 0.0, math.sqrt(2)])
    ),
    "polynomial": Named(
        lambda coefficients: partial(hermite_sum, coefficients=coefficients),
        polynomial_duals.hermite_series,
        {"coefficients": [0.0, 1.0, 1.0]},
        {"coefficients": SERIES},
    ),
    "tanh": _by_quadrature("tanh", torch.tanh),
    "sigmoid": _by_quadrature("sigmoid", torch.sigmoid),
    "silu": _by_quadrature("silu", functional.silu),
    "softplus": _by_quadrature("softplus", functional.softplus),
    "elu": Named(_elu, _elu_form, {"alpha": 1.0}, {"alpha": POSITIVE}, kinks=(0.0,), closed=False),
}
