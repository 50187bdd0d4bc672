"""Which matrices are found in which nets, and which nets are refused."""

from __future__ import annotations

import pytest
import timm
import torch
from tiny_lora import tiny_adapters, tiny_vit
from torch import nn

from relearn.errors import ParameterError
from relearn.methods.lora_ipc.adapters import Adapters
from relearn.methods.lora_ipc.attachment import Settings
from relearn.methods.lora_ipc.matrices import KINDS, find_matrices
from relearn.models.architectures import Architecture, build_fresh

SMALL = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2}


def test_our_own_net_has_six_matrices_a_block():
    places = find_matrices(tiny_vit())
    assert [p.name for p in places[:6]] == [f"0.{kind}" for kind in KINDS]
    assert len(places) == 12
    assert [p.rows for p in places[:3]] == [(0, 16), (16, 32), (32, 48)]
    assert (places[4].in_features, places[4].out_features) == (16, 32)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", SMALL),
        ("deit3_small_patch16_224", SMALL),
        ("eva02_tiny_patch14_224", {**SMALL, "patch_size": 16}),
        ("beit_base_patch16_224", SMALL),
    ],
)
def test_nets_of_timm_learn_through_every_matrix_that_was_found(name, options):
    net = timm.create_model(name, num_classes=4, **options).eval()
    try:
        kinds = tuple(p.kind for p in find_matrices(net) if p.block == 0)
    except ParameterError:  # a gated perceptron has no plain fc1
        kinds = ("q", "k", "v", "o")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = net(x).detach()
    adapters = Adapters(net, Settings(kinds, rank=2, planned_tasks=2))
    assert len(adapters.matrices) == 2 * len(kinds)
    adapters.begin_task([0, 1], seed=0)
    assert torch.equal(net(x).detach(), plain)
    net(x).square().sum().backward()
    without = [n for n, m in adapters.matrices.items() if m.b.grad is None or not m.b.grad.any()]
    assert not without


def test_matrices_are_found_in_the_thirds_of_a_fused_layer():
    adapters = tiny_adapters(kinds=("k",))
    adapters.begin_task([0, 1], seed=0)
    with torch.no_grad():
        for matrix in adapters.matrices.values():
            matrix.b.add_(1)
    layer = adapters.layers[0]
    changed = (layer.weight != layer.base_weight).any(1)
    assert changed.tolist() == [False] * 16 + [True] * 16 + [False] * 16


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        (("q", "fc3"), r"lora_ipc.lora.kinds: 'fc3' is not known, did you mean fc2"),
        ((), "got none"),
    ],
)
def test_unknown_kinds_are_refused(kinds, says):
    with pytest.raises(ParameterError, match=says):
        find_matrices(tiny_vit(), kinds)


def test_a_net_without_attention_is_refused():
    net = build_fresh(Architecture("mlp", 1, 8, 3, {"width": 4, "depth": 1}), seed=0)
    with pytest.raises(ParameterError, match=r"Mlp has no attention"):
        find_matrices(net)


def test_a_block_without_a_plain_perceptron_is_refused_for_its_matrices():
    net = tiny_vit()
    net.get_submodule("blocks.1").perceptron = nn.Identity()
    with pytest.raises(ParameterError, match=r"block 1 .* no linear layer for fc1, fc2"):
        find_matrices(net)
    assert len(find_matrices(net, ("q", "o"))) == 4


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rank": 5}, r"4 planned tasks of rank 5 need 20 .* d_in = 16; use a rank of at most 4"),
        ({"planned_tasks": 9}, "9 planned tasks of rank 2 need 18"),
        ({"rank": 0}, "lora.rank: got 0"),
        ({"planned_tasks": 0}, "tasks.planned: got 0"),
        ({"initialisation": "zero"}, "lora.initialisation: got 'zero'"),
    ],
)
def test_settings_without_room_are_refused_before_anything_changes(changes, says):
    with pytest.raises(ParameterError, match=says):
        tiny_adapters(**changes)


def test_a_net_that_has_modules_already_is_refused():
    adapters = tiny_adapters()
    with pytest.raises(ParameterError, match="no attention"):
        Adapters(adapters.model, adapters.settings)
