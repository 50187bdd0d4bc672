"""Small random networks for the tests of growing, with statistics that a forgotten copy betrays."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE = 8
BLOCKS = ("conv", "strided", "depthwise", "grouped", "norm", "group_norm", "relu", "gelu", "silu")
BLOCKS += ("pool", "add", "branch", "cat", "squeeze", "channel_layer_norm", "scale", "shuffle_two")
HEADS = ("flatten", "mean", "layer_norm")


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels + 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels + 2)
        self.outer = nn.Conv2d(channels + 2, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(torch.relu(self.norm(self.inner(x))))


class Projected(nn.Module):
    """f(x) + g(x), both convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.other = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


class Beside(nn.Module):
    """x and f(x) side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.relu(x), self.layer(x)], 1)


class SqueezeExcite(nn.Module):
    """x times a gate for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, 2, 1)
        self.up = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class ChannelLayerNorm(nn.Module):
    """Layer norm over the channels of each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scale(nn.Module):
    """A bare parameter for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Shuffle(nn.Module):
    """Channels in another order."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        if channels % 2:
            return x
        mixed = x.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return mixed.reshape(batch, channels, height, width)


class TiedWords(nn.Module):
    """An embedding whose table reads as well."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.hidden = nn.Linear(4, 5)
        self.back = nn.Linear(5, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.back(torch.relu(self.hidden(self.words(x)))))


def block_of(name: str, channels: int) -> tuple[nn.Module, int]:
    """Return a block and its number of channels."""
    if name == "cat":
        return Beside(channels), 2 * channels + 3
    if name in {"conv", "strided"}:
        stride = 2 if name == "strided" else 1
        return nn.Conv2d(channels, channels + 1, 3, stride, padding=1), channels + 1
    made = {
        "depthwise": lambda: nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        "grouped": lambda: nn.Conv2d(channels, channels, 1, groups=2 - channels % 2),
        "norm": lambda: nn.BatchNorm2d(channels),
        "group_norm": lambda: nn.GroupNorm(2 - channels % 2, channels),
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "silu": lambda: nn.SiLU(inplace=True),
        "pool": lambda: nn.AvgPool2d(3, 1, 1),
        "add": lambda: Residual(channels),
        "branch": lambda: Projected(channels),
        "squeeze": lambda: SqueezeExcite(channels),
        "channel_layer_norm": lambda: ChannelLayerNorm(channels),
        "scale": lambda: Scale(channels),
        "shuffle_two": Shuffle,
    }
    return made[name](), channels


def random_net(names: list[str], head: str, *, seed: int, width: int = 4) -> nn.Module:
    """Return a network of blocks with random statistics, float64, in evaluation mode."""
    torch.manual_seed(seed)
    blocks: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    channels, size = width, SIZE
    for name in names:
        block, channels = block_of(name, channels)
        size = -(-size // 2) if name == "strided" else size
        blocks.append(block)
    if head == "flatten":
        blocks += [nn.MaxPool2d(2, 2, ceil_mode=True), nn.Flatten()]
        size = -(-size // 2)
        channels *= size * size
    else:
        blocks += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        blocks += [nn.LayerNorm(channels)] if head == "layer_norm" else []
    blocks += [nn.Linear(channels, 6), nn.GELU(), nn.Linear(6, 3)]
    return randomised(nn.Sequential(*blocks), seed=seed).double().eval()


def randomised(net: nn.Module, *, seed: int) -> nn.Module:
    """Give every norm statistics, gain and shift that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            mean, variance = (getattr(module, f"running_{n}", None) for n in ("mean", "var"))
            if isinstance(mean, Tensor) and isinstance(variance, Tensor):
                mean.copy_(torch.randn(mean.shape, generator=generator) * 0.3)
                variance.copy_(torch.rand(variance.shape, generator=generator) + 0.5)
            for name in ("weight", "bias"):
                tensor = getattr(module, name, None)
                if isinstance(tensor, Tensor) and tensor.ndim == 1:
                    drawn = torch.rand(tensor.shape, generator=generator)
                    tensor.copy_(drawn + 0.5 if name == "weight" else drawn - 0.5)
    return net


def images(seed: int = 0, count: int = 2) -> Tensor:
    """Return inputs for ``random_net``, float64, shape (count, 3, 8, 8)."""
    return torch.randn(
        count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def off(teacher: nn.Module, student: nn.Module, inputs: Tensor) -> float:
    """Return the largest difference, relative to the teacher's largest output."""
    with torch.no_grad():
        one, other = teacher(inputs), student(inputs)
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-300))


def classifier(*, seed: int = 0, width: int = 6) -> nn.Module:
    """Return a small convolutional classifier, float32, in evaluation mode."""
    names = ["norm", "relu", "add", "strided", "norm", "relu", "pool"]
    return random_net(names, "flatten", seed=seed, width=width).float()
