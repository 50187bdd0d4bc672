"""Tables of activations for the page on dual kernels, computed from the package itself."""

from __future__ import annotations

import math
from collections.abc import Callable

from claim_cards import ClaimError

GAIN_NAMES = {"identity": "linear"}  # how torch.nn.init.calculate_gain calls it


def duals_table() -> str:
    """Return moments, dual and fate in depth of every known activation with its defaults."""
    from relearn.methods.last_layer_probe.activations import activation_of, known_activations
    from relearn.methods.last_layer_probe.depth import fixed_point

    lines = [
        "| Activation | Parameters | E s(g)² | dual(0) | dual'(1) | Form | Deep network |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in known_activations():
        activation = activation_of(name)
        fixed = fixed_point(activation)
        at_zero = activation.mean**2 / activation.second_moment
        fate = fixed.regime
        if fixed.regime == "collapses to identity":
            fate += f", {fixed.correlation:.3f} beside the diagonal"
        parameters = ", ".join(f"{k} = {v}" for k, v in activation.parameters.items())
        form = "closed" if activation.closed else "quadrature"
        numbers = f"{activation.second_moment:.5f} | {at_zero:.4f} | {_slope(activation.slope)}"
        lines.append(f"| `{name}` | {parameters} | {numbers} | {form} | {fate} |")
    return "\n".join(lines)


def gains_table() -> str:
    """Return the gains, and how the mean square of a square layer fares under the usual draws."""
    from relearn.methods.last_layer_probe.activations import activation_of

    lines = [
        "| Activation | 1/√E s(g)² | torch's `calculate_gain` | He | Xavier | torch default |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu", "elu"):
        activation = activation_of(name)
        usual = _usual_gain(GAIN_NAMES.get(name, name))
        moment = activation.second_moment
        kept = " | ".join(f"{factor * moment:.3f}" for factor in (2, 1, 1 / 3))
        lines.append(f"| `{name}` | {activation.gain:.4f} | {usual} | {kept} |")
    return "\n".join(lines)


def _usual_gain(name: str) -> str:
    from torch.nn.init import calculate_gain

    try:
        return f"{calculate_gain(name):.4f}"  # type: ignore[arg-type]
    except ValueError:  # torch knows no gain for it
        return "none"


def _slope(value: float) -> str:
    return "infinite" if math.isinf(value) else f"{value:.4f}"


TABLES: dict[str, Callable[[], str]] = {"duals": duals_table, "gains": gains_table}


def activations_table(name: str) -> str:
    """Return one of the tables.

    Args:
        name: ``duals`` or ``gains``.

    Raises:
        ClaimError: There is no such table.
    """
    if name not in TABLES:
        raise ClaimError(f"{name!r} is no table of activations; there are {', '.join(TABLES)}")
    return TABLES[name]()
