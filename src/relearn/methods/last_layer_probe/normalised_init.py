"""Fresh weights under which every layer gives numbers of mean square 1: the normalised draw.

For a layer with in-degree d, fed by an activation of second moment m = E s(g)^2 with g ~ N(0, 1):

    weights ~ N(0, (1 - beta) / (d m)),   biases ~ N(0, beta),   last layer 0,

so that E z^2 = (1 - beta) + beta = 1, whatever the activation. The input counts as an activation
of the mean square that it has on the samples; d is the true number of inputs, so that what the
padding of a convolution feeds is not counted.

References:
    Daniely, Frostig, Singer, arXiv 1602.05897: normalised activations and Gaussian weights of
    variance 1 / in-degree. That this is the paper's correction of the usual draws is from memory:
    the rule as it stands here, and beta = 0, are our defaults.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from relearn.data.randomness import generator_of
from relearn.errors import DataError, ParameterError, TrainingError
from relearn.methods.last_layer_probe.init_report import LayerRow, mean_squares, rows_of
from relearn.methods.last_layer_probe.moment_walk import MomentWalk
from relearn.methods.last_layer_probe.running import undisturbed
from relearn.models.heads import find_head

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.methods.last_layer_probe.moment_walk import Layer

SAMPLES = 512
"""Samples that the check is meant for (our default)."""


def normalised_init_(
    module: nn.Module,
    example: Tensor,
    *,
    beta: float = 0.0,
    zero_head: bool = True,
    gain: float = 1.0,
    seed: int = 0,
    head: str = "",
) -> list[LayerRow]:
    """Draw every linear map and convolution of a net anew, in place, and report each of them.

    The net is run on the example before, during and after, in the mode that it is in: in training
    mode batch norm normalises, in evaluation mode it lets pass. Buffers, modes and the global
    random numbers are as before. Norms, embeddings and positions keep their values.

    Args:
        module: Any torch model that takes one tensor.
        example: Real samples as the net takes them, float, about 512 of them.
        beta: Share of the biases in the mean square, 0 to below 1; a layer without a bias has none.
        zero_head: Whether the last layer is set to zero in place of drawn.
        gain: Factor on the deviation of all weights that are drawn; 1 is the rule.
        seed: Seed of the draw; each layer has a door of its own.
        head: Name of the last layer, read with ``zero_head``; empty finds it.

    Returns:
        One row for each layer in the order of the calls, then one for each weight that was left as
        it is, with the reason.

    Raises:
        ParameterError: ``beta`` or ``gain`` is out of range.
        DataError: The example is empty or no float tensor.
        HeadNotFoundError: ``zero_head`` is asked for and there is no plain last layer.
        TrainingError: A layer is fed only zeros, NaN or infinite numbers.
    """
    _check(example, beta, gain)
    last = find_head(module, head).name if zero_head else None
    drawing = _Drawing(beta, seed, None if last is None else f"{last}.weight".lstrip("."))
    walk = MomentWalk(module, drawing)
    placed = example.to(next(module.parameters()).device)
    with undisturbed(module, seed):
        before = mean_squares(module, placed)
        with walk:
            walk.begin(placed)
            module(placed)
        if gain != 1:
            _scale(walk.layers, gain)
        after = mean_squares(module, placed)
    return rows_of(module, walk, drawing.drawn, (before, after))


class _Drawing:
    """Writes the weights of one layer after the other, and notes with what deviation."""

    def __init__(self, beta: float, seed: int, zero: str | None) -> None:
        self.beta, self.seed, self.zero = beta, seed, zero
        self.drawn: dict[str, tuple[float, float]] = {}

    @torch.no_grad()
    def __call__(self, layer: Layer) -> None:
        """Draw weights and bias, on the CPU whatever the device.

        Args:
            layer: As it was met.

        Raises:
            TrainingError: It is fed only zeros.
        """
        share = self.beta if layer.bias is not None else 0.0
        if layer.name == self.zero:
            deviation = share = 0.0
        elif layer.moment * layer.fan_in <= 0:
            raise TrainingError(
                f"normalised_init_: {layer.name} is fed only zeros by {layer.feeding.said}; give "
                "samples that reach it"
            )
        else:
            deviation = math.sqrt((1 - share) / (layer.fan_in * layer.moment))
        self._write(layer.weight, f"{layer.name}", deviation)
        if layer.bias is not None:
            self._write(layer.bias, f"{layer.name}.bias", math.sqrt(share))
        self.drawn[layer.name] = (deviation, share)

    def _write(self, target: Tensor, door: str, deviation: float) -> None:
        generator = generator_of(self.seed, f"last_layer_probe.init.{door}")
        fresh = torch.randn(target.shape, generator=generator) * deviation
        target.copy_(fresh)


@torch.no_grad()
def _scale(layers: dict[str, Layer], gain: float) -> None:
    for layer in layers.values():
        layer.weight.mul_(gain)


def _check(example: Tensor, beta: float, gain: float) -> None:
    if not 0 <= beta < 1:
        raise ParameterError(f"last_layer_probe.init.beta: got {beta}, expected 0 to below 1")
    if not (gain > 0 and math.isfinite(gain)):
        raise ParameterError(f"last_layer_probe.init.gain: got {gain}, expected above 0")
    if not example.is_floating_point() or example.numel() == 0:
        raise DataError(
            f"normalised_init_: got an example of {example.dtype} and shape "
            f"{tuple(example.shape)}, expected float samples as the net takes them"
        )
