"""The reset itself: what is drawn, what is left alone, and the head of any net."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from relearn.data.randomness import generator_of
from relearn.errors import HeadNotFoundError, ParameterError
from relearn.methods.zap.reset import clear_moments, draw_rows, reset_last_layer
from relearn.models.heads import find_head

ROWS, FEATURES = 60, 400
DRAWN = {
    "joint_fan_in": math.sqrt(2 / (ROWS * FEATURES)),
    "kaiming_normal": math.sqrt(2 / FEATURES),
    "torch_default": 1 / math.sqrt(3 * FEATURES),
    "normal": 0.037,
}


def drawn(initialisation: str, before: torch.Tensor | None = None, *, door: str = "a"):
    before = torch.ones(ROWS, FEATURES) if before is None else before
    generator = generator_of(0, door)
    return draw_rows(before, initialisation=initialisation, std=0.037, generator=generator)


@pytest.mark.parametrize(("name", "std"), DRAWN.items())
def test_drawn_rows_have_the_standard_deviation_of_their_initialisation(name, std):
    fresh = drawn(name)
    count = fresh.numel()
    assert abs(float(fresh.mean())) < 5 * std / math.sqrt(count)
    assert float(fresh.std()) == pytest.approx(std, rel=5 / math.sqrt(2 * count))


def test_torch_default_is_what_a_fresh_linear_layer_has():
    ours = drawn("torch_default").flatten()
    theirs = nn.Linear(FEATURES, ROWS).weight.detach().flatten()
    assert float(ours.abs().max()) <= 1 / math.sqrt(FEATURES)
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.03)
    quantiles = torch.tensor([0.1, 0.5, 0.9])
    spread = 1 / math.sqrt(FEATURES)
    assert torch.allclose(ours.quantile(quantiles), theirs.quantile(quantiles), atol=0.05 * spread)


def test_joint_fan_in_of_one_row_is_kaiming():
    one = torch.ones(1, FEATURES)
    assert torch.equal(drawn("joint_fan_in", one), drawn("kaiming_normal", one))


def test_zeros_are_zero():
    assert torch.equal(drawn("zeros"), torch.zeros(ROWS, FEATURES))


def test_match_row_norm_keeps_each_norm_and_forgets_each_direction():
    before = torch.randn(ROWS, FEATURES, generator=generator_of(1, "w"))
    before *= torch.arange(1, ROWS + 1).unsqueeze(1)
    fresh = drawn("match_row_norm", before)
    assert torch.allclose(fresh.norm(dim=1), before.norm(dim=1), rtol=1e-5)
    cosine = torch.nn.functional.cosine_similarity(fresh, before)
    assert float(cosine.abs().max()) < 5 / math.sqrt(FEATURES)


def test_an_unknown_initialisation_is_named():
    with pytest.raises(ParameterError, match=r"zap\.reset\.initialisation: 'kaimin'"):
        drawn("kaimin")


@pytest.mark.parametrize("name", [*DRAWN, "match_row_norm"])
def test_draws_repeat_by_seed_and_leave_global_random_numbers_alone(name):
    torch.manual_seed(1)
    first, state = drawn(name), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(drawn(name), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(drawn(name, door="b"), first)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True),
    bias=st.booleans(),
    name=st.sampled_from([*DRAWN, "zeros", "match_row_norm"]),
)
def test_only_the_given_rows_change_and_the_bias_only_when_asked(rows, bias, name):
    head = nn.Linear(5, 7)
    weight, shift = head.weight.detach().clone(), head.bias.detach().clone()
    chosen = torch.tensor(rows)
    reset_last_layer(
        head,
        rows=chosen,
        initialisation=name,
        generator=generator_of(3, "x"),
        std=0.1,
        reset_bias=bias,
    )
    others = torch.tensor([r for r in range(7) if r not in rows], dtype=torch.long)
    assert torch.equal(head.weight[others], weight[others])
    assert torch.equal(head.bias[others], shift[others])
    assert not bool((head.weight[chosen] == weight[chosen]).all(1).any())
    expected = torch.zeros(len(rows)) if bias else shift[chosen]
    assert torch.equal(head.bias[chosen], expected)


@pytest.mark.parametrize("bias", [True, False])
def test_a_head_without_bias_and_a_one_by_one_convolution_are_reset_too(bias):
    plain, convolution = nn.Linear(6, 4, bias=bias), nn.Conv2d(6, 4, 1, bias=bias)
    for head in (plain, convolution):
        before = head.weight.detach().clone()
        reset_last_layer(
            head,
            rows=torch.tensor([1, 3]),
            initialisation="kaiming_normal",
            generator=generator_of(0, "x"),
            reset_bias=True,
        )
        assert torch.equal(head.weight[[0, 2]], before[[0, 2]])
        assert head.weight.shape == before.shape
    assert torch.equal(plain.weight[[1, 3]], convolution.weight[[1, 3]].flatten(1))


def test_the_backbone_keeps_every_bit():
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(9, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5)
    )
    before = copy.deepcopy(net.state_dict())
    head = find_head(net)
    reset_last_layer(
        head.module,
        rows=torch.arange(5),
        initialisation="joint_fan_in",
        generator=generator_of(0, "x"),
    )
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"4.weight"}


def trained(optimizer_class, **options):
    head = nn.Linear(3, 4)
    optimizer = optimizer_class(head.parameters(), lr=0.1, **options)
    for _ in range(3):
        optimizer.zero_grad()
        head(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
    return head, optimizer


@pytest.mark.parametrize(
    ("kind", "options", "names"),
    [
        (torch.optim.Adam, {}, {"exp_avg", "exp_avg_sq"}),
        (torch.optim.Adam, {"fused": True}, {"exp_avg", "exp_avg_sq"}),
        (torch.optim.SGD, {"momentum": 0.9}, {"momentum_buffer"}),
    ],
)
def test_moments_of_the_given_rows_alone_are_cleared(kind, options, names):
    head, optimizer = trained(kind, **options)
    rows = torch.tensor([0, 2])
    before = copy.deepcopy(optimizer.state_dict()["state"])
    for parameter in head.parameters():
        clear_moments(optimizer, parameter, rows)
    after = optimizer.state_dict()["state"]
    for number in before:
        for name in names:
            old, new = before[number][name], after[number][name]
            assert not bool(new[rows].any())
            assert torch.equal(new[[1, 3]], old[[1, 3]])
            assert bool(old[rows].any())
        others = before[number].keys() - names
        assert all(torch.equal(before[number][n], after[number][n]) for n in others)


def test_clearing_moments_before_the_first_step_is_harmless():
    head = nn.Linear(3, 4)
    optimizer = torch.optim.Adam(head.parameters())
    clear_moments(optimizer, head.weight, torch.arange(4))
    assert not optimizer.state


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_16", "squeezenet1_1"])
def test_the_head_of_torchvision_nets_is_found_and_reset(name):
    from torchvision import models

    with torch.device("meta"):
        net = models.get_model(name, num_classes=7)
    if name == "squeezenet1_1":
        head = find_head(net)
        assert head.name == "classifier.1"
        assert isinstance(head.module, nn.Conv2d)
    else:
        head = find_head(net)
        assert isinstance(head.module, nn.Linear)
    assert head.classes == 7
    assert find_head(net, head.name).module is head.module


def test_the_head_of_a_timm_net_is_the_one_it_names():
    import timm

    net = timm.create_model("resnet18", num_classes=5)
    head = find_head(net)
    assert head.module is net.get_classifier()
    before = net.state_dict()["conv1.weight"].clone()
    reset_last_layer(
        head.module, rows=torch.arange(5), initialisation="zeros", generator=generator_of(0, "x")
    )
    assert not bool(net.get_classifier().weight.any())
    assert torch.equal(net.state_dict()["conv1.weight"], before)


def test_a_misspelt_head_is_refused_with_a_near_miss():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert find_head(net, "0").name == "0"
    named = nn.Module()
    named.backbone, named.classifier = nn.Linear(3, 4), nn.Linear(4, 2)
    with pytest.raises(HeadNotFoundError, match="did you mean classifier"):
        find_head(named, "clasifier")
