"""What is forgotten: which weights, how many, what they become, and what is left alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_forget_relearn import lean_config, tiny_base
from torch import nn

from relearn.errors import ParameterError
from relearn.methods.forget_relearn.arms import training_of
from relearn.methods.forget_relearn.forget import (
    Source,
    draw_mask,
    forget,
    forget_weights,
    fresh_source,
    mask_of,
)
from relearn.methods.forget_relearn.session import forgotten_shares
from relearn.models.checkpoint import Architecture, build, build_fresh

WIDE = Architecture("convnet5", 1, 8, 10, {"width": 16}, (0.5,), (0.3,))
ROW = {
    "method": "forget_relearn",
    "arm": "forget_relearn",
    "seed": 0,
    "step": 5,
    "epoch": 2,
    "trigger": "every 2 epochs",
    "draw_seed": 1234,
}


def door(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shares_of(net: nn.Module, **changes) -> dict[str, float]:
    told = {f"forget__{name}": value for name, value in changes.items()}
    return forgotten_shares(net, training_of(lean_config(**told), "forget_relearn"), head="")


def trained_net(optimizer: str = "sgd") -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a net with randomised batch-norm statistics and an optimizer that has momentum."""
    net = build_fresh(WIDE, seed=3).train()
    make = {"sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "adam": torch.optim.Adam}
    steps = make[optimizer](net.parameters())
    for _ in range(2):
        images = torch.rand(8, 1, 8, 8, generator=door(1))
        net(images).square().mean().backward()
        steps.step()
    return net, steps


def forget_once(net, optimizer=None, *, source=None, clear=True, mask="exact", **shares):
    named = {name.replace("__", "."): share for name, share in shares.items()}
    return forget(
        net,
        optimizer or torch.optim.SGD(net.parameters(), lr=0.1),
        shares=named,
        mask=mask,
        source=source or fresh_source(WIDE, draw_seed=ROW["draw_seed"]),
        clear_momentum=clear,
        row=ROW,
    )


@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_an_exact_mask_has_exactly_the_rounded_share(shape, fraction, seed):
    mask = draw_mask(shape, fraction=fraction, kind="exact", generator=door(seed))
    assert mask.dtype == torch.bool
    assert mask.shape == shape
    assert int(mask.sum()) == round(fraction * math.prod(shape))


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9])
def test_a_bernoulli_mask_lies_within_the_bounds_of_its_binomial(fraction):
    counts = [
        int(draw_mask((40, 50), fraction=fraction, kind="bernoulli", generator=door(seed)).sum())
        for seed in range(30)
    ]
    spread = math.sqrt(2000 * fraction * (1 - fraction))
    assert all(abs(count - 2000 * fraction) < 5 * spread for count in counts)
    assert abs(sum(counts) / 30 - 2000 * fraction) < 4 * spread / math.sqrt(30)
    assert len(set(counts)) > 5


@pytest.mark.parametrize("kind", ["exact", "bernoulli"])
def test_share_zero_takes_nothing_and_share_one_everything(kind):
    for fraction in (0.0, 1.0):
        mask = draw_mask((20, 30), fraction=fraction, kind=kind, generator=door())
        assert int(mask.sum()) == 600 * fraction


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_fraction_outside_zero_to_one_is_refused(fraction):
    with pytest.raises(ParameterError, match=r"forget_relearn\.forget\.fraction: got"):
        draw_mask((4,), fraction=fraction, kind="exact", generator=door())


def test_an_unknown_kind_of_mask_is_refused():
    with pytest.raises(ParameterError, match=r"forget_relearn\.forget\.mask: got 'block'"):
        draw_mask((4,), fraction=0.5, kind="block", generator=door())


@pytest.mark.parametrize("kind", ["exact", "bernoulli"])
def test_a_mask_is_a_function_of_seed_and_name(kind):
    def mask(name, seed):
        return mask_of(name, (30, 30), share=0.3, kind=kind, seed=seed)

    assert torch.equal(mask("head.weight", 1), mask("head.weight", 1))
    assert not torch.equal(mask("head.weight", 1), mask("body.weight", 1))
    assert not torch.equal(mask("head.weight", 1), mask("head.weight", 2))


def test_every_weight_is_as_likely_to_be_forgotten_as_any_other():
    total = sum(mask_of("w", (25,), share=0.2, kind="exact", seed=s).double() for s in range(400))
    expected, spread = 400 * 0.2, math.sqrt(400 * 0.2 * 0.8)
    assert bool(((total - expected).abs() < 4.5 * spread).all())


def test_masked_weights_change_and_all_others_keep_every_bit():
    parameter = nn.Parameter(torch.randn(6, 7, generator=door()))
    before, values = parameter.detach().clone(), torch.randn(6, 7, generator=door(1))
    mask = draw_mask((6, 7), fraction=0.4, kind="exact", generator=door(2))

    forget_weights(parameter, mask, values)

    assert torch.equal(parameter.detach(), torch.where(mask, values, before))
    assert parameter.requires_grad
    assert parameter.is_leaf


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("clear", [True, False])
def test_momentum_is_cleared_where_weights_were_forgotten_and_nowhere_else(optimizer, clear):
    net, steps = trained_net(optimizer)
    before = {
        name: {k: torch.as_tensor(v).clone() for k, v in steps.state[p].items()}
        for name, p in net.named_parameters()
    }

    forget_once(net, steps, clear=clear, head__weight=0.5)

    mask = mask_of("head.weight", (10, 64), share=0.5, kind="exact", seed=ROW["draw_seed"])
    for name, parameter in net.named_parameters():
        state = steps.state[parameter]
        assert state
        for key, old in before[name].items():
            cleared = clear and name == "head.weight" and old.shape == parameter.shape
            expected = torch.where(mask, torch.zeros(()), old) if cleared else old
            assert torch.equal(torch.as_tensor(state[key]), expected)


def test_an_optimizer_that_has_not_stepped_or_keeps_no_momentum_is_left_alone():
    net = build_fresh(WIDE, seed=3)
    for momentum in (0.0, 0.9):
        steps = torch.optim.SGD(net.parameters(), lr=0.1, momentum=momentum)
        forget_once(net, steps, head__weight=0.5)
        assert not steps.state


def test_batch_norm_and_layers_that_were_not_chosen_keep_every_bit():
    net, steps = trained_net()
    shares = shares_of(net, fraction=1.0)
    before = copy.deepcopy(net.state_dict())

    forget_once(net, steps, **{name.replace(".", "__"): 1.0 for name in shares})

    changed = {n for n, v in net.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {
        "blocks.3.convolution.weight",
        "blocks.4.convolution.weight",
        "head.weight",
    }
    assert set(shares) == changed


@pytest.mark.parametrize("name", ["blocks.4.convolution.weight", "head.weight"])
def test_fresh_values_have_the_first_distribution_of_their_layer(name):
    net, steps = trained_net()
    with torch.no_grad():
        dict(net.named_parameters())[name].mul_(7.0)
    forget_once(net, steps, **{name.replace(".", "__"): 1.0})

    found = dict(net.named_parameters())[name].detach()
    # convolution: N(0, 2 / fan_out) with fan_out 64 * 9; head: U(-1/8, 1/8) of 64 features
    normal = name.startswith("blocks")
    std = math.sqrt(2 / (64 * 9)) if normal else 1 / 8 / math.sqrt(3)
    assert float(found.std()) == pytest.approx(std, rel=0.05)
    assert abs(float(found.mean())) < 4 * std / math.sqrt(found.numel())
    if not normal:
        assert float(found.abs().max()) <= 1 / 8


def test_fresh_values_differ_from_the_first_ones_and_between_forgettings():
    first, one, two = (fresh_source(WIDE, draw_seed=seed).values for seed in (3, 4, 5))
    for name in ("blocks.4.convolution.weight", "head.weight"):
        assert not torch.equal(one[name], two[name])
        assert not torch.equal(one[name], first[name])
        assert torch.equal(one[name], fresh_source(WIDE, draw_seed=4).values[name])


@pytest.mark.parametrize("name", ["rewind", "zero", "stable"])
def test_a_source_gives_exactly_its_values(name):
    net, steps = trained_net()
    other = {n: p.detach().clone() for n, p in build_fresh(WIDE, seed=3).named_parameters()}
    values = {n: v * 0 if name == "zero" else v for n, v in other.items()}
    forget_once(net, steps, source=Source(name, values), head__weight=1.0)
    assert torch.equal(net.head.weight.detach(), values["head.weight"])


def test_a_row_tells_count_share_and_norms_of_each_tensor():
    net, steps = trained_net()
    before = float(net.head.weight.detach().norm())
    shares = {"blocks__4__convolution__weight": 0.1, "head__weight": 0.25}

    rows = forget_once(net, steps, **shares)

    assert [row.target for row in rows] == ["blocks.4.convolution.weight", "head.weight"]
    assert [row.rows for row in rows] == [round(0.1 * 64 * 64 * 9), 160]
    head = rows[1]
    assert head.details["weights"] == 640
    assert (head.before_norm, head.after_norm) == (before, float(net.head.weight.detach().norm()))
    assert head.before_digest != head.after_digest


def test_groups_have_their_own_shares_and_biases_follow_their_weights():
    net = build(tiny_base())
    own = {"early": None, "middle": None, "late": 0.5, "head": None}
    assert shares_of(net, fraction=0.2, fractions=own, include_bias=True) == {
        "blocks.3.convolution.weight": 0.5,
        "blocks.4.convolution.weight": 0.5,
        "head.weight": 0.2,
        "head.bias": 0.2,
    }
    assert "head.bias" not in shares_of(net, fraction=0.2)


def test_early_layers_need_a_permission_unless_their_share_is_zero():
    net = build(tiny_base())
    for layers in ("early", "all", "blocks.0", "blocks.1.convolution+head"):
        with pytest.raises(ParameterError, match=r"forget_relearn\.forget\.allow_early=true"):
            shares_of(net, layers=layers)
        assert shares_of(net, layers=layers, allow_early=True)
    none = {"early": 0.0, "middle": None, "late": None, "head": None}
    assert shares_of(net, layers="all", fractions=none)["blocks.0.convolution.weight"] == 0.0


def test_an_unknown_layer_is_refused_with_a_near_miss():
    with pytest.raises(ParameterError, match="did you mean late"):
        shares_of(build(tiny_base()), layers="latte+head")
