"""Facts of arXiv 2310.07996 and of its official code, as tests.

Source: uvm-neurobotics-lab/reset-it-and-forget-it, commit 3ffc19f; sizes were counted from it.
"""

from __future__ import annotations

import math

import pytest
import torch
from tiny_zap import tiny_config

from relearn.data.randomness import generator_of
from relearn.methods.zap.policy import Policy
from relearn.methods.zap.reset import draw_rows
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.models.heads import find_head

FEATURES = 2304


def net(name: str, *, size: int, channels: int, classes: int) -> torch.nn.Module:
    return build_fresh(Architecture(name, channels, size, classes, {"width": 256}), seed=0)


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def std_of(initialisation: str, rows: int) -> float:
    fresh = draw_rows(
        torch.empty(rows, FEATURES),
        initialisation=initialisation,
        std=1.0,
        generator=generator_of(0, "values"),
    )
    return float(fresh.std())


def test_the_omniglot_net_has_the_papers_size():
    model = net("convnet3", size=28, channels=1, classes=1000)
    assert find_head(model).features == FEATURES
    assert count(model) / 1e6 == pytest.approx(3.49, abs=0.005)
    encoder = count(model) - count(find_head(model).module)
    assert encoder / 1e6 == pytest.approx(1.18, abs=0.005)


@pytest.mark.parametrize(("classes", "millions"), [(64, 2.19), (700, 6.26)])
def test_the_nets_for_84_pixels_have_the_papers_sizes(classes, millions):
    model = net("convnet4", size=84, channels=3, classes=classes)
    assert find_head(model).features == 6400
    assert count(model) / 1e6 == pytest.approx(millions, abs=0.006)


def test_resetting_all_rows_at_once_is_almost_zero_in_the_official_code():
    # a leading axis makes its fan-in rows * features: utils/__init__.py, lobotomize
    assert std_of("joint_fan_in", 1000) == pytest.approx(0.00093, abs=5e-6)
    assert std_of("joint_fan_in", 100) == pytest.approx(0.0030, abs=6e-5)


def test_torchs_own_kaiming_draw_with_a_leading_axis_has_that_scale():
    joined = torch.empty(1, 1000, FEATURES)
    torch.nn.init.kaiming_normal_(joined, generator=generator_of(0, "t"))
    assert float(joined.std()) == pytest.approx(std_of("joint_fan_in", 1000), rel=0.01)


def test_resetting_one_row_has_the_scale_of_kaiming():
    assert std_of("kaiming_normal", 1000) == pytest.approx(0.0295, abs=5e-5)
    assert std_of("joint_fan_in", 1) == pytest.approx(0.0295, rel=0.05)
    assert std_of("joint_fan_in", 1000) * math.sqrt(1000) == pytest.approx(
        std_of("kaiming_normal", 1000), rel=0.01
    )


def test_torchs_default_scale_is_smaller_than_kaimings():
    assert std_of("torch_default", 1000) == pytest.approx(0.0120, abs=5e-5)


def test_the_main_setting_resets_before_every_epoch_but_the_first():
    # iid.py: before epoch e (from 1) if e != 1 and (e - 1) % zap_rate == 0
    for rate in (1, 3, 5):
        policy = Policy(tiny_config(policy__every=rate).policy)
        ours = [done + 1 for done in range(10) if policy.due(done, steps_left=100)]
        assert ours == [e for e in range(1, 11) if e != 1 and (e - 1) % rate == 0]


def test_normalising_each_channel_by_groups_is_instance_norm():
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 8, 5, 5, generator=draw)
    groups, instance = torch.nn.GroupNorm(8, 8), torch.nn.InstanceNorm2d(8, affine=True)
    with torch.no_grad():
        groups.weight.copy_(torch.randn(8, generator=draw))
        groups.bias.copy_(torch.randn(8, generator=draw))
    instance.load_state_dict(groups.state_dict())
    assert torch.allclose(groups(maps), instance(maps), atol=1e-6)
