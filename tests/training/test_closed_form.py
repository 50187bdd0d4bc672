"""The ridge head against scikit-learn and against the other normal equation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from relearn.training.closed_form import ridge_head


def problem(n: int, d: int, classes: int, seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, generator=draw) * 3 + 1
    return features, torch.randint(0, classes, (n,), generator=draw)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 40),
    d=st.integers(1, 40),
    classes=st.integers(2, 5),
    penalty=st.sampled_from([1e-3, 1e-1, 1.0]),
    seed=st.integers(0, 1000),
)
def test_primal_and_dual_agree_with_scikit_learn(n, d, classes, penalty, seed):
    features, labels = problem(n, d, classes, seed)
    weight, bias = ridge_head(features, labels, classes=classes, penalty=penalty)
    x = features.double().numpy()
    alpha = penalty * np.square(x - x.mean(0)).sum() / n
    model = Ridge(alpha=alpha, solver="svd").fit(x, np.eye(classes)[labels.numpy()])
    assert np.allclose(weight.numpy(), model.coef_, atol=1e-5)
    assert np.allclose(bias.numpy(), model.intercept_, atol=1e-4)
    assert (weight.dtype, bias.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize(("n", "d"), [(30, 7), (7, 30), (12, 12)])
def test_the_solution_has_no_gradient(n, d):
    features, labels = problem(n, d, 3)
    weight, bias = ridge_head(features, labels, classes=3, penalty=0.05)
    x = features.double()
    xc = x - x.mean(0)
    w = weight.double().requires_grad_()
    target = torch.nn.functional.one_hot(labels, 3).double()
    scale = 0.05 * xc.square().sum() / n
    loss = (x @ w.T + bias.double() - target).square().sum() + scale * w.square().sum()
    (gradient,) = torch.autograd.grad(loss, w)
    size = 2 * (xc.T @ target).abs().max()
    assert float(gradient.abs().max() / size) < 1e-5


def test_the_penalty_is_relative_to_the_scale_of_the_features():
    features, labels = problem(20, 6, 3)
    one, _ = ridge_head(features, labels, classes=3, penalty=0.1)
    ten, _ = ridge_head(10 * features, labels, classes=3, penalty=0.1)
    assert torch.allclose(one, 10 * ten, atol=1e-6)


def test_constant_features_give_the_class_shares():
    weight, bias = ridge_head(torch.ones(4, 3), torch.tensor([0, 0, 0, 1]), classes=2, penalty=0.1)
    assert not bool(weight.any())
    assert bias.tolist() == pytest.approx([0.75, 0.25])
