"""Residual nets with normalisation and ReLU before each convolution, for small images.

References:
    He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, section 4. The
    first convolution is 3x3 with stride 1 and there is no first pool, as is usual for 32 pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from relearn.errors import one_of

_STAGES: dict[int, tuple[int, ...]] = {
    8: (1, 1, 1),
    10: (1, 1, 1, 1),
    14: (2, 2, 2),
    18: (2, 2, 2, 2),
    20: (3, 3, 3),
    26: (4, 4, 4),
    32: (5, 5, 5),
    34: (3, 4, 6, 3),
    44: (7, 7, 7),
    56: (9, 9, 9),
}
"""Depth (layers with weights) to residual blocks in each stage: depth = 2 + 2 * blocks."""


class PreactBlock(nn.Module):
    """x -> shortcut(x) + conv(relu(norm(conv(relu(norm(x)))))).

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Of the first convolution; 2 halves the map.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shape (batch, outputs, height / stride, width / stride)."""
        active = functional.relu(self.norm1(x))
        # a projection sees the normalised input, an identity the raw one (section 4.1)
        kept = x if self.shortcut is None else self.shortcut(active)
        inner = self.conv2(functional.relu(self.norm2(self.conv1(active))))
        total: Tensor = kept + inner
        return total


class PreactResNet(nn.Module):
    """A first convolution, stages of residual blocks, average over the map, one linear layer.

    Args:
        in_channels: Colour channels.
        classes: Number of logits.
        width: Channels of the first stage; doubled from stage to stage.
        depth: One of the depths of ``_STAGES``.

    Raises:
        ParameterError: There is no net of this depth.
    """

    def __init__(self, *, in_channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        if depth not in _STAGES:
            raise one_of("pretrain.model.preact_resnet.depth", str(depth), map(str, _STAGES))
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        stages, inputs = [], width
        for number, blocks in enumerate(_STAGES[depth]):
            outputs = width * 2**number
            stages.append(_stage(inputs, outputs, blocks, stride=1 if number == 0 else 2))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(inputs)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes) of float images (batch, channels, height, width)."""
        maps = functional.relu(self.norm(self.stages(self.stem(images))))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = PreactBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(PreactBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
