"""Small nets and images for the laws of bodies, features and trainings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.methods.last_layer_probe.bodies import Body, body_of
from relearn.models.architectures import Architecture, build_fresh

OPTIONS = {
    "mlp": {"width": 24, "depth": 2},
    "convnet3": {"width": 6},
    "convnet5": {"width": 4},
    "preact_resnet": {"width": 4, "depth": 8},
    "vision_transformer": {
        **{"patch_size": 8, "width": 12, "depth": 2, "heads": 2, "mlp_ratio": 2.0},
        **{"stem": "patch", "dropout": 0.1},
    },
}
SIZES = {"convnet3": 24, "vision_transformer": 16}


def tiny_architecture(name: str = "convnet5", classes: int = 3) -> Architecture:
    """Return a small net of ours on small grey images."""
    size = SIZES.get(name, 8)
    return Architecture(name, 1, size, classes, OPTIONS[name], (0.4,), (0.3,))


def tiny_body(name: str = "convnet5", seed: int = 0) -> Body:
    """Return a small body with fresh weights."""
    architecture = tiny_architecture(name)
    return body_of(build_fresh(architecture, seed=seed), architecture)


def tiny_images(count: int = 9, size: int = 8) -> Tensor:
    """Return uint8 images of noise."""
    shape = (count, 1, size, size)
    return torch.randint(256, shape, generator=generator_of(0, "images"), dtype=torch.uint8)


def images_for(name: str, count: int = 9) -> Tensor:
    """Return images of the size that a net takes."""
    return tiny_images(count, SIZES.get(name, 8))


def separable(count: int, seed: int, classes: int = 3) -> Split:
    """Return images whose class is the third of the image that is bright, under noise."""
    door = generator_of(seed, "separable")
    labels = torch.arange(count) % classes
    images = torch.randint(0, 160, (count, 1, 8, 8), generator=door)
    for row, label in enumerate(labels.tolist()):
        images[row, :, :, 2 * label : 2 * label + 3] += 60
    return Split(images.to(torch.uint8), labels)


class Headless(nn.Module):
    """A body that ends in its features."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 5, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (batch, 5)."""
        features: Tensor = self.inner(images.flatten(1))
        return features
