"""A small vision transformer with pre-normalisation and, as an option, a convolutional stem.

References:
    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 3.1, for the net;
    Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021, for the stem. We
    differ in its normalisation: GroupNorm has no running statistics that a later task could drift,
    and the batch norm of the pooled stem rests once its weights are frozen.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from relearn.errors import ParameterError


class Attention(nn.Module):
    """Multi-head self-attention over tokens.

    Args:
        width: Size of a token.
        heads: Number of heads; divides ``width``.
        dropout: Share of attention weights dropped while training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape (batch, tokens, width)."""
        batch, count, width = tokens.shape
        split = self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        joined: Tensor = self.projection(mixed.transpose(1, 2).reshape(batch, count, width))
        return joined


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)).

    Args:
        width: Size of a token.
        heads: Attention heads.
        hidden: Hidden units of the perceptron.
        dropout: Share of units dropped while training.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(dropout)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape (batch, tokens, width)."""
        tokens = tokens + self.attention(self.norm1(tokens))
        summed: Tensor = tokens + self.perceptron(self.norm2(tokens))
        return summed


class VisionTransformer(nn.Module):
    """Patches to tokens, a class token, learnt positions, blocks, one linear layer.

    Args:
        in_channels: Colour channels.
        image_size: Height = width in pixels, a multiple of ``patch_size``.
        classes: Number of logits.
        patch_size: Pixels along a patch.
        width: Size of a token, a multiple of ``heads``.
        depth: Number of blocks.
        heads: Attention heads.
        mlp_ratio: Hidden units of a block's perceptron over ``width``.
        stem: ``patch``, ``convolution`` or ``pooled``.
        dropout: Share of units dropped while training.

    Raises:
        ParameterError: The image does not divide into patches, or is too small for the stem.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        in_channels: int,
        image_size: int,
        classes: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        stem: str,
        dropout: float,
    ) -> None:
        super().__init__()
        side = _side_of(image_size, patch_size, stem)
        self.stem = _STEMS[stem](in_channels, width, patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        tokens = side**2 + 1
        self.positions = nn.Parameter(torch.empty(1, tokens, width))
        self.drop = nn.Dropout(dropout)
        hidden = round(mlp_ratio * width)
        self.blocks = nn.Sequential(*(Block(width, heads, hidden, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes) of float images (batch, channels, height, width)."""
        patches = self.stem(images).flatten(2).transpose(1, 2)
        first = self.class_token.expand(patches.shape[0], -1, -1)
        tokens = self.drop(torch.cat([first, patches], 1) + self.positions)
        logits: Tensor = self.head(self.norm(self.blocks(tokens)[:, 0]))
        return logits

    def _initialise(self) -> None:
        """Draw linear weights and positions with deviation 0.02 and set linear biases to 0."""
        nn.init.trunc_normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)


class StemNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics rest while its weights are frozen.

    A net that is frozen but for what was added to it thus computes the same whatever is learnt.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return normalised maps of the same shape (batch, channels, height, width)."""
        if self.weight.requires_grad:
            return super().forward(maps)
        return functional.batch_norm(
            maps, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def _side_of(image_size: int, patch_size: int, stem: str) -> int:
    """Return the tokens along a side; each block of the pooled stem takes n to (n - 2) // 2."""
    name = f"pretrain.model.vision_transformer.patch_size: {patch_size}"
    if stem != "pooled":
        if image_size % patch_size:
            raise ParameterError(
                f"{name} does not divide the image of {image_size} pixels (data.image.size)"
            )
        return image_size // patch_size
    side = image_size
    for _ in range(round(math.log2(patch_size))):
        side = (side - 2) // 2
    if side < 1:
        raise ParameterError(
            f"{name} is too much for stem: pooled and images of {image_size} pixels "
            "(data.image.size): no pixel is left; halve it, or take larger images"
        )
    return side


def _patch_stem(in_channels: int, width: int, patch_size: int) -> nn.Module:
    return nn.Conv2d(in_channels, width, patch_size, stride=patch_size)


def _convolution_stem(in_channels: int, width: int, patch_size: int) -> nn.Module:
    halvings = round(math.log2(patch_size))
    layers: list[nn.Module] = []
    inputs = in_channels
    for number in range(halvings):
        outputs = max(1, width // 2 ** (halvings - 1 - number))
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        layers += [convolution, nn.GroupNorm(1, outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.Conv2d(inputs, width, 1))


def _pooled_stem(in_channels: int, width: int, patch_size: int) -> nn.Module:
    """Return 3x3 convolutions without a border, normalised and max-pooled; inner ones are narrow.

    With batch norm a net of four blocks learns from the first hundred steps on; with GroupNorm it
    needs several times as many.
    """
    blocks = round(math.log2(patch_size))
    channels = [in_channels, *[max(1, width // 3)] * (blocks - 1), width]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        convolution = nn.Conv2d(inputs, outputs, 3, bias=False)
        layers += [convolution, StemNorm(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


_STEMS = {"patch": _patch_stem, "convolution": _convolution_stem, "pooled": _pooled_stem}
