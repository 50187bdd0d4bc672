"""Numbers that could be seen, of the net that the forgetting paper trains on CIFAR-10.

Paper: arXiv 2402.11733. It publishes no code, and its settings (share, layers, length) could not be
read, so that nothing here is called the paper's value but the net: a pre-activation ResNet-18.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from relearn.methods.forget_relearn.consolidate import decay_of
from relearn.models.architectures import Architecture, build_fresh
from relearn.models.layer_groups import choose_layers, units_of

if TYPE_CHECKING:
    from torch import nn

PARAMETERS = 11_172_170  # pre-activation ResNet-18, 3 channels, 10 classes, counted by hand
SHARES = {"stem": 0.0002, "stages.0": 0.013, "stages.1": 0.047, "stages.2": 0.188}
SHARES |= {"stages.3": 0.751, "head": 0.0005}


@cache
def net() -> nn.Module:
    options = {"width": 64, "depth": 18}
    return build_fresh(
        Architecture("preact_resnet", 3, 32, 10, options, (0.5,) * 3, (0.25,) * 3), seed=0
    )


def numbers_in(name: str) -> int:
    return sum(p.numel() for p in net().get_submodule(name).parameters())


def test_the_net_has_the_paper_s_number_of_parameters():
    assert sum(p.numel() for p in net().parameters()) == PARAMETERS


@pytest.mark.parametrize(("part", "share"), SHARES.items())
def test_the_stages_hold_their_shares_of_the_parameters(part, share):
    assert numbers_in(part) / PARAMETERS == pytest.approx(share, abs=0.0006)


def test_the_later_layers_are_the_third_and_fourth_stage():
    late = {unit.name for unit in units_of(net()) if unit.group == "late"}
    assert late == {"stages.2.0", "stages.2.1", "stages.3.0", "stages.3.1"}


def test_a_twentieth_of_the_later_layers_is_about_half_a_million_weights():
    named = dict(net().named_parameters())
    taken = sum(round(0.05 * named[name].numel()) for name in choose_layers(net(), "late")["late"])
    whole = 0.05 * (numbers_in("stages.2") + numbers_in("stages.3"))
    assert whole == pytest.approx(525_000, abs=500)
    assert 0 < whole - taken < 500  # batch norm, which is never forgotten


def test_two_epochs_of_memory_are_the_usual_decay_at_the_size_of_cifar_10():
    # 50 000 images in batches of 128: 391 steps an epoch
    assert decay_of(2.0, 391) == pytest.approx(0.999, abs=0.0005)
