"""The layer's gradients by hand against autograd, by both ways, and against a parametrization."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_lora import answers, images, learn_task, reference_of, tiny_adapters, tiny_vit

from relearn.methods.lora_ipc import composition
from relearn.methods.lora_ipc.composition import LowRankLinear, Part, column_weights, compose
from relearn.methods.lora_ipc.matrices import KINDS


def inputs(ranks, *, seed=0, d_in=5, d_out=4, rank=2):
    draw = torch.Generator().manual_seed(seed)

    def tensor(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    history = sum(ranks)
    return {
        "x": tensor(3, 2, d_in).requires_grad_(),
        "base": tensor(d_out, d_in),
        "bias": tensor(d_out),
        "a": tensor(d_in, rank).requires_grad_(),
        "b": tensor(rank, d_out).requires_grad_(),
        "omega": tensor(len(ranks)).requires_grad_() if ranks else None,
        "old": (tensor(d_in, history), tensor(history, d_out)),
    }


def by_hand(given, ranks, observe=None, scale=0.5):
    old_a, old_b = given["old"]

    def run(x, a, b, omega):
        weights = [torch.ones(a.shape[1], dtype=a.dtype)]
        if omega is not None:
            weights.insert(0, column_weights(omega, ranks))
        left, right = torch.cat([old_a, a], 1).detach(), torch.cat([old_b, b]).detach()
        whole = compose(given["base"], left, right, torch.cat(weights).detach() * scale)
        part = Part((0, 4), ranks, a.shape[1], scale, omega is not None, observe)
        return LowRankLinear.apply(x, whole, given["bias"], [part], a, b, omega, left, right)

    return run


@pytest.mark.parametrize("dense_from", [0.0, 1e9], ids=["through dW", "through the factors"])
@pytest.mark.parametrize("ranks", [(), (2, 2), (1, 3, 2)])
def test_the_gradients_by_hand_are_those_of_finite_differences(monkeypatch, ranks, dense_from):
    monkeypatch.setattr(composition, "DENSE_FROM", dense_from)
    given = inputs(ranks)
    run = by_hand(given, ranks)
    assert torch.autograd.gradcheck(run, (given["x"], given["a"], given["b"], given["omega"]))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    ranks=st.lists(st.integers(1, 3), max_size=4).map(tuple),
    rank=st.integers(1, 3),
)
def test_both_ways_give_the_gradients_of_plain_autograd(seed, ranks, rank):
    given = inputs(ranks, seed=seed, rank=rank)
    leaves = [t for t in (given["x"], given["a"], given["b"], given["omega"]) if t is not None]
    old_a, old_b = given["old"]
    total = given["a"] @ given["b"]
    start = 0
    for number, own in enumerate(ranks):
        product = old_a[:, start : start + own] @ old_b[start : start + own]
        total, start = total + given["omega"][number] * product, start + own
    plain = given["x"] @ (given["base"].T + 0.5 * total) + given["bias"]
    expected = torch.autograd.grad(plain.square().sum(), leaves)
    for watching in (None, lambda weight, gradient: None):
        run = by_hand(given, ranks, watching)
        result = run(given["x"], given["a"], given["b"], given["omega"])
        torch.testing.assert_close(result, plain)
        found = torch.autograd.grad(result.square().sum(), leaves)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_what_is_observed_is_the_weight_and_its_gradient():
    given, seen = inputs((2,)), []
    run = by_hand(given, (2,), lambda weight, gradient: seen.append((weight, gradient)))
    run(given["x"], given["a"], given["b"], given["omega"]).square().sum().backward()
    ((weight, gradient),) = seen
    weight = weight.clone().requires_grad_()
    loss = torch.nn.functional.linear(given["x"].detach(), weight, given["bias"]).square().sum()
    loss.backward()
    torch.testing.assert_close(gradient, weight.grad)


@pytest.mark.parametrize("dense_from", [0.0, 0.55, 1e9])
@pytest.mark.parametrize("omega", [True, False])
def test_a_whole_net_has_the_gradients_of_its_parametrization(monkeypatch, omega, dense_from):
    monkeypatch.setattr(composition, "DENSE_FROM", dense_from)
    adapters = tiny_adapters(double=True, omega=omega)
    learn_task(adapters)
    learn_task(adapters, freeze=["0.v", "1.fc2"])
    adapters.begin_task([4, 5], seed=9)
    with torch.no_grad():
        for parameter in [*adapters.factors(), *adapters.omegas()]:
            parameter.add_(0.1 * torch.randn(parameter.shape, dtype=torch.float64))
    for name in ("0.v", "1.fc2"):  # the reference wants factors everywhere
        matrix = adapters.matrices[name]
        assert (matrix.a, matrix.b, matrix.omega) == (None, None, None)
        matrix.a = torch.nn.Parameter(torch.zeros_like(matrix.history_a[:, :2]))
        matrix.b = torch.nn.Parameter(torch.zeros_like(matrix.history_b[:2]))
    reference, places = reference_of(adapters)
    for name in ("0.v", "1.fc2"):
        adapters.matrices[name].a = adapters.matrices[name].b = None
    with torch.no_grad():
        for name, (own, number) in places.items():
            matrix = adapters.matrices[name]
            if matrix.omega is not None:
                own.omega[number].copy_(matrix.omega)
    x = images(double=True)
    adapters.model(x).square().sum().backward()
    reference(x).square().sum().backward()
    torch.testing.assert_close(adapters.model(x), reference(x))
    for name, matrix in adapters.matrices.items():
        own, number = places[name]
        pairs = [(matrix.a, own.a[number]), (matrix.b, own.b[number])]
        pairs.append((matrix.omega, own.omega[number]))
        for mine, theirs in pairs:
            if mine is not None:
                torch.testing.assert_close(mine.grad, theirs.grad)


def test_the_weight_that_other_code_reads_has_the_same_gradients():
    grads = []
    for read in (False, True):
        adapters = tiny_adapters(double=True)
        learn_task(adapters)
        adapters.begin_task([2, 3], seed=9)
        layer = adapters.layers[0]
        x = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        y = torch.nn.functional.linear(x, layer.weight, layer.bias) if read else layer(x)
        y.square().sum().backward()
        grads.append([p.grad for m in layer.parts for p in (m.a, m.b, m.omega)])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_a_task_begins_without_any_change_of_the_output():
    adapters = tiny_adapters()
    plain = answers(tiny_vit())
    assert torch.equal(answers(adapters.model), plain)
    adapters.begin_task([0, 1], seed=0)
    with torch.enable_grad():
        found = adapters.model(images())
    assert torch.equal(found.detach(), plain)


def test_answers_while_a_task_is_trained_follow_every_step():
    adapters = tiny_adapters()
    adapters.begin_task([0, 1], seed=0)
    for _ in range(2):
        before = answers(adapters.model)
        with torch.no_grad():
            for matrix in adapters.matrices.values():
                matrix.b.add_(0.3)
        after = answers(adapters.model)
        assert not torch.equal(before, after)
        with torch.enable_grad():
            torch.testing.assert_close(adapters.model(images()).detach(), after)


def test_lower_precision_gives_nearly_the_same_gradients():
    found = []
    for enabled in (False, True):
        adapters = tiny_adapters()
        learn_task(adapters)
        adapters.begin_task([2, 3], seed=1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = adapters.model(images()).float().square().mean()
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in adapters.factors()]))
    assert found[1].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.99


def test_only_the_present_task_and_the_last_layer_are_trained():
    adapters = tiny_adapters()
    learn_task(adapters)
    adapters.begin_task([2, 3], seed=0)
    trained = {id(p) for p in adapters.model.parameters() if p.requires_grad}
    given = [*adapters.factors(), *adapters.omegas(), *adapters.head.parameters()]
    assert trained == {id(p) for p in given}
    assert len(adapters.factors()) == 2 * len(adapters.matrices) == 2 * 2 * len(KINDS)
    assert all(p.shape == (1,) for p in adapters.omegas())
    assert sum(p.numel() for p in adapters.factors()) == 2 * sum(
        m.place.in_features + m.place.out_features for m in adapters.matrices.values()
    )


def test_an_open_task_answers_with_the_factors_of_the_last_step_of_a_fused_optimizer():
    # a fused optimizer leaves the version counters of what it changes as they are
    adapters = tiny_adapters()
    adapters.begin_task([0, 1], seed=5)
    optimizer = torch.optim.Adam(adapters.factors(), 0.1, fused=True)
    before = answers(adapters.model)
    for _ in range(2):
        optimizer.zero_grad()
        adapters.model(images()).square().mean().backward()
        optimizer.step()
    after = answers(adapters.model)
    assert not torch.equal(before, after)
    adapters.finish_task()
    assert torch.allclose(after, answers(adapters.model), atol=1e-5)
