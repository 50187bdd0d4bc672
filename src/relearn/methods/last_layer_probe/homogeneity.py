"""Which activations are positively homogeneous: s(c t) = c^degree s(t) for c > 0.

For these the lengths of the inputs come out of the dual kernel as a factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.activations import Activation

DEGREES = {
    "identity": 1,
    "relu": 1,
    "leaky_relu": 1,
    "ab_relu": 1,
    "abs": 1,
    "step": 0,
    "sign": 0,
    "square": 2,
}


def degree_of(activation: Activation) -> int | None:
    """Return the degree of homogeneity; None where there is none.

    Args:
        activation: Known by its name; a callable under one of these names has its own ``form``
            and counts as not homogeneous.
    """
    return DEGREES.get(activation.name) if activation.closed else None


def power_of(scale: Tensor, degree: int) -> Tensor:
    """Return scale to the power of a degree; to the power of 0 it is 1, but 0 where the scale is 0.

    Args:
        scale: At least 0.
        degree: Of homogeneity.
    """
    if degree == 1:
        return scale
    return (scale > 0).to(scale.dtype) if degree == 0 else scale**degree
