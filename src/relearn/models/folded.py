"""A net that holds still, as an attack asks it: the same logits, and the gradient of the pixels.

An attack asks one net hundreds of times while no weight moves. For convnet5 in evaluation mode the
norms are folded into the convolutions once, convolutions on few numbers become one matrix product,
and the backward pass is written out by hand: it keeps no graph and multiplies for the pixels alone.
Logits and gradients are those of the net up to rounding. What it saves: the rows
``adversarial.judging_*`` of ``benchmarks/bench_adversarial.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from relearn.models.convnet import ConvBlock, ConvNet5
from relearn.models.normalised import NormalisedNet

_FEW = 256
"""Numbers that come into a convolution of one image, up to which a matrix is the faster form."""


def folded(net: nn.Module) -> nn.Module:
    """Return a net with the same logits that is faster to attack, or the net itself.

    The weights are those of the moment: fold again after they have moved.

    Args:
        net: Pixels to logits. A ``NormalisedNet`` around a ``ConvNet5`` in evaluation mode, with
            fp32 weights on the CPU, is folded; every other net comes back as it is.

    Returns:
        A net that has no parameters and gives gradients of its input alone, once each; or ``net``.
    """
    if not isinstance(net, NormalisedNet) or type(net.model) is not ConvNet5:
        return net
    still = not any(module.training for module in net.modules())
    plain = all(p.dtype == torch.float32 and p.device.type == "cpu" for p in net.parameters())
    return FoldedNet(net, net.model) if still and plain else net


class FoldedNet(nn.Module):
    """Five convolutions with bias and ReLU, their average, one linear layer; see ``folded``.

    Args:
        net: Its mean and deviation are taken.
        model: Its weights are taken; nothing is shared that training could move.
    """

    def __init__(self, net: NormalisedNet, model: ConvNet5) -> None:
        super().__init__()
        self.scale, self.offset = net.scale, net.offset
        blocks = [block for block in model.blocks if isinstance(block, ConvBlock)]
        with torch.no_grad():
            self.layers = [_Layer.of(block) for block in blocks]
            self.weight, self.bias = (p.detach().clone() for p in model.head.parameters())

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, shape (batch, classes).

        Args:
            pixels: Range 0..1, fp32, shape (batch, channels, height, width).
        """
        logits: Tensor = _ByHand.apply(pixels, self)
        return logits


class _ByHand(torch.autograd.Function):
    """The passes of a ``FoldedNet``, forward and back."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, net: FoldedNet) -> Tensor:
        maps = [torch.addcmul(net.offset, pixels, net.scale)]
        for layer in net.layers:
            maps.append(layer.forward(maps[-1]))
        ctx.net = net
        ctx.save_for_backward(*maps)
        return functional.linear(maps[-1].mean((2, 3)), net.weight, net.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        net, maps = ctx.net, ctx.saved_tensors
        pooled = gradients[0] @ net.weight / maps[-1][0, 0].numel()
        gradient = pooled[:, :, None, None].expand_as(maps[-1])
        for layer, taken, given in zip(net.layers[::-1], maps[-2::-1], maps[:0:-1], strict=True):
            through = torch.ops.aten.threshold_backward(gradient, given, 0)  # of the ReLU
            gradient = layer.backward(through, taken)
        return gradient * net.scale, None


@dataclass
class _Layer:
    """relu(convolution(x) + bias), with the norm inside both.

    w' = w * gamma / sqrt(variance + eps) and b' = beta - mean * gamma / sqrt(variance + eps), for
    each channel that goes out.
    """

    weight: Tensor
    bias: Tensor
    stride: int
    matrix: Tensor | None = None
    side: int = 0

    @classmethod
    def of(cls, block: ConvBlock) -> _Layer:
        """Return the layer of a block whose norm uses its running statistics."""
        norm, convolution = block.norm, block.convolution
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            raise ValueError("folded: the norm keeps no running statistics")
        gain = norm.weight / (variance + norm.eps).sqrt()
        weight = convolution.weight * gain.view(-1, 1, 1, 1)
        layout = torch.channels_last
        bias = norm.bias - mean * gain
        return cls(weight.contiguous(memory_format=layout), bias, convolution.stride[0])

    def forward(self, maps: Tensor) -> Tensor:
        """Return what goes out, channels last."""
        matrix = self._matrix_for(maps)
        if matrix is None or matrix.shape[1] > matrix.shape[0]:  # a convolution is no slower there
            found = torch.conv2d(maps, self.weight, self.bias, self.stride, 1)
        else:
            found = _images(_rows(maps) @ matrix, len(self.bias)).add_(self.bias.view(-1, 1, 1))
        return found.relu_()

    def backward(self, gradient: Tensor, maps: Tensor) -> Tensor:
        """Return the gradient of ``maps`` from that of the convolution's output."""
        matrix = self._matrix_for(maps)
        if matrix is not None:
            return _images(_rows(gradient) @ matrix.T, maps.shape[1])
        return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
            *(gradient, maps, self.weight, None, [self.stride] * 2, [1, 1], [1, 1]),
            *(False, [0, 0], 1, [True, False, False]),
        )[0]

    def _matrix_for(self, maps: Tensor) -> Tensor | None:
        """Return the convolution as a matrix from numbers in to numbers out, where they are few."""
        _, channels, side, width = maps.shape
        numbers = channels * side * width
        if numbers > _FEW or side != width:
            return None
        if self.matrix is None or self.side != side:
            each = _images(torch.eye(numbers), channels)  # one image for each number that comes in
            self.matrix = _rows(torch.conv2d(each, self.weight, None, self.stride, 1)).contiguous()
            self.side = side
        return self.matrix


def _rows(maps: Tensor) -> Tensor:
    """Return one row an image, channels innermost; no copy where the maps lie so."""
    return maps.permute(0, 2, 3, 1).flatten(1)


def _images(rows: Tensor, channels: int) -> Tensor:
    """Return square maps from rows, channels last."""
    side = round((rows.shape[1] // channels) ** 0.5)
    return rows.view(len(rows), side, side, channels).permute(0, 3, 1, 2)
