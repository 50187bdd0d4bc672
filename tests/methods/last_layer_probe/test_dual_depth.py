"""Depth: the curve, where it goes, and when the report warns."""

from __future__ import annotations

import json
import math

import pytest
import torch

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.activations import activation_of, known_activations
from relearn.methods.last_layer_probe.depth import (
    correlation_curve,
    fixed_point,
    rank_curve,
)
from relearn.methods.last_layer_probe.depth_report import depth_report
from relearn.methods.last_layer_probe.scores import effective_rank

RELU = activation_of("relu")


def inputs(n=40, d=8, seed=3):
    x = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = x / x.norm(dim=1, keepdim=True)
    return x @ x.T


def test_the_curve_of_a_random_wide_network_is_the_predicted_one():
    draw = torch.Generator().manual_seed(7)
    x = torch.tensor([[1.0, 0.0], [0.3, math.sqrt(1 - 0.09)]])
    predicted = correlation_curve(RELU, beta=0.2, depth=4, rho0=0.3)[:, 0]
    width, hidden = 4000, x
    for layer in range(1, 5):
        weight = torch.randn(hidden.shape[1], width, generator=draw)
        weight *= math.sqrt(0.8 / (hidden.square().sum(1).mean()))
        bias = math.sqrt(0.2) * torch.randn(width, generator=draw)
        hidden = RELU.normalised(hidden @ weight + bias)
        measured = float(hidden[0] @ hidden[1]) / width
        assert measured == pytest.approx(float(predicted[layer]), abs=0.12)


def test_a_deep_relu_approaches_one_like_the_inverse_square_of_depth():
    """1 - rho_L tends to 9 pi^2 / (2 L^2), by expansion of the dual at 1."""
    curve = correlation_curve(RELU, beta=0.0, depth=1024, rho0=0.0)[:, 0]
    assert float(1 - curve[1024]) * 1024**2 == pytest.approx(9 * math.pi**2 / 2, rel=0.05)
    biased = correlation_curve(RELU, beta=0.1, depth=64, rho0=0.0)[:, 0]
    ratios = (1 - biased[41:61]) / (1 - biased[40:60])
    assert torch.allclose(ratios, torch.full_like(ratios, 0.9), atol=0.01)


@pytest.mark.parametrize("beta", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("name", known_activations())
def test_long_iteration_ends_at_the_fixed_point(name, beta):
    activation = activation_of(name)
    fixed = fixed_point(activation, beta=beta)
    start = 0.3
    end = float(correlation_curve(activation, beta=beta, depth=1500, rho0=start)[-1, 0])
    if fixed.regime == "keeps":
        assert end == pytest.approx(start)
        return
    slow = fixed.regime == "critical" or abs(fixed.rate - 1) < 0.005
    assert end == pytest.approx(fixed.correlation, abs=5e-3 if slow else 1e-6)


@pytest.mark.parametrize(
    ("name", "beta", "regime"),
    [
        ("identity", 0.0, "keeps"),
        ("identity", 0.1, "collapses to 1"),
        ("relu", 0.0, "critical"),
        ("relu", 0.1, "collapses to 1"),
        ("sigmoid", 0.0, "collapses to 1"),
        ("hermite", 0.0, "collapses to identity"),
        ("step", 0.0, "collapses to identity"),
        ("gelu", 0.0, "collapses to identity"),
    ],
)
def test_regimes_follow_from_the_slope_at_one(name, beta, regime):
    assert fixed_point(activation_of(name), beta=beta).regime == regime


def test_a_fixed_point_is_fixed_and_attracts():
    for name in ("gelu", "silu", "elu", "step", "square"):
        fixed = fixed_point(activation_of(name))
        curve = correlation_curve(activation_of(name), beta=0.0, depth=1, rho0=fixed.correlation)
        assert float(curve[1, 0]) == pytest.approx(fixed.correlation, abs=1e-9)
        assert 0 <= fixed.rate < 1


def test_a_list_of_layers_is_followed_one_by_one():
    layers = [activation_of("erf"), RELU]
    curve = correlation_curve(layers, beta=0.1, depth=2, rho0=[0.2, 0.6])
    first = layers[0].dual(0.1 + 0.9 * curve[0])
    assert torch.equal(curve[2], RELU.dual(0.1 + 0.9 * first))
    block = fixed_point(layers, beta=0.1)
    assert block.slope_at_one == pytest.approx(0.81 * layers[0].slope)


def test_ranks_rise_to_the_identity_and_the_curve_begins_with_the_inputs():
    kernel = inputs()
    ranks = rank_curve(activation_of("hermite"), kernel, depth=10)
    assert ranks[0] == pytest.approx(effective_rank(kernel))
    assert ranks[-1] == pytest.approx(len(kernel) - 1, rel=1e-3)
    flat = rank_curve(activation_of("sigmoid"), kernel, depth=10)
    assert flat[-1] < ranks[-1]
    assert kernel.diagonal().allclose(torch.ones(40, dtype=torch.float64))


def test_a_shallow_report_has_nothing_to_warn_of():
    report = depth_report(RELU, depth=3, replicas=1024, correlations=inputs())
    assert report.warnings == ()
    assert report.useful_depth == 3
    assert len(report.curve) == len(report.ranks) == 4
    assert json.loads(json.dumps(report.as_dict()))["fixed"]["regime"] == "critical"


def test_the_report_warns_where_pairs_draw_together():
    report = depth_report(RELU, depth=30)
    assert report.useful_depth < 30
    assert "all inputs look alike" in report.warnings[0]
    spread = [row[-1] - row[0] for row in report.curve]
    assert spread[report.useful_depth] >= 0.1 > spread[report.useful_depth + 1]
    assert depth_report(RELU, depth=30, smallest_spread=0.001).warnings == ()


def test_the_report_warns_of_an_identity_kernel_and_of_single_precision():
    identity = depth_report(activation_of("hermite"), depth=8)
    assert "turns into the identity" in identity.warnings[0]
    single = depth_report(activation_of("sigmoid"), depth=20)
    assert any("float64" in line for line in single.warnings)
    assert depth_report(activation_of("identity"), depth=20).warnings == ()


def test_the_report_warns_where_a_narrow_network_cannot_see_the_difference():
    wide, narrow = (depth_report(RELU, depth=12, replicas=r) for r in (4096, 64))
    assert not any("noise" in line for line in wide.warnings)
    assert any("64 replicas has noise of about 0.12" in line for line in narrow.warnings)


def test_the_report_warns_of_a_small_rank():
    report = depth_report(RELU, depth=2, correlations=inputs(), smallest_rank=0.99)
    assert any("effective rank" in line for line in report.warnings)


def test_an_infinite_slope_is_written_as_nothing():
    report = depth_report(activation_of("step"), depth=2)
    assert report.as_dict()["fixed"]["slope_at_one"] is None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: correlation_curve(RELU, beta=1.2, depth=3, rho0=0.0), "beta: got 1.2"),
        (lambda: fixed_point(RELU, beta=-0.1), "beta: got -0.1"),
        (lambda: correlation_curve(RELU, beta=0.0, depth=0, rho0=0.0), "depth: got 0"),
        (lambda: correlation_curve([RELU], beta=0.0, depth=2, rho0=0.0), "list of 1 activations"),
        (lambda: correlation_curve(RELU, beta=0.0, depth=2, rho0=1.5), "rho0: got .1.5."),
        (lambda: depth_report(RELU, depth=2, rho0=[0.1]), "rho0: got .0.1., expected at least two"),
        (lambda: depth_report(RELU, depth=2, replicas=0), "replicas: got 0"),
    ],
)
def test_values_out_of_range_are_refused(call, says):
    with pytest.raises(ParameterError, match=says):
        call()
