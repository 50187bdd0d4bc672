import pytest
import torch
from torch import nn

from relearn.errors import ParameterError
from relearn.training.weight_perturbation import WeightPerturbation


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5))


@pytest.fixture
def loss(net):
    images, labels = torch.rand(8, 3, 6, 6), torch.arange(8) % 5
    return lambda: nn.functional.cross_entropy(net.eval()(images), labels)


def weights_of(net):
    return {name: value.detach().clone() for name, value in net.named_parameters()}


def test_each_weight_tensor_moves_along_its_gradient_by_gamma_of_its_length(net, loss):
    before = weights_of(net)
    loss().backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    WeightPerturbation(0.03).perturb(net, loss)
    for name, value in net.named_parameters():
        moved = value.detach() - before[name]
        if value.ndim == 1:
            assert not moved.any()
            continue
        torch.testing.assert_close(moved.norm() / before[name].norm(), torch.tensor(0.03))
        cosine = nn.functional.cosine_similarity(moved.flatten(), gradients[name].flatten(), dim=0)
        assert cosine > 0.9999
        assert value.grad is None


def test_the_loss_is_larger_there_and_smaller_the_other_way(net, loss):
    here = loss().item()
    weights = WeightPerturbation(0.01)
    weights.perturb(net, loss)
    assert loss().item() > here
    weights.restore()
    weights.perturb(net, lambda: -loss())
    assert loss().item() < here


def test_restored_weights_are_bit_for_bit_those_of_before(net, loss):
    before, weights = weights_of(net), WeightPerturbation(0.5)
    addresses = [p.data_ptr() for p in net.parameters()]
    for _ in range(3):
        weights.perturb(net, loss)
        assert weights.active
        weights.restore()
        weights.restore()
        assert not weights.active
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())
    assert addresses == [p.data_ptr() for p in net.parameters()]


def test_frozen_weights_and_weights_without_a_gradient_stay(net, loss):
    net[0].requires_grad_(False)
    nn.init.zeros_(net[3].weight)
    before = weights_of(net)
    WeightPerturbation(0.1).perturb(net, lambda: loss() * 0)
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())


def test_moving_twice_without_going_back_is_refused(net, loss):
    weights = WeightPerturbation(0.1)
    weights.perturb(net, loss)
    with pytest.raises(RuntimeError, match="restore them first"):
        weights.perturb(net, loss)


def test_unusable_numbers_name_the_parameter():
    with pytest.raises(ParameterError, match=r"^forget_relearn\.awp\.gamma: got 0"):
        WeightPerturbation(0)
    with pytest.raises(ParameterError, match=r"^forget_relearn\.awp\.warmup_epochs: got -1"):
        WeightPerturbation(0.1, from_epoch=-1)
