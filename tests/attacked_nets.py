"""Small nets to attack: one trained on 8x8 digits, and linear ones whose robustness is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from relearn.data.ball import Ball
from relearn.models.normalised import NormalisedNet


@dataclass(frozen=True)
class Attacked:
    """A net and samples to attack."""

    model: NormalisedNet
    images: Tensor
    labels: Tensor

    @property
    def pixels(self) -> Tensor:
        return self.images.float() / 255


def trained_on_digits() -> Attacked:
    """Return a small convnet trained on scikit-learn's digits, and 120 test images."""
    raw = load_digits()
    images = torch.from_numpy(raw.images * 15).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(raw.target).long()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(labels), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()),
            nn.Linear(512, 10),
        )
    model = NormalisedNet(net, [0.3], [0.35])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(6):
        for rows in order[:1200].split(100):
            noise = torch.rand(len(rows), 1, 8, 8, generator=generator) * 0.2 - 0.1
            pixels = (images[rows].float() / 255 + noise * (epoch > 0)).clamp(0, 1)
            loss = nn.functional.cross_entropy(model(pixels), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    optimizer.zero_grad()
    held = order[1200:1320]
    return Attacked(model.eval(), images[held], labels[held])


def linear(classes: int, seed: int = 0) -> Attacked:
    """Return a random linear net and 200 images far from black and white, labelled by it."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, classes))
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(classes, 36, generator=generator))
        net[1].bias.copy_(0.3 * torch.randn(classes, generator=generator))
    model = NormalisedNet(net, [0.5], [0.5])
    images = torch.randint(90, 166, (200, 1, 6, 6), generator=generator).to(torch.uint8)
    with torch.no_grad():
        labels = model(images.float() / 255).argmax(1)
    return Attacked(model, images, labels)


def linear_distances(attacked: Attacked, norm: str) -> Tensor:
    """Return the smallest perturbation that fools the linear net, shape (n,), by its formula.

    min_t (z_y - z_t) / ||w_y - w_t||, with the dual norm and the weights in units of pixels.
    """
    layer = attacked.model.model[1]
    weight = layer.weight.detach().double() / 0.5
    with torch.no_grad():
        logits = attacked.model(attacked.pixels).double()
    apart = weight[attacked.labels].unsqueeze(1) - weight.unsqueeze(0)
    length = apart.norm(p=1 if norm == "linf" else 2, dim=2)
    gap = logits.gather(1, attacked.labels.unsqueeze(1)) - logits
    return (gap / length).masked_fill(length == 0, torch.inf).amin(1)


def middling_ball(attacked: Attacked, norm: str) -> Ball:
    """Return the ball in which half of the linear net's samples are robust."""
    return Ball(norm, float(linear_distances(attacked, norm).median()) * 1.0001)
