"""Duals by quadrature: equal to the closed ones within the stated error, or refused."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch.nn import functional

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.activations import activation_from, activation_of
from relearn.methods.last_layer_probe.hermite import hermite_polynomials

ANGLES = torch.linspace(0, math.pi, 401, dtype=torch.float64)
CLOSED = ["relu", "abs", "leaky_relu", "step", "sign", "gelu", "erf", "sin", "cos", "gaussian"]
INSIDE = torch.tensor([-0.9, -0.3, 0.2, 0.7, 0.95], dtype=torch.float64)


def pair(name):
    closed = activation_of(name)
    return closed, activation_from(closed.apply, name=f"own_{name}", kinks=closed.kinks)


@pytest.mark.parametrize("name", CLOSED)
def test_quadrature_finds_the_closed_dual_within_its_stated_error(name):
    closed, own = pair(name)
    rho = ANGLES.cos()
    assert own.error < 1e-9
    assert float((own.dual(rho) - closed.dual(rho)).abs().max()) <= own.error
    assert own.second_moment == pytest.approx(closed.second_moment, rel=1e-12)
    assert own.mean == pytest.approx(closed.mean, abs=1e-12)
    assert own.slope == pytest.approx(closed.slope, rel=1e-8)
    assert torch.allclose(own.coefficients(60), closed.coefficients(60), atol=1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_quadrature_finds_the_closed_derivative_up_to_its_poles(name):
    closed, own = pair(name)
    rho = ANGLES.cos()
    found, expected = own.derivative_dual(rho), closed.derivative_dual(rho)
    assert torch.equal(found.isinf(), expected.isinf())
    finite = expected.isfinite()
    assert torch.allclose(found[finite], expected[finite], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["relu", "abs", "gelu", "erf", "sin", "gaussian"])
def test_quadrature_finds_the_closed_general_form(name):
    closed, own = pair(name)
    a = torch.tensor([0.02, 0.7, 1.0, 3.5], dtype=torch.float64).unsqueeze(1)
    d = torch.tensor([0.3, 1.0, 9.0], dtype=torch.float64)
    for rho in (-1.0, -0.6, 0.3, 0.999, 1.0):
        b = rho * (a * d).sqrt()
        scale = (closed.general(a, a, a) * closed.general(d, d, d)).sqrt()
        error = (own.general(a, b, d) - closed.general(a, b, d)).abs() / scale
        assert float(error.max()) < (2e-5 if closed.kinks else 1e-8)


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (-0.5, 2.0)])
def test_several_kinks_away_from_zero_agree_with_monte_carlo(bounds):
    own = activation_from(lambda t: t.clamp(*bounds), name="clamped", kinks=bounds)
    x, w = torch.randn(2, 200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for rho in INSIDE:
        samples = own.normalised(x) * own.normalised(rho * x + (1 - rho**2).sqrt() * w)
        error = 5 * float(samples.std()) / math.sqrt(len(x))
        assert abs(float(own.dual(rho)) - float(samples.mean())) < error
    inside = 0.5 * (math.erf(bounds[1] / 2**0.5) - math.erf(bounds[0] / 2**0.5))
    assert own.slope == pytest.approx(inside / own.second_moment, rel=1e-6)  # E s'(g)^2


def test_slopes_of_numeric_activations_are_the_mean_square_of_the_derivative():
    g = torch.linspace(-12, 12, 240_001, dtype=torch.float64, requires_grad=True)
    mass = (-(g.detach() ** 2) / 2).exp() * 1e-4 / math.sqrt(2 * math.pi)
    for name in ("tanh", "sigmoid", "silu", "softplus", "elu"):
        activation = activation_of(name)
        (slope,) = torch.autograd.grad(activation.apply(g).sum(), g)
        expected = float((slope.square() * mass).sum()) / activation.second_moment
        assert activation.slope == pytest.approx(expected, rel=1e-4)


def test_a_matching_tail_is_left_by_every_number_of_coefficients():
    activation = activation_of("elu")
    sums = [float(activation.coefficients(n).square().sum()) for n in (4, 16, 64, 256)]
    assert sums == sorted(sums)
    assert 0 < 1 - sums[-1] < 1e-6


def test_hermite_polynomials_are_orthonormal():
    nodes = torch.linspace(-14, 14, 20_001, dtype=torch.float64)
    mass = (-nodes * nodes / 2).exp() * (nodes[1] - nodes[0]) / math.sqrt(2 * math.pi)
    rows = hermite_polynomials(nodes, 12)
    assert torch.allclose((rows * mass) @ rows.T, torch.eye(12, dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize(
    ("apply", "kinks", "says"),
    [
        (lambda t: (t * t / 4).exp(), (), "does not settle .* finite variance"),
        (lambda t: (t * t).exp(), (), "does not settle"),
        (lambda t: 1 / t, (), "does not settle"),
        (torch.relu, (), "every kink or jump named in `kinks`"),
        (lambda t: (t > 0.1).to(t.dtype), (0.0,), "every kink or jump named in `kinks`"),
        (torch.zeros_like, (), "is 0 everywhere"),
        (lambda t: t.sum(), (), r"got \(\) for a tensor of shape .* elementwise"),
        (lambda t: 1.0, (), "got float for a tensor"),
        (torch.tanh, (math.inf,), "kinks: got .inf., expected finite"),
    ],
)
def test_what_cannot_be_integrated_is_refused(apply, kinks, says):
    with pytest.raises(ParameterError, match=says):
        activation_from(apply, name="own", kinks=kinks)


def test_a_callable_cannot_take_a_known_name():
    with pytest.raises(ParameterError, match="'tanh' is the name of a known activation"):
        activation_from(torch.tanh, name="tanh")


def test_variances_out_of_reach_are_refused():
    own = activation_from(lambda t: (t * t / 20).exp(), name="steep")
    fine, wide = torch.tensor(1.0), torch.tensor(12.0)
    assert float(own.general(fine, fine, fine)) == pytest.approx(own.second_moment, rel=1e-6)
    with pytest.raises(ParameterError, match="infinite or out of reach at variance"):
        own.general(wide, wide, wide)


def test_a_jump_without_a_closed_form_has_no_general_form():
    own = activation_from(lambda t: (t > 0.5).to(t.dtype), name="late_step", kinks=(0.5,))
    one = torch.ones(2)
    with pytest.raises(ParameterError, match="jumps and has no closed form"):
        own.general(one, one, one)
    assert math.isinf(own.slope)


def test_smooth_functions_of_torch_need_no_kinks():
    own = activation_from(functional.mish, name="mish")
    assert own.error < 1e-9
    assert float(own.dual(torch.tensor(1.0, dtype=torch.float64))) == pytest.approx(1.0)


def test_a_callable_of_a_module_survives_the_way_to_a_worker():
    own = activation_from(functional.mish, name="mish")
    again = pickle.loads(pickle.dumps(own))  # noqa: S301 - bytes made on this line
    assert again == own
    assert torch.equal(again.dual(INSIDE), own.dual(INSIDE))
