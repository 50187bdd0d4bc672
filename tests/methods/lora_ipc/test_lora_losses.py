"""Losses of one task, and what holds a net to its past."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_lora import images, tiny_vit
from torch.nn import functional

from relearn.methods.lora_ipc.losses import Consolidation, PastLoss, TaskLoss, WithPast


def test_local_loss_has_no_gradient_for_other_classes_and_is_a_softmax_among_its_own():
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = torch.tensor([2, 4, 2, 2, 4])
    loss = TaskLoss((2, 4), outputs=6)(logits, labels)
    loss.backward()
    assert logits.grad is not None
    assert bool((logits.grad[:, [0, 1, 3, 5]] == 0).all())
    expected = -torch.log_softmax(logits[:, [2, 4]], 1)[range(5), [0, 1, 0, 0, 1]].mean()
    assert torch.isclose(loss, expected)


def test_label_smoothing_stays_among_the_classes_of_the_task():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([1, 3, 1, 3])
    found = TaskLoss((1, 3), outputs=5, label_smoothing=0.1)(logits, labels)
    expected = functional.cross_entropy(
        logits[:, [1, 3]], torch.tensor([0, 1, 0, 1]), label_smoothing=0.1
    )
    assert torch.isclose(found, expected)


def test_penalties_are_added():
    plain, held = TaskLoss((0, 1), outputs=2), TaskLoss((0, 1), outputs=2)
    held.penalties.append(lambda: torch.tensor(0.25))
    logits, labels = torch.zeros(1, 2), torch.tensor([1])
    assert float(held(logits, labels) - plain(logits, labels)) == pytest.approx(0.25)


def test_a_net_like_its_past_is_not_held_and_another_is():
    net = tiny_vit()
    loss = TaskLoss((2, 3), outputs=8)
    held = PastLoss(loss, (0, 1), weight=3.0, temperature=2.0)
    beside, labels = WithPast(net, copy.deepcopy(net)), torch.tensor([2, 3, 2, 3, 2, 3])
    same = beside(images())
    assert torch.isclose(held(same, labels), loss(same[0], labels), atol=1e-6)
    with torch.no_grad():
        net.get_parameter("head.weight").add_(
            0.3 * torch.randn(8, 16, generator=torch.Generator().manual_seed(3))
        )
    moved = beside(images())
    assert bool(held(moved, labels) > loss(moved[0], labels) + 1e-4)
    assert all(p.grad is None for p in beside._asked[0].parameters())


def test_the_penalty_is_zero_at_the_anchor_and_quadratic_in_each_weight():
    net = tiny_vit(double=True)
    held = Consolidation(net, 10.0)
    assert float(held.penalty()) == 0
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    held.add_task(images(double=True), labels, TaskLoss((0, 1), outputs=8))
    assert float(held.penalty()) == 0
    name = "head.bias"
    with torch.no_grad():
        net.get_parameter(name)[0] += 0.2
    expected = 10.0 / 2 * float(held.information[name][0]) * 0.2**2
    assert float(held.penalty()) == pytest.approx(expected)


def test_information_of_the_bias_is_the_mean_square_of_its_known_gradient():
    # d CE / d bias = softmax(logits) - one hot, for the classes of the task alone
    net = tiny_vit(double=True)
    x, labels = images(double=True), torch.tensor([0, 1, 1, 0, 1, 0])
    held = Consolidation(net, 1.0)
    held.add_task(x, labels, TaskLoss((0, 1), outputs=8))
    with torch.no_grad():
        share = torch.softmax(net(x)[:, :2], 1) - functional.one_hot(labels, 2)
    expected = torch.zeros(8, dtype=torch.float64)
    expected[:2] = share.square().mean(0)
    assert torch.allclose(held.information["head.bias"], expected)


def test_information_adds_up_over_tasks_and_comes_back_from_its_state():
    net = tiny_vit()
    held, labels = Consolidation(net, 1.0), torch.tensor([0, 1, 1, 0, 1, 0])
    loss = TaskLoss((0, 1), outputs=8)
    held.add_task(images(), labels, loss)
    once = {name: t.clone() for name, t in held.information.items()}
    held.add_task(images(), labels, loss)
    assert all(torch.allclose(held.information[name], 2 * t) for name, t in once.items())
    again = Consolidation(net, 1.0)
    again.restore(held.state())
    assert all(torch.equal(again.anchor[name], t) for name, t in held.anchor.items())
