import pytest
import torch
from torch import nn

from relearn.data.batches import to_float
from relearn.errors import ParameterError
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.models.normalised import NormalisedNet

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def net():
    return build_fresh(Architecture("preact_resnet", 3, 8, 5, {"width": 4, "depth": 8}), seed=0)


def test_pixels_through_the_normalised_net_give_the_logits_of_normalised_images(net):
    images = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8)
    normalised = NormalisedNet(net.eval(), MEAN, STD)
    torch.testing.assert_close(normalised(images / 255), net(to_float(images, MEAN, STD)))


def test_it_shares_the_parameters_and_keeps_the_normalisation_out_of_the_state(net):
    normalised = NormalisedNet(net, MEAN, STD)
    pairs = zip(normalised.parameters(), net.parameters(), strict=True)
    assert all(a is b for a, b in pairs)
    assert {f"model.{name}" for name in net.state_dict()} == set(normalised.state_dict())


def test_the_gradient_of_the_pixels_is_that_of_the_images_over_the_deviation(net):
    pixels = torch.rand(2, 3, 8, 8, requires_grad=True)
    std = torch.tensor(STD)[:, None, None]
    images = ((pixels.detach() - torch.tensor(MEAN)[:, None, None]) / std).requires_grad_()
    (of_pixels,) = torch.autograd.grad(NormalisedNet(net.eval(), MEAN, STD)(pixels).sum(), pixels)
    (of_images,) = torch.autograd.grad(net(images).sum(), images)
    torch.testing.assert_close(of_pixels, of_images / std)


def test_a_normalisation_that_does_not_fit_is_refused():
    for mean, std in (((), ()), ((0.5,), (0.5, 0.5)), ((0.5,), (0.0,))):
        with pytest.raises(ParameterError, match="one of each for each channel"):
            NormalisedNet(nn.Identity(), mean, std)
    with pytest.raises(ParameterError, match=r"data\.image\.channels: images have 1"):
        NormalisedNet(nn.Identity(), MEAN, STD)(torch.rand(1, 1, 4, 4))
