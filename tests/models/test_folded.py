"""The net itself, through torch's own backward pass, is the other road."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from relearn.data.ball import Ball
from relearn.evaluation.attacks import scoring
from relearn.evaluation.attacks.ensemble import auto_attack
from relearn.models.architectures import Architecture, build_fresh
from relearn.models.folded import FoldedNet, folded
from relearn.models.normalised import NormalisedNet

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.3, 0.25)


def lived_in(size: int, channels: int = 1, width: int = 8) -> NormalisedNet:
    """Return a net in evaluation mode whose norms have statistics, gains and biases."""
    model = build_fresh(Architecture("convnet5", channels, size, 10, {"width": width}), seed=0)
    draw = torch.Generator().manual_seed(0)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=draw)
        nn.init.uniform_(norm.bias, -0.5, 0.5, generator=draw)
    net = NormalisedNet(model, MEAN[:channels], STD[:channels])
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.rand(32, channels, size, size, generator=draw))
    return net.eval()


def logits_and_gradient(net: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    points = pixels.clone().requires_grad_()
    logits = net(points)
    losses = nn.functional.cross_entropy(logits, torch.arange(len(pixels)) % 10, reduction="none")
    return logits.detach(), torch.autograd.grad(losses.sum(), points)[0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "channels", "width"), [(8, 1, 16), (9, 3, 4), (28, 1, 4)])
def test_a_folded_net_has_the_logits_and_the_gradient_of_the_net(
    size: int, channels: int, width: int, layout: torch.memory_format
) -> None:
    net = lived_in(size, channels, width).to(memory_format=layout)
    quick = folded(net)
    assert isinstance(quick, FoldedNet)
    for images in (1, 7):
        pixels = torch.rand(images, channels, size, size)
        found, expected = logits_and_gradient(quick, pixels), logits_and_gradient(net, pixels)
        for own, theirs in zip(found, expected, strict=True):
            assert own.shape == theirs.shape
            torch.testing.assert_close(own, theirs, rtol=1e-4, atol=2e-6)


def test_images_of_another_size_find_their_own_matrices() -> None:
    net = lived_in(8)
    quick = folded(net)
    for size in (8, 10, 8):
        pixels = torch.rand(3, 1, size, size)
        torch.testing.assert_close(quick(pixels), net(pixels), rtol=1e-4, atol=2e-6)


def test_a_folded_net_keeps_the_weights_of_its_moment() -> None:
    net = lived_in(8)
    pixels = torch.rand(3, 1, 8, 8)
    quick, before = folded(net), net(pixels).detach()
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.model.buffers()):
            tensor.add_(1)
    torch.testing.assert_close(quick(pixels), before, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(folded(net)(pixels), net(pixels), rtol=1e-4, atol=2e-6)


def test_nets_that_cannot_be_folded_come_back_as_they_are() -> None:
    training = lived_in(8).train()
    other = NormalisedNet(
        build_fresh(Architecture("convnet3", 1, 28, 10, {"width": 4}), seed=0), (0.5,), (0.5,)
    )
    without_pixels, doubled = lived_in(8).model, lived_in(8).double()
    for net in (training, other.eval(), without_pixels, doubled):
        assert folded(net) is net


@pytest.mark.parametrize(("name", "attack"), auto_attack("standard", 10).members)
def test_every_attack_leaves_the_same_images_on_the_folded_net_as_on_the_net(
    name: str, attack: scoring.Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = lived_in(8)
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 1, 8, 8), generator=draw, dtype=torch.uint8)
    labels = scoring.clean_logits(net, images).argmax(1)

    def left() -> Tensor:
        ball = Ball("linf", 0.03)
        return scoring.robust_mask(net, images, labels, attack=attack, ball=ball, seed=0)

    quick = left()
    monkeypatch.setattr(scoring, "folded", lambda same: same)
    assert torch.equal(quick, left()), name
    assert 0 < int(quick.sum()) < len(images)
