"""The quick pool against torch's own: values, gradients, second derivatives, stacks of nets."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad, vmap
from torch.nn.functional import max_pool2d

from relearn.models import pooling
from relearn.models.pooling import HalvingPool


@pytest.fixture
def quick(monkeypatch):
    """The road that finds indices by comparison, for maps of any size."""
    monkeypatch.setattr(pooling, "_FROM_NUMBERS", 0)
    return HalvingPool()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("side", [(6, 8), (7, 9), (2, 3), (26, 26)])
def test_values_and_gradients_equal_those_of_torch_bit_for_bit(quick, dtype, side):
    maps = torch.randn(3, 4, *side, generator=torch.Generator().manual_seed(0))
    # coarse steps, so that many of the four numbers are equal and the choice among them shows
    maps = (maps * 2).round().div(2).to(dtype).requires_grad_()
    ours, theirs = quick(maps), max_pool2d(maps, 2)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    found, expected = (torch.autograd.grad(y, maps, weight)[0] for y in (ours, theirs))
    assert torch.equal(ours, theirs)
    assert torch.equal(found, expected)


def test_values_without_gradient_equal_those_of_torch():
    maps = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(HalvingPool()(maps), max_pool2d(maps, 2))


def test_gradients_of_gradients_are_right(quick):
    maps = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(quick, maps)
    assert torch.autograd.gradgradcheck(quick, maps)


def test_a_stack_of_nets_has_each_nets_gradient(quick):
    stack = torch.randn(3, 2, 4, 7, 6, generator=torch.Generator().manual_seed(0))

    def gradients(pool):
        return vmap(grad(lambda maps: pool(maps).square().sum()))(stack)

    assert torch.equal(gradients(quick), gradients(lambda maps: max_pool2d(maps, 2)))


def test_a_map_too_wide_for_short_indices_is_pooled_alike(quick):
    maps = torch.randn(1, 1, 2, 1 << 15, generator=torch.Generator().manual_seed(0))
    maps.requires_grad_()
    found, expected = (
        torch.autograd.grad(pool(maps).square().sum(), maps)[0]
        for pool in (quick, lambda x: max_pool2d(x, 2))
    )
    assert torch.equal(found, expected)


def test_channels_last_maps_are_pooled_alike(quick):
    maps = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    assert torch.equal(quick(maps), max_pool2d(maps, 2))
