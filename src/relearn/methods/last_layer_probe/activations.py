"""Activations with their dual: the map from the correlation of two inputs to that of two outputs.

A wide random layer with activation s turns the correlation rho of two pre-activations into
dual(rho) = E[s(X) s(Y)] / E s(g)^2; a skeleton's dual kernel is made of these maps alone, and
1 / sqrt(E s(g)^2) is the gain of the normalised initialisation.

Daniely, Frostig, Singer, arXiv 1602.05897, section on dual activations. Where we differ: any
callable is taken (by quadrature), and the gradient at rho = 1 and rho = -1 is the derivative dual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from relearn.errors import ParameterError, near_miss, one_of
from relearn.methods.last_layer_probe.dual_form import DualForm, DualWithSlope
from relearn.methods.last_layer_probe.named_activations import NAMED, Named
from relearn.methods.last_layer_probe.numeric_duals import numeric_form

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An elementwise function s with everything a dual kernel asks of it.

    Attributes:
        name: As in YAML, or the name given to a callable.
        parameters: Its parameters, such as ``{"negative_slope": 0.1}``.
        apply: s itself, elementwise on any floating tensor, not normalised.
        kinks: Where s or its derivative jumps, increasing.
        form: Moments and duals, in closed form or by quadrature.
        closed: Whether ``form`` is a closed form.
        own: Whether it was made from a callable by ``activation_from``.
    """

    name: str
    parameters: Mapping[str, Any] = field(hash=False)
    apply: Callable[[Tensor], Tensor] = field(repr=False, compare=False)
    kinks: tuple[float, ...]
    form: DualForm = field(repr=False, compare=False)
    closed: bool
    own: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what builds it, so that workers can be sent activations."""
        if self.own:
            return _rebuilt_from, (self.apply, self.name, self.kinks)
        return _rebuilt, (self.name, dict(self.parameters))

    @property
    def second_moment(self) -> float:
        """E s(g)^2 for standard normal g."""
        return self.form.second_moment

    @property
    def mean(self) -> float:
        """E s(g) for standard normal g."""
        return self.form.mean

    @property
    def slope(self) -> float:
        """The normalised dual's derivative at rho = 1; infinite where s jumps."""
        return self.form.slope

    @property
    def gain(self) -> float:
        """1 / sqrt(E s(g)^2): keeps the mean square of a layer at 1."""
        return 1 / math.sqrt(self.form.second_moment)

    @property
    def error(self) -> float:
        """Largest absolute error of ``dual`` in float64, as far as known."""
        return self.form.error

    def normalised(self, t: Tensor) -> Tensor:
        """Return s(t) / sqrt(E s(g)^2), shaped as t.

        Args:
            t: Float.
        """
        return self.apply(t) * self.gain

    def dual(self, rho: Tensor) -> Tensor:
        """Return E[s(X) s(Y)] / E s(g)^2 for standard normal X, Y of correlation rho.

        Its gradient is ``derivative_dual``: at rho = 1 and -1 the one-sided limit, never NaN.

        Args:
            rho: Float32 or float64, any shape; clamped to [-1, 1], which rounding may leave.
        """
        if not (torch.is_grad_enabled() and rho.requires_grad):
            return self.form.dual(rho.clamp(-1, 1))
        value: Tensor = DualWithSlope.apply(rho, self.form.dual, self.form.derivative)
        return value

    def derivative_dual(self, rho: Tensor) -> Tensor:
        """Return the derivative of ``dual``, which is the dual of the normalised s'.

        Args:
            rho: As for ``dual``. At 1 the result is ``slope``, infinite where s jumps.
        """
        return self.form.derivative(rho.clamp(-1, 1))

    def general(self, a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        """Return E[s(U) s(V)], not normalised, for Cov(U, V) = [[a, b], [b, d]].

        Args:
            a: Variances of U, at least 0; broadcastable with the others.
            b: Covariances, |b| <= sqrt(a d).
            d: Variances of V, at least 0. Where s jumps, the gradients by a, b and d are infinite
                at |b| = sqrt(a d), and their sum is undefined.
        """
        return self.form.general(a, b, d)

    def coefficients(self, count: int) -> Tensor:
        """Return the Hermite coefficients a_0 .. a_{count-1} of the normalised s, float64.

        dual(rho) = sum_i a_i^2 rho^i and sum_i a_i^2 = 1.

        Args:
            count: How many, at least 1.
        """
        return self.form.coefficients(count)


def _rebuilt(name: str, parameters: dict[str, Any]) -> Activation:
    return activation_of(name, **parameters)


def _rebuilt_from(
    apply: Callable[[Tensor], Tensor], name: str, kinks: tuple[float, ...]
) -> Activation:
    return activation_from(apply, name=name, kinks=kinks)


def known_activations() -> tuple[str, ...]:
    """Return the names that ``activation_of`` takes, sorted."""
    return tuple(sorted(NAMED))


def activation_of(name: str, **parameters: Any) -> Activation:
    """Return the activation of that name with its dual.

    Args:
        name: One of ``known_activations()``.
        parameters: Its parameters; those left out have the defaults of ``NAMED``.

    Raises:
        ParameterError: The name or a parameter is unknown, a value is out of range, or the
            activation has infinite variance under the normal law.
    """
    if name not in NAMED:
        raise one_of("activation", name, NAMED)
    named = NAMED[name]
    for parameter in parameters.keys() - named.defaults.keys():
        raise _unknown_parameter(name, parameter, named)
    chosen = {**named.defaults, **parameters}
    for parameter, value in chosen.items():
        if not named.accepts(parameter, value):
            wanted = named.expected[parameter]
            raise ParameterError(f"activation.{name}.{parameter}: got {value!r}, expected {wanted}")
    form = named.form(**chosen)
    if not math.isfinite(form.second_moment) or form.second_moment <= 0:
        raise ParameterError(
            f"activation.{name}: E s(g)^2 is {form.second_moment} with {chosen}, expected finite "
            "and above 0; take smaller parameters"
        )
    return Activation(name, chosen, named.function(**chosen), named.kinks, form, named.closed)


def activation_from(
    apply: Callable[[Tensor], Tensor], *, name: str, kinks: Sequence[float] = ()
) -> Activation:
    """Return an activation made from any elementwise function, its dual found by quadrature.

    Args:
        apply: Floating tensor -> tensor of the same shape.
        name: How reports call it; not one of ``known_activations()``.
        kinks: Every place where the function or its derivative jumps.

    Raises:
        ParameterError: The name is taken, a kink is not finite, or the function is not
            elementwise, is 0, has infinite variance or a kink that is not named.
    """
    if name in NAMED:
        raise ParameterError(
            f"activation: {name!r} is the name of a known activation, expected another; "
            f"use activation_of({name!r})"
        )
    if not all(math.isfinite(kink) for kink in kinks):
        raise ParameterError(f"activation.{name}.kinks: got {list(kinks)}, expected finite numbers")
    places = tuple(sorted({float(kink) for kink in kinks}))
    form = numeric_form(apply, name=name, kinks=places)
    return Activation(name, {}, apply, places, form, closed=False, own=True)


def _unknown_parameter(name: str, parameter: str, named: Named) -> ParameterError:
    known = ", ".join(named.defaults) or "no parameters"
    hint = near_miss(parameter, named.defaults)
    return ParameterError(f"activation.{name}.{parameter}: is not known,{hint} expected {known}")
