"""Write the reference blocks that neural-tangents gives, for the tests of our dual kernels.

It runs in an environment of its own, never in that of this project (neural-tangents fails to import
with newer jax, and brings TensorFlow):

    python -m venv there
    there/bin/pip install neural-tangents==0.6.5 jax==0.5.3 jaxlib==0.5.3 tf2jax==0.3.7
    there/bin/python tests/oracle/make_neural_tangents_blocks.py

The stored kernels are of random networks with weights of variance (1 - beta) / fan-in and biases of
variance beta, in float64. Where a window reaches over the border, neural-tangents divides by the
whole window, as our padding ``zeros`` does. Its activations are not normalised; the deviation of
weights behind an activation is therefore divided by sqrt(E s(g)^2), and the kernel by E s(g)^2.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from neural_tangents import stax  # noqa: E402 - after the precision is chosen

TARGET = Path(__file__).with_name("neural_tangents_blocks.json")
PACKAGES = ("neural-tangents", "jax", "jaxlib", "tf2jax", "numpy")
MOMENTS = {
    "identity": 1.0,
    "relu": 0.5,
    "leaky_relu": (1 + 0.1**2) / 2,
    "abs": 1.0,
    "sign": 1.0,
    "exp": np.exp(2.0),
    "erf": 2 / np.pi * np.arcsin(2 / 3),
    "sin": np.exp(-1.0) * np.sinh(1.0),
    "cos": np.exp(-1.0) * np.cosh(1.0),
    "gaussian": 1 / np.sqrt(3),
    "gelu": 0.25 + (np.pi / 6 + 1 / np.sqrt(3)) / (2 * np.pi),
}
"""E s(g)^2 for standard normal g."""

LAYERS: dict[str, Callable[[], Any]] = {
    "identity": stax.Identity,
    "relu": stax.Relu,
    "leaky_relu": lambda: stax.LeakyRelu(0.1),
    "abs": stax.Abs,
    "sign": stax.Sign,
    "exp": stax.Exp,
    "erf": stax.Erf,
    "sin": stax.Sin,
    "cos": stax.Cos,
    "gaussian": lambda: stax.Gaussian(1, -0.5),
    "gelu": stax.Gelu,
}
DENSE = ("relu", "leaky_relu", "abs", "sign", "exp", "erf", "sin", "cos", "gaussian", "gelu")


def dense_case(activation: str, depth: int, beta: float) -> dict[str, Any]:
    """Return one fully connected case: inputs are unit vectors.

    Args:
        activation: Of every node.
        depth: Nodes.
        beta: Share of the bias.
    """
    inputs = points((8, 6))
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    layers: list[Any] = []
    for level in range(depth):
        behind = MOMENTS[activation] if level else 1 / 6  # the input's product is a mean over 6
        layers += [stax.Dense(1, *deviations(beta, behind)), LAYERS[activation]()]
    return {
        "kind": "fully_connected",
        "activation": activation,
        "depth": depth,
        "beta": beta,
        "inputs": inputs.tolist(),
        "kernel": block(layers, inputs, MOMENTS[activation]),
    }


def grid_case(
    activation: str, windows: list[int], strides: list[int], padding: str, beta: float
) -> dict[str, Any]:
    """Return one convolutional case over a 6 x 5 grid with two channels, read flat.

    Args:
        activation: Of every node.
        windows: Of each layer.
        strides: Of each layer.
        padding: ``zeros`` or ``valid``, in our words.
        beta: Share of the bias.
    """
    inputs = points((5, 6, 5, 2))
    layers: list[Any] = []
    for level, (window, stride) in enumerate(zip(windows, strides, strict=True)):
        behind = MOMENTS[activation] if level else 1 / 2
        deviation, bias = deviations(beta, behind)
        layers += [
            stax.Conv(
                1,
                (window, window),
                strides=(stride, stride),
                padding={"zeros": "SAME", "valid": "VALID"}[padding],
                W_std=deviation,
                b_std=bias,
            ),
            LAYERS[activation](),
        ]
    return {
        "kind": "convolutional",
        "activation": activation,
        "windows": windows,
        "strides": strides,
        "padding": padding,
        "beta": beta,
        "inputs": inputs.transpose(0, 3, 1, 2).tolist(),
        "kernel": block([*layers, stax.Flatten()], inputs, MOMENTS[activation]),
    }


def points(shape: tuple[int, ...]) -> np.ndarray:
    """Return the same inputs for the same shape, with few digits so that the file stays small.

    Args:
        shape: Of the inputs.
    """
    return np.round(np.random.default_rng(0).standard_normal(shape), 3)


def deviations(beta: float, behind: float) -> tuple[float, float]:
    """Return the deviations of weights and biases behind an activation of that second moment.

    Args:
        beta: Share of the bias.
        behind: Its second moment.
    """
    return float(np.sqrt((1 - beta) / behind)), float(np.sqrt(beta))


def block(layers: list[Any], inputs: np.ndarray, moment: float) -> list[list[float]]:
    """Return the normalised kernel of the layers.

    Args:
        layers: One after the other.
        inputs: As neural-tangents takes them, channels last.
        moment: Of the last activation.
    """
    kernel = stax.serial(*layers)[2](inputs, None, "nngp")
    return (np.asarray(kernel, dtype=np.float64) / moment).round(9).tolist()


def main() -> None:
    cases = [dense_case(name, 2, beta) for name in DENSE for beta in (0.0, 0.2)]
    cases += [dense_case("relu", 8, 0.1)]
    cases += [
        grid_case("relu", [3, 3], [1, 1], "zeros", 0.0),
        grid_case("relu", [3, 3], [1, 1], "valid", 0.1),
        grid_case("relu", [3, 2], [2, 2], "zeros", 0.3),
        grid_case("erf", [3, 3], [2, 1], "zeros", 0.1),
        grid_case("gelu", [2, 3], [1, 2], "valid", 0.2),
        grid_case("sin", [5, 3], [1, 1], "zeros", 0.0),
        grid_case("sign", [3, 3], [1, 1], "valid", 0.0),
    ]
    made = {
        "made_by": "python tests/oracle/make_neural_tangents_blocks.py",
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "precision": "float64",
        "cases": cases,
    }
    TARGET.write_text(json.dumps(made, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
