"""The soft penalty without the large Gram matrix, and the hard way after every step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_lora import images, learn_task, tiny_adapters, train_steps

from relearn.errors import TrainingError
from relearn.methods.lora_ipc.matrices import KINDS
from relearn.methods.lora_ipc.orthogonality import (
    HardOrthogonality,
    SoftOrthogonality,
    complement,
    report_orthogonality,
)


def whole_gram(matrix):
    columns = torch.cat([matrix.history_a, matrix.a], 1)
    gram = columns.T @ columns
    return (gram - torch.eye(len(gram), dtype=gram.dtype)).norm()


def test_the_penalty_is_that_of_the_whole_gram_matrix_with_its_gradient():
    adapters = tiny_adapters(double=True)
    learn_task(adapters, freeze=["0.q"])
    learn_task(adapters)
    adapters.begin_task([4, 5], seed=1)
    learning = [m for m in adapters.matrices.values() if m.a is not None]
    assert len(learning) == len(adapters.matrices) - 1
    expected = torch.stack([whole_gram(m) for m in learning]).sum()
    found = SoftOrthogonality(adapters.matrices.values()).penalty()
    torch.testing.assert_close(found, expected)
    factors = [m.a for m in learning]
    grads = [torch.autograd.grad(loss, factors) for loss in (found, expected)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_the_penalty_has_a_gradient_where_it_is_zero():
    adapters = tiny_adapters(initialisation="orthonormal_apart")
    adapters.begin_task([0, 1], seed=0)
    loss = SoftOrthogonality(adapters.matrices.values()).penalty()
    loss.backward()
    assert float(loss.detach()) < 1e-4
    assert all(torch.isfinite(m.a.grad).all() for m in adapters.matrices.values())


def test_without_modules_there_is_nothing_to_punish():
    adapters = tiny_adapters(kinds=("q",))
    learn_task(adapters, freeze=list(adapters.matrices))
    adapters.begin_task([2, 3], seed=0)
    assert float(SoftOrthogonality(adapters.matrices.values()).penalty()) == 0


def test_the_hard_way_keeps_every_task_orthonormal():
    adapters = tiny_adapters(initialisation="orthonormal_apart")
    for task in range(4):
        adapters.begin_task([2 * task, 2 * task + 1], seed=3)
        hard = HardOrthogonality(adapters.matrices.values())
        for _ in range(3):
            train_steps(adapters, 1, rate=0.5)
            hard.retract()
        adapters.finish_task()
    reports = report_orthogonality(adapters.matrices.values())
    assert len(reports) == 2 * len(KINDS)
    for report in reports:
        assert report.columns == 8
        assert report.distance < 1e-5
        assert report.largest_cross_term < 1e-5
        assert report.condition == pytest.approx(1, abs=1e-5)


def test_the_soft_way_is_reported_as_it_is():
    adapters = tiny_adapters()
    learn_task(adapters)
    learn_task(adapters)
    for report in report_orthogonality(adapters.matrices.values()):
        matrix = adapters.matrices[report.name]
        first, second = matrix.history_a[:, :2], matrix.history_a[:, 2:]
        assert report.largest_cross_term == pytest.approx(float((first.T @ second).abs().max()))
        assert report.distance > 0.1


def test_a_retraction_keeps_the_function_where_the_span_is_new():
    adapters = tiny_adapters(double=True)
    adapters.begin_task([0, 1], seed=3)  # a first task has no earlier span to be projected off
    train_steps(adapters)
    before = adapters.model(images(double=True)).detach()
    HardOrthogonality(adapters.matrices.values()).retract()
    torch.testing.assert_close(adapters.model(images(double=True)).detach(), before)
    for matrix in adapters.matrices.values():
        gram = matrix.a.T @ matrix.a
        torch.testing.assert_close(gram.detach(), torch.eye(2, dtype=gram.dtype))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), columns=st.integers(0, 6), rank=st.integers(1, 4))
def test_the_complement_factors_what_lies_outside_the_span(seed, columns, rank):
    draw = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(12, columns, generator=draw, dtype=torch.float64))[0]
    a = torch.randn(12, rank, generator=draw, dtype=torch.float64)
    q, r = complement(a, basis)
    torch.testing.assert_close(q @ r, a - basis @ (basis.T @ a))
    both = torch.cat([basis, q], 1)
    torch.testing.assert_close(both.T @ both, torch.eye(columns + rank, dtype=torch.float64))
    assert bool((r.diagonal() >= 0).all())


def test_a_factor_that_lies_in_the_span_of_earlier_ones_is_refused():
    basis = torch.linalg.qr(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))[0]
    with pytest.raises(TrainingError, match="lost its rank"):
        complement(basis @ torch.ones(3, 1), basis)
    with pytest.raises(TrainingError, match="6 further orthogonal columns do not fit beside 3"):
        complement(torch.ones(8, 6), basis)


@pytest.mark.parametrize(("kind", "bound"), [("official", 2**-0.5), ("fan_in", 16**-0.5)])
def test_the_first_factor_is_spread_as_it_is_called(kind, bound):
    adapters = tiny_adapters(initialisation=kind, depth=4, kinds=("q", "k", "v", "o", "fc1"))
    adapters.begin_task([0, 1], seed=3)
    drawn = torch.cat([m.a.detach().flatten() for m in adapters.matrices.values()])
    assert float(drawn.abs().max()) <= bound
    assert float(drawn.std()) == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize(("kind", "apart"), [("orthonormal", False), ("orthonormal_apart", True)])
def test_orthonormal_columns_lie_apart_from_earlier_ones_on_request_only(kind, apart):
    adapters = tiny_adapters(initialisation=kind)
    for task in range(2):
        adapters.begin_task([2 * task, 2 * task + 1], seed=3)
        for matrix in adapters.matrices.values():
            a = matrix.a.detach()
            torch.testing.assert_close(a.T @ a, torch.eye(a.shape[1]))
            cross = (matrix.history_a.T @ a).abs().sum()
            assert not task or (float(cross) < 1e-5) == apart
        adapters.finish_task()
