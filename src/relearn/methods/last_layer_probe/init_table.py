"""The normalised draw beside the usual ones, and what a wrong gain or a bias share does to a net.

Each draw is made on a copy of the net, from doors of its own, and measured on the same samples.

    he:            weights ~ N(0, 2 / fan_in),              biases 0
    xavier:        weights ~ N(0, 2 / (fan_in + fan_out)),  biases 0
    torch_default: weights and biases ~ U(-1 / sqrt(fan_in), 1 / sqrt(fan_in))

with fan_in as torch counts it, padding included.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import generator_of
from relearn.errors import one_of
from relearn.methods.last_layer_probe.init_report import LayerRow, mean_squares
from relearn.methods.last_layer_probe.moment_walk import MomentWalk
from relearn.methods.last_layer_probe.normalised_init import normalised_init_
from relearn.methods.last_layer_probe.running import undisturbed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.methods.last_layer_probe.moment_walk import Layer

SCHEMES = ("normalised", "he", "xavier", "torch_default")
"""The draws that are compared."""

GAINS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Factors on the deviation of all weights."""

BETAS = (0.0, 0.1, 0.3)
"""Shares of the biases."""


@dataclass(frozen=True)
class DrawRow:
    """One layer under one draw.

    Attributes:
        scheme: One of ``SCHEMES``.
        gain: Factor on the deviation of the weights.
        beta: Share of the biases.
        depth: Number of the layer in the order of the calls, from 1.
        name: Of its weight.
        fed: Mean square of what feeds it over that of the normalised draw: E s^2 of the normalised
            activation, 1 where nothing has shrunk or grown.
        given: Mean square of what it gives.
        correlation: Mean cosine of two samples in what it gives, all outputs together; 1 where all
            samples have become alike.
    """

    scheme: str
    gain: float
    beta: float
    depth: int
    name: str
    fed: float
    given: float
    correlation: float

    def as_row(self) -> dict[str, Any]:
        """Return the row as a plain dictionary."""
        return dict(vars(self))


def init_table(
    module: nn.Module,
    example: Tensor,
    *,
    schemes: Sequence[str] = SCHEMES,
    beta: float = 0.0,
    seed: int = 0,
) -> list[DrawRow]:
    """Return how the mean squares fare, layer by layer, under each way to draw the weights.

    Args:
        module: The net; it keeps every bit, copies are drawn.
        example: As for ``normalised_init_``.
        schemes: Some of ``SCHEMES``.
        beta: Share of the biases under ``normalised``.
        seed: Seed of the draws.

    Raises:
        ParameterError: A scheme is not known.
        DataError: As ``normalised_init_``.
        TrainingError: As ``normalised_init_``.
    """
    rows = []
    for scheme in schemes:
        if scheme not in SCHEMES:
            raise one_of("last_layer_probe.init.schemes", scheme, SCHEMES)
        share = beta if scheme == "normalised" else 0.0
        net, told = _drawn(module, example, (1.0, share), seed)
        if scheme != "normalised":
            _draw_usual(net, example, scheme, seed)
        rows += _measured(net, example, told, (scheme, 1.0, share))
    return rows


def init_sensitivity(
    module: nn.Module,
    example: Tensor,
    *,
    gains: Sequence[float] = GAINS,
    betas: Sequence[float] = BETAS,
    seed: int = 0,
) -> list[DrawRow]:
    """Return how the mean squares fare under the normalised draw with other gains and bias shares.

    Args:
        module: The net; it keeps every bit, copies are drawn.
        example: As for ``normalised_init_``.
        gains: Factors on the deviation of all weights.
        betas: Shares of the biases.
        seed: Seed of the draws.

    Raises:
        ParameterError: A gain or share is out of range.
        DataError: As ``normalised_init_``.
        TrainingError: As ``normalised_init_``.
    """
    rows = []
    for gain in gains:
        for beta in betas:
            net, told = _drawn(module, example, (gain, beta), seed)
            rows += _measured(net, example, told, ("normalised", gain, beta))
    return rows


def _drawn(
    module: nn.Module, example: Tensor, settings: tuple[float, float], seed: int
) -> tuple[nn.Module, list[LayerRow]]:
    (gain, beta), net = settings, copy.deepcopy(module)
    told = normalised_init_(net, example, beta=beta, zero_head=False, gain=gain, seed=seed)
    return net, [row for row in told if row.kind != "left"]


def _draw_usual(net: nn.Module, example: Tensor, scheme: str, seed: int) -> None:
    """Draw every layer of a net as ``scheme`` says."""

    @torch.no_grad()
    def draw(layer: Layer) -> None:
        generator = generator_of(seed, f"last_layer_probe.init.{scheme}.{layer.name}")
        shape = layer.weight.shape
        window = layer.weight[0, 0].numel()
        fan_in, fan_out = shape[1] * window, shape[0] * window
        if scheme == "torch_default":
            bound = fan_in**-0.5
            fresh = torch.empty(shape).uniform_(-bound, bound, generator=generator)
        else:
            variance = 2 / fan_in if scheme == "he" else 2 / (fan_in + fan_out)
            fresh = torch.randn(shape, generator=generator) * variance**0.5
        layer.weight.copy_(fresh)
        if layer.bias is not None:
            biases = torch.zeros(layer.bias.shape)
            if scheme == "torch_default":
                biases.uniform_(-bound, bound, generator=generator)
            layer.bias.copy_(biases)

    placed = example.to(next(net.parameters()).device)
    walk = MomentWalk(net, draw)
    with undisturbed(net, seed), walk:
        walk.begin(placed)
        net(placed)


def _measured(
    net: nn.Module, example: Tensor, told: Sequence[LayerRow], settings: tuple[str, float, float]
) -> list[DrawRow]:
    scheme, gain, beta = settings
    with undisturbed(net, 0):
        found = mean_squares(net, example.to(next(net.parameters()).device), correlations=True)
    return [
        DrawRow(
            *(scheme, gain, beta, depth, row.name),
            fed=found[row.name].taken / row.moment,
            given=found[row.name].given,
            correlation=found[row.name].correlation,
        )
        for depth, row in enumerate(told, 1)
    ]
