"""Fast products against plain ones, and rows without gradient that are left out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from relearn.methods.lora_ipc import products
from relearn.methods.lora_ipc.composition import LowRankLinear, Part, compose
from relearn.methods.lora_ipc.products import linear, linear_into, living_rows, times


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


FORMS = {
    "whole": lambda: (drawn(24, 40), drawn(40, 56, seed=1)),
    "few rows": lambda: (drawn(40, 2).T, drawn(56, 40, seed=1).T),
    "columns of a wider one": lambda: (drawn(24, 90)[:, 7:47], drawn(40, 99, seed=1)[:, 3:59]),
    "no rows": lambda: (drawn(0, 40), drawn(40, 56, seed=1)),
    "no terms": lambda: (drawn(24, 0), drawn(0, 56, seed=1)),
    "double": lambda: tuple(each.double() for each in FORMS["whole"]()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("has_product", [True, False])
def test_a_product_is_that_of_double_precision(monkeypatch, form, has_product):
    monkeypatch.setattr(products, "_HAS_PRODUCT", has_product and products._HAS_PRODUCT)
    left, right = FORMS[form]()
    found = times(left, right)
    assert found.dtype == left.dtype
    torch.testing.assert_close(found.double(), left.double() @ right.double(), rtol=0, atol=1e-5)


def test_columns_of_a_wider_matrix_never_go_to_the_library_that_is_slow_with_them():
    wide = drawn(64, 90)
    assert products._fits(wide)
    assert products._fits(wide.T)
    assert not products._fits(wide[:, 7:47])
    assert not products._fits(wide[:, 7:47].T)


@pytest.mark.parametrize("shape", [(5, 7), (7, 5)], ids=["fewer outputs", "more outputs"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
def test_a_linear_layer_is_that_of_torch(shape, biased, enabled):
    weight, bias = drawn(*shape), drawn(shape[0], seed=1) if biased else None
    x = drawn(3, 4, shape[1], seed=2)
    expected, into = functional.linear(x, weight, bias), x.new_empty(3, 4, shape[0])
    with torch.set_grad_enabled(enabled):
        torch.testing.assert_close(linear(x, weight, bias), expected)
        linear_into(x, weight, bias, into)
        torch.testing.assert_close(linear(x[:, :2], weight, bias), expected[:, :2])
    torch.testing.assert_close(into, expected)


def test_rows_live_if_any_number_in_them_is_not_zero():
    grad = torch.zeros(4, 6, 3)
    assert living_rows(grad).tolist() == []
    grad[:, 0, 1] = 1e-40  # its square is zero
    grad[2, 5, 0] = torch.nan
    assert living_rows(grad).tolist() == [0, 6, 12, 17, 18]


def test_rows_are_not_chosen_where_that_saves_little():
    grad = torch.zeros(4, 6, 3)
    grad[0, 0] = grad[1:] = 1.0
    assert living_rows(grad) is None
    assert living_rows(torch.ones(4, 6, 3)) is None
    assert living_rows(torch.zeros(4, 3)) is None
    assert living_rows(torch.zeros(0, 6, 3)) is None


@pytest.mark.parametrize("watched", [False, True])
def test_an_answer_from_one_token_has_the_gradients_of_plain_autograd(watched):
    a, b, base = drawn(7, 2).requires_grad_(), drawn(2, 5).requires_grad_(), drawn(5, 7, seed=3)
    x, seen = drawn(3, 6, 7, seed=4).requires_grad_(), []
    observe = (lambda weight, gradient: seen.append(gradient)) if watched else None
    whole = compose(base, a.detach(), b.detach(), torch.full((2,), 0.5))
    part = Part((0, 5), (), 2, 0.5, False, observe)
    found = LowRankLinear.apply(x, whole, None, [part], a, b, None, a.detach(), b.detach())
    plain_weight = (base + 0.5 * (a @ b).T).detach().requires_grad_()
    plain = x @ (base.T + 0.5 * a @ b)
    leaves = (x, a, b)
    told = torch.autograd.grad(found[:, 0].square().sum(), leaves)
    for one, other in zip(
        told, torch.autograd.grad(plain[:, 0].square().sum(), leaves), strict=True
    ):
        torch.testing.assert_close(one, other)
    (dense,) = torch.autograd.grad((x @ plain_weight.T)[:, 0].square().sum(), plain_weight)
    assert len(seen) == watched
    for gradient in seen:
        torch.testing.assert_close(gradient, dense)
