"""The pull of the student towards the stable model."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from relearn.errors import ParameterError
from relearn.methods.forget_relearn.relearn import consistency_loss


def logits(seed: int, rows: int = 5) -> torch.Tensor:
    return 3 * torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_equal_outputs_cost_nothing_and_pull_nowhere(kind):
    student = logits(0).requires_grad_()
    loss = consistency_loss(student, logits(0), kind=kind, temperature=2.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(student.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_the_gradient_goes_to_the_student_alone(kind):
    student, stable = logits(0).requires_grad_(), logits(1)
    loss = consistency_loss(student, stable, kind=kind)
    [gradient] = torch.autograd.grad(loss, [student])
    assert float(gradient.abs().sum()) > 0
    assert not stable.requires_grad
    moved = consistency_loss(student.detach() - 0.1 * gradient, stable, kind=kind)
    assert float(moved) < float(loss.detach())


def test_mse_is_the_mean_of_squared_differences():
    one, two = logits(0), logits(1)
    expected = sum((a - b) ** 2 for a, b in zip(one.flatten(), two.flatten(), strict=True)) / 20
    assert torch.allclose(consistency_loss(one, two, kind="mse"), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_is_the_divergence_from_the_stable_model_times_the_squared_temperature(temperature):
    student, stable = logits(0).double(), logits(1).double()
    p, q = ((z / temperature).softmax(1) for z in (stable, student))
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    found = consistency_loss(student, stable, kind="kl", temperature=temperature)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_the_gradient_of_kl_is_the_difference_of_the_probabilities():
    student, stable = logits(0).requires_grad_(), logits(1)
    for temperature in (1.0, 3.0):
        loss = consistency_loss(student, stable, kind="kl", temperature=temperature)
        [found] = torch.autograd.grad(loss, [student])
        q, p = (student.detach() / temperature).softmax(1), (stable / temperature).softmax(1)
        assert torch.allclose(found, temperature * (q - p) / len(q), atol=1e-6)


def test_at_high_temperature_kl_of_centred_logits_becomes_half_the_squared_distance():
    student, stable = (z - z.mean(1, keepdim=True) for z in (logits(0), logits(1)))
    found = consistency_loss(student.double(), stable.double(), kind="kl", temperature=100.0)
    expected = functional.mse_loss(student, stable) / 2
    assert float(found) == pytest.approx(float(expected), rel=0.05)


@pytest.mark.parametrize("kind", ["kl", "mse"])
def test_half_precision_outputs_are_compared_in_fp32(kind):
    found = consistency_loss(logits(0).bfloat16(), logits(1).bfloat16(), kind=kind)
    assert found.dtype == torch.float32


def test_an_unknown_kind_is_refused():
    with pytest.raises(ParameterError, match=r"forget_relearn\.relearn\.consistency: got 'cosine'"):
        consistency_loss(logits(0), logits(1), kind="cosine")
