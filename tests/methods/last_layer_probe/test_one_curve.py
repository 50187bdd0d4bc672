"""A skeleton whose input is one node has one curve, which is the walk over its layers."""

from __future__ import annotations

import math

import pytest
import torch

from relearn.methods.last_layer_probe import kernel as kernel_module
from relearn.methods.last_layer_probe.activations import activation_of
from relearn.methods.last_layer_probe.kernel import dual_kernel
from relearn.methods.last_layer_probe.one_curve import curve_of
from relearn.methods.last_layer_probe.skeleton import Layer, Skeleton

RELU = activation_of("relu")
BRANCHES = Skeleton(
    (
        Layer(name="a", activation=activation_of("erf")),
        Layer(name="b", inputs=("a", "input"), activation=RELU, beta=0.2),
        Layer(name="c", inputs=("a", "b"), activation=activation_of("gelu")),
    )
)
SKELETONS = {
    "relu": Skeleton.fully_connected(3, RELU),
    "deep": Skeleton.fully_connected(30, RELU, 0.05),
    "branches": BRANCHES,
    "leaky": Skeleton.fully_connected(5, activation_of("leaky_relu", negative_slope=0.3)),
    "step": Skeleton.fully_connected(1, activation_of("step")),
}


def inputs():
    """Return points whose correlations fill -1 to 1, with both ends."""
    angle = torch.linspace(0, math.pi, 60, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 2e-6), (torch.float64, 2e-12)])
@pytest.mark.parametrize("name", SKELETONS)
def test_the_curve_gives_the_kernel_of_the_walk(name, dtype, close, monkeypatch):
    x = inputs()
    along = dual_kernel(SKELETONS[name], x, dtype=dtype, block=25)
    against = dual_kernel(SKELETONS[name], x[:33], x, dtype=dtype)
    monkeypatch.setattr(kernel_module, "curve_of", lambda *_, **__: None)
    walked = dual_kernel(SKELETONS[name], x, dtype=torch.float64)

    steep = 1e-3 if name == "step" and dtype == torch.float32 else 0.0  # infinite slope at 1
    assert float((along.double() - walked).abs().max()) < close
    assert float((against.double() - walked[:33]).abs().max()) < close + steep
    assert torch.equal(along, along.T)
    assert torch.equal(along.diagonal(), torch.ones_like(along.diagonal()))


@pytest.mark.parametrize("name", ["relu", "branches", "leaky", "step"])
def test_smooth_compositions_have_a_curve_in_single_precision(name):
    curve = curve_of(SKELETONS[name], dtype=torch.float32)
    assert curve is not None
    assert len(curve.whole.coefficients) <= 25
    assert (len(curve.whole.coefficients) == 2) == (name == "step")  # 1 - theta / pi
    assert [part.variable.name for part in curve.parts] == ["itself", "root"]


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("name", ["relu", "leaky", "step"])
def test_every_polynomial_of_a_curve_gives_what_the_angle_gives(name, dtype, close):
    curve = curve_of(SKELETONS[name], dtype=dtype)
    assert curve.parts
    for part in curve.parts:
        rho = torch.linspace(part.variable.least, part.variable.most, 999, dtype=dtype)
        by_angle = curve.whole.of(rho.clone(), torch.empty_like(rho))
        by_part = part.of(rho.clone(), torch.empty_like(rho))
        assert float((by_part - by_angle).abs().max()) < close


@pytest.mark.parametrize(
    ("low", "high", "variable"),
    [
        (-0.5, 0.5, "itself"),
        (-0.2, 1.0, "root"),
        (0.0, 1 + 1e-6, "root"),  # rounding
        (-0.3, 0.6, "angle"),
        (-1.0, 1.0, "angle"),
        (0.0, math.nan, "angle"),
    ],
)
def test_numbers_take_the_cheapest_polynomial_that_holds_for_all_of_them(low, high, variable):
    curve = curve_of(SKELETONS["relu"], dtype=torch.float32)
    rho = torch.tensor([low, 0.0, high])
    walked = curve.whole.of(rho.clone(), torch.empty_like(rho))
    assert curve.chosen_for(rho).variable.name == variable
    assert torch.allclose(curve.of(rho, torch.empty(3)), walked, atol=1e-6, equal_nan=True)


def test_compositions_of_jumps_have_none_and_are_walked():
    skeleton = Skeleton.fully_connected(3, activation_of("step"))
    assert curve_of(skeleton, dtype=torch.float64) is None
    x = inputs()[:20]
    rho = x @ x.T
    for _ in range(3):
        rho = activation_of("step").dual(rho)
    found = dual_kernel(skeleton, x, dtype=torch.float64)
    assert torch.allclose(found.triu(1), rho.triu(1), atol=1e-6)


def test_two_activations_of_one_name_keep_their_own_curves():
    low, high = (
        Skeleton.fully_connected(1, activation_of("ab_relu", a=a, b=1.0)) for a in (-0.5, 0.5)
    )
    one, other = (curve_of(each, dtype=torch.float64) for each in (low, high))
    assert one is not None
    assert one != other
