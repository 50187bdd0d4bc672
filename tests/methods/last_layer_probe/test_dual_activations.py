"""Closed forms against quadrature and Monte Carlo, and the laws every dual obeys."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.activations import activation_of, known_activations

CASES = [
    ("identity", {}),
    ("relu", {}),
    ("leaky_relu", {"negative_slope": 0.1}),
    ("ab_relu", {"a": 0.3, "b": 1.2}),
    ("abs", {}),
    ("step", {}),
    ("sign", {}),
    ("exp", {"scale": 0.7}),
    ("erf", {"scale": 1.3}),
    ("sin", {"scale": 1.1}),
    ("cos", {"scale": 0.8}),
    ("random_fourier", {"scale": 1.2}),
    ("gaussian", {"decay": 0.7}),
    ("gelu", {}),
    ("hermite", {"degree": 3}),
    ("square", {}),
    ("polynomial", {"coefficients": [0.3, 0.5, -0.2, 0.4]}),
    ("tanh", {}),
    ("sigmoid", {}),
    ("silu", {}),
    ("softplus", {}),
    ("elu", {"alpha": 1.5}),
]
HOMOGENEOUS = {"identity": 1, "relu": 1, "leaky_relu": 1, "ab_relu": 1, "abs": 1}
HOMOGENEOUS |= {"step": 0, "sign": 0, "square": 2}
KINKED = {"relu", "leaky_relu", "ab_relu", "abs", "step", "sign"}
every = pytest.mark.parametrize(
    "activation", [activation_of(n, **p) for n, p in CASES], ids=lambda a: a.name
)
smooth = pytest.mark.parametrize(
    "activation", [activation_of(n, **p) for n, p in CASES if n not in KINKED | {"elu"}], ids=str
)
RHO = torch.tensor([-1.0, -0.7, -0.2, 0.0, 0.4, 0.85, 0.99, 1.0], dtype=torch.float64)
SPREADS = ((1.0, 0.4, 1.0), (1.7, 0.6, 0.5), (0.3, -0.3, 0.9))


def gauss_hermite(activation, a, b, d):
    """E[s(U) s(V)] on 150 x 150 Gauss-Hermite nodes: exact for smooth s, another road than ours."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    x, y = np.meshgrid(nodes, nodes, indexing="ij")
    u = math.sqrt(a) * x
    v = b / math.sqrt(a) * x + math.sqrt(max(d - b * b / a, 0.0)) * y
    value = activation.apply(torch.from_numpy(u)) * activation.apply(torch.from_numpy(v))
    return float(weights @ value.numpy() @ weights) / (2 * math.pi)


def around_the_circle(activation, degree, rho):
    """E[s(X) s(Y)] of a homogeneous s in polar coordinates, split where either factor turns."""
    angle = math.acos(rho)

    def value(turn):
        pair = torch.tensor([math.cos(turn), math.cos(turn - angle)], dtype=torch.float64)
        return float(activation.apply(pair).prod())

    turns = [k * math.pi / 2 for k in (1, 3)]
    points = sorted({*turns, *((t + angle) % (2 * math.pi) for t in turns)})
    total, _ = quad(value, 0, 2 * math.pi, points=points, epsabs=1e-12, limit=200)
    return total / (2 * math.pi) * 2**degree * math.factorial(degree)


@smooth
def test_duals_of_smooth_activations_equal_gauss_hermite_quadrature(activation):
    found = activation.dual(RHO) * activation.second_moment
    expected = [gauss_hermite(activation, 1.0, float(rho), 1.0) for rho in RHO]
    assert np.allclose(found.numpy(), expected, atol=max(1e-10, activation.error))


@smooth
@pytest.mark.parametrize(("a", "b", "d"), SPREADS)
def test_general_forms_of_smooth_activations_equal_gauss_hermite_quadrature(activation, a, b, d):
    found = activation.general(*torch.tensor([a, b, d], dtype=torch.float64))
    assert float(found) == pytest.approx(gauss_hermite(activation, a, b, d), abs=2e-10, rel=1e-10)


@pytest.mark.parametrize("rho", [-0.9, -0.3, 0.0, 0.5, 0.95])
@pytest.mark.parametrize("name", sorted(HOMOGENEOUS))
def test_duals_of_homogeneous_activations_equal_the_integral_around_the_circle(name, rho):
    activation = activation_of(name, **dict(CASES)[name])
    found = activation.dual(torch.tensor(rho, dtype=torch.float64)) * activation.second_moment
    expected = around_the_circle(activation, HOMOGENEOUS[name], rho)
    assert float(found) == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def draws():
    return torch.randn(2, 200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@every
@pytest.mark.parametrize(("a", "b", "d"), SPREADS)
def test_general_forms_equal_monte_carlo(activation, a, b, d, draws):
    u = math.sqrt(a) * draws[0]
    v = b / math.sqrt(a) * draws[0] + math.sqrt(d - b * b / a) * draws[1]
    samples = activation.apply(u) * activation.apply(v)
    found = float(activation.general(*torch.tensor([a, b, d], dtype=torch.float64)))
    assert abs(float(samples.mean()) - found) < 5 * float(samples.std()) / math.sqrt(len(u))


@every
def test_the_general_form_at_unit_variances_is_the_sphere_form(activation):
    one = torch.ones_like(RHO)
    general = activation.general(one, RHO, one) / activation.second_moment
    # with a kink the numeric series in rho leaves its rest, stated in numeric_general
    tolerance = 2e-5 if activation.name == "elu" else 1e-10
    assert torch.allclose(general, activation.dual(RHO), atol=tolerance)


@every
def test_one_input_is_like_itself(activation):
    one = torch.ones((), dtype=torch.float64)
    assert float(activation.dual(one)) == pytest.approx(1.0, abs=1e-12)
    assert float(activation.dual(one.float())) == pytest.approx(1.0, abs=1e-6)
    assert float(activation.general(one, one, one)) == pytest.approx(activation.second_moment)
    assert float(activation.derivative_dual(one)) == pytest.approx(activation.slope, rel=1e-8)


@every
def test_the_derivative_dual_is_the_slope_of_the_dual(activation):
    rho, step = torch.linspace(-0.95, 0.95, 39, dtype=torch.float64), 1e-5
    slope = (activation.dual(rho + step) - activation.dual(rho - step)) / (2 * step)
    assert torch.allclose(activation.derivative_dual(rho), slope, atol=1e-7)


@smooth
def test_the_derivative_dual_is_the_dual_of_the_derivative(activation):
    class Derivative:
        @staticmethod
        def apply(t):
            leaf = t.clone().requires_grad_()
            with torch.enable_grad():
                return torch.autograd.grad(activation.apply(leaf).sum(), leaf)[0]

    found = activation.derivative_dual(RHO) * activation.second_moment
    expected = [gauss_hermite(Derivative, 1.0, float(rho), 1.0) for rho in RHO]
    assert np.allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)


@every
def test_autograd_of_the_dual_is_the_derivative_dual_everywhere_and_never_nan(activation):
    rho = RHO.clone().requires_grad_()
    (found,) = torch.autograd.grad(activation.dual(rho).sum(), rho)
    expected = activation.derivative_dual(RHO)
    assert torch.equal(found, expected)
    assert not found.isnan().any()
    (silent,) = torch.autograd.grad((activation.dual(rho) * 0.0).sum(), rho)
    assert not silent.isnan().any()


@every
def test_second_derivatives_follow_from_the_derivative_dual(activation):
    rho = torch.tensor([-0.6, 0.1, 0.8], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(activation.dual(rho).sum(), rho, create_graph=True)
    second = torch.autograd.grad(first.sum(), rho, allow_unused=True)[0] if first.grad_fn else None
    found = torch.zeros_like(rho) if second is None else second
    step, at = 1e-4, rho.detach()
    expected = activation.derivative_dual(at + step) - activation.derivative_dual(at - step)
    assert torch.allclose(found, expected / (2 * step), atol=1e-5)


def test_rounding_past_one_keeps_value_and_gradient():
    activation = activation_of("relu")
    rho = torch.tensor([1 + 1e-6, -1 - 1e-6], requires_grad=True)
    value = activation.dual(rho)
    (slope,) = torch.autograd.grad(value.sum(), rho)
    assert torch.allclose(value, torch.tensor([1.0, 0.0]), atol=1e-6)
    assert torch.equal(slope, torch.tensor([1.0, 0.0]))


@every
@pytest.mark.parametrize("count", [1, 2, 3, 60])
def test_the_series_of_coefficients_reproduces_the_dual(activation, count):
    rho = torch.linspace(-0.7, 0.7, 15, dtype=torch.float64)
    squares = activation.coefficients(count).square()
    assert squares.shape == (count,)
    series = (squares * rho.unsqueeze(1) ** torch.arange(count)).sum(1)
    left = 1 - float(squares.sum())
    assert left > -1e-9
    rest = left * float(rho.abs().max()) ** count
    assert float((series - activation.dual(rho)).abs().max()) <= rest + 1e-9
    assert float(activation.coefficients(1)[0]) * activation.second_moment**0.5 == pytest.approx(
        activation.mean, abs=1e-9
    )


@every
def test_duals_rise_and_are_convex_on_the_unit_interval(activation):
    rho = torch.linspace(0, 1, 201, dtype=torch.float64)
    value = activation.dual(rho)
    assert bool((value.diff() >= -1e-12).all())
    assert bool((value.diff().diff() >= -1e-12).all())
    assert float(activation.dual(-rho).abs().max()) <= 1 + 1e-12
    assert float(value[0]) == pytest.approx(activation.mean**2 / activation.second_moment, abs=1e-9)


@every
def test_single_precision_agrees_with_double(activation):
    rho = torch.linspace(-1, 1, 401, dtype=torch.float64)
    single = activation.dual(rho.float())
    assert single.dtype == torch.float32
    # near the ends a jump turns the rounding of rho, 6e-8, into its square root
    tolerance = 5e-4 if math.isinf(activation.slope) else 2e-6
    assert torch.allclose(single.double(), activation.dual(rho), atol=tolerance)


@every
def test_the_input_is_left_alone_and_any_shape_is_taken(activation):
    rho = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
    before = rho.clone()
    assert activation.dual(rho).shape == (3, 4)
    assert activation.derivative_dual(rho).shape == (3, 4)
    column, row = torch.ones(3, 1, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)
    assert activation.general(column, rho, row).shape == (3, 4)
    assert torch.equal(rho, before)


@every
def test_nothing_follows_from_a_silent_unit(activation):
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    at_zero = float(activation.apply(zero))
    assert float(activation.general(zero, zero, zero)) == pytest.approx(at_zero**2, abs=1e-12)
    assert float(activation.general(zero, zero, one)) == pytest.approx(
        at_zero * activation.mean, abs=1e-9
    )


@every
def test_general_forms_pass_gradients_to_variances(activation):
    if math.isinf(activation.slope):
        values = torch.tensor([1.3, 0.4, 0.8], dtype=torch.float64, requires_grad=True)
    else:
        values = torch.tensor([1.1, 1.1, 1.1], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(activation.general(*values), values)
    inner = torch.tensor([1.3, 0.4, 0.8], dtype=torch.float64, requires_grad=True)
    assert bool(found.isfinite().all())
    assert torch.autograd.gradcheck(lambda v: activation.general(*v), inner, atol=1e-5)


@every
def test_normalised_activations_have_mean_square_one(activation, draws):
    square = activation.normalised(draws[0]).square()
    assert float(square.mean()) == pytest.approx(
        1, abs=5 * float(square.std()) / len(square) ** 0.5
    )
    assert activation.gain == pytest.approx(activation.second_moment**-0.5)


@every
def test_activations_survive_the_way_to_a_worker(activation):
    again = pickle.loads(pickle.dumps(activation))  # noqa: S301 - bytes made one line above
    assert again == activation
    assert hash(again) == hash(activation)
    assert torch.equal(again.dual(RHO), activation.dual(RHO))


@settings(max_examples=30, deadline=None)
@given(a=st.floats(-3, 3), b=st.floats(-3, 3), rho=st.floats(-1, 1))
def test_the_ab_relu_is_its_two_ramps(a, b, rho):
    """E ss by bilinearity from the ReLU's own dual at rho and -rho, for every pair of slopes."""
    if a == b == 0 or a * a + b * b < 1e-6:
        return
    x = torch.tensor(rho, dtype=torch.float64)
    ramp = activation_of("relu")
    same, across = float(ramp.dual(x)) / 2, float(ramp.dual(-x)) / 2
    found = activation_of("ab_relu", a=a, b=b)
    expected = (a * a + b * b) * same - 2 * a * b * across
    assert float(found.dual(x)) * found.second_moment == pytest.approx(expected, abs=1e-9)


def test_random_fourier_features_are_those_with_random_phases(draws):
    """The fixed phase -pi/4 and uniform phases give the same kernel."""
    activation = activation_of("random_fourier", scale=1.2)
    phases = torch.rand(draws.shape[1], generator=torch.Generator().manual_seed(1)) * 2 * math.pi
    v = 0.6 * draws[0] + 0.8 * draws[1]
    samples = 2 * (1.2 * draws[0] + phases).cos() * (1.2 * v + phases).cos()
    found = float(activation.dual(torch.tensor(0.6, dtype=torch.float64)))
    assert found == pytest.approx(math.exp(1.44 * (0.6 - 1)))
    assert abs(float(samples.mean()) - found) < 5 * float(samples.std()) / len(samples) ** 0.5


def test_the_exponential_is_normalised_by_minus_the_squared_scale():
    """exp(a t - a^2) has mean square 1; with -2 a^2 it would be exp(-2 a^2)."""
    activation = activation_of("exp", scale=0.9)
    t = torch.tensor([0.3], dtype=torch.float64)
    assert torch.allclose(activation.normalised(t), (0.9 * t - 0.81).exp())


def test_every_known_activation_is_held_by_these_laws():
    assert sorted(name for name, _ in CASES) == list(known_activations())


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("rellu", {}, r"activation: 'rellu' is not known, did you mean relu\?"),
        ("leaky_relu", {"slope": 0.1}, r"activation\.leaky_relu\.slope: .*negative_slope"),
        ("relu", {"scale": 2}, r"activation\.relu\.scale: is not known, expected no parameters"),
        ("leaky_relu", {"negative_slope": math.nan}, r"negative_slope: got nan, expected a finite"),
        ("erf", {"scale": 0}, r"activation\.erf\.scale: got 0, expected a number above 0"),
        ("exp", {"scale": 11}, r"activation\.exp\.scale: got 11, .* at most 10"),
        (
            "gaussian",
            {"decay": -0.3},
            r"activation\.gaussian\.decay: got -0\.3, expected .* above 0",
        ),
        ("hermite", {"degree": 2.5}, r"activation\.hermite\.degree: got 2\.5, expected a whole"),
        ("hermite", {"degree": True}, r"activation\.hermite\.degree: got True"),
        ("polynomial", {"coefficients": [0, 0]}, r"coefficients: got \[0, 0\], .* not all 0"),
        ("polynomial", {"coefficients": "1"}, r"coefficients: got '1'"),
        ("ab_relu", {"a": 0, "b": 0}, r"activation\.ab_relu: a and b are both 0"),
    ],
)
def test_bad_names_and_parameters_are_refused_in_one_line(name, parameters, says):
    with pytest.raises(ParameterError, match=says) as caught:
        activation_of(name, **parameters)
    assert "\n" not in str(caught.value)
