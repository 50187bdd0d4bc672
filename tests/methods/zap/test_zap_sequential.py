"""E1: classes one after the other, against a plain loop with torch.optim.Adam."""

from __future__ import annotations

import itertools

import pytest
import torch
from tiny_zap import tiny_base, tiny_stream

from relearn.evaluation.classification import class_accuracy
from relearn.methods.zap.sequential import Setting, _learn, _Stack, sequential_transfer
from relearn.methods.zap.transfer_task import (
    TransferHead,
    draw_transfer_task,
    logits_of,
    with_transfer_head,
)
from relearn.models.checkpoint import Architecture, build, build_fresh

CLASSES = 4


def task_of(stream=None, *, classes: int = CLASSES):
    return draw_transfer_task(
        stream or tiny_stream(),
        pool="transfer",
        classes=classes,
        seed=0,
        name="continual",
        mean=(0.5,),
        std=(0.3,),
    )


def plain_loop(model, task, setting: Setting, *, seed: int):
    """Return the net and the accuracy matrix after the paper's protocol."""
    net = with_transfer_head(model, task, setting.head, seed=seed)
    trained = net.head if setting.head.alone else net
    adam = torch.optim.Adam(trained.parameters(), lr=setting.rate)
    rows = []
    for number in range(task.classes):
        for place in torch.nonzero(task.support_labels == number).flatten().tolist():
            adam.zero_grad()
            x, y = task.support[place : place + 1], task.support_labels[place : place + 1]
            torch.nn.functional.cross_entropy(net(x), y).backward()
            adam.step()
        rows.append(class_accuracy(logits_of(net, task.query), task.query_labels, task.classes))
    return net, torch.stack(rows)


SETTINGS = [
    Setting(TransferHead(start, outputs=outputs), rate)
    for start, rate, outputs in itertools.product(("zero", "kaiming"), (0.001, 0.01), (7,))
]


@pytest.mark.parametrize("alone", [False, True])
def test_each_setting_is_a_plain_adam_loop(alone):
    model, task = build(tiny_base()), task_of()
    settings = [Setting(TransferHead(s.head.start, 7, alone=alone), s.rate) for s in SETTINGS]
    stack = _Stack(model, task, settings, seed=2)
    side_by_side = _learn(stack, task, every=1)
    apart = sequential_transfer(model, task, settings, seed=2, evaluate_every=1)
    for number, setting in enumerate(settings):
        net, matrix = plain_loop(model, task, setting, seed=2)
        expected = torch.cat([p.detach().flatten() for p in net.parameters()])
        assert torch.allclose(stack.weights[number], expected, atol=2e-5)
        assert torch.equal(apart[number].matrix, matrix)
        assert torch.equal(side_by_side[number].matrix, matrix)


def test_a_convnet_learns_the_same_in_both_roads():
    stream = tiny_stream(22)
    net = build_fresh(Architecture("convnet3", 1, 22, 6, {"width": 4}), seed=1).eval()
    task = task_of(stream, classes=3)
    stack = _Stack(net, task, SETTINGS[:2], seed=0)
    learnt = _learn(stack, task, every=0)
    for found, setting in zip(learnt, SETTINGS[:2], strict=True):
        _, matrix = plain_loop(net, task, setting, seed=0)
        assert found.learnt == (3,)
        assert torch.allclose(found.matrix[0], matrix[-1], atol=0.26)  # one query of four
    tried = plain_loop(net, task, SETTINGS[0], seed=0)[0]
    expected = torch.cat([p.detach().flatten() for p in tried.parameters()])
    # Adam's first steps are sign(gradient): a rounding may turn a sign where the gradient is ~0
    close = (stack.weights[0] - expected).abs() < 1e-4
    assert float(close.float().mean()) > 0.98


def test_results_do_not_depend_on_who_runs_beside():
    model, task = build(tiny_base()), task_of()
    together = sequential_transfer(model, task, SETTINGS, seed=0, evaluate_every=1)
    for setting, beside in zip(SETTINGS, together, strict=True):
        (alone,) = sequential_transfer(model, task, [setting], seed=0, evaluate_every=1)
        assert torch.equal(alone.matrix, beside.matrix)
        assert alone.support_accuracy == beside.support_accuracy
        (stacked,) = _learn(_Stack(model, task, [setting], seed=0), task, every=1)
        assert torch.equal(stacked.matrix, beside.matrix)


def test_classes_are_learnt_in_the_given_order_one_pass_one_image_at_a_time():
    task = task_of()
    seen: list[tuple[int, int]] = []

    class Spy:
        def step(self, x, y):
            assert x.shape == (1, 1, 8, 8)
            place = (task.support == x).flatten(1).all(1).nonzero().item()
            seen.append((place, int(y)))

        def logits(self, images):
            return [torch.zeros(len(images), CLASSES)]

    _learn(Spy(), task, every=0)
    assert [place for place, _ in seen] == list(range(16))
    assert [label for _, label in seen] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize(
    ("every", "learnt"),
    [(0, (4,)), (1, (1, 2, 3, 4)), (2, (1, 2, 4)), (3, (1, 3, 4)), (9, (1, 4))],
)
def test_evaluations_come_after_the_first_class_now_and_then_and_last(every, learnt):
    model, task = build(tiny_base()), task_of()
    (found,) = sequential_transfer(model, task, SETTINGS[:1], seed=0, evaluate_every=every)
    assert found.learnt == learnt
    assert found.matrix.shape == (len(learnt), 4)
    assert found.matrix.dtype == torch.float64


def test_the_input_model_keeps_every_bit_and_its_mode():
    model, task = build(tiny_base()).train(), task_of()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    sequential_transfer(model, task, SETTINGS, seed=0)
    assert model.training
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_without_a_rate_to_speak_of_nothing_is_learnt():
    model, task = build(tiny_base()), task_of()
    tiny = Setting(TransferHead("zero"), 1e-12)
    (found,) = sequential_transfer(model, task, [tiny], seed=0)
    start = with_transfer_head(model, task, TransferHead("zero"), seed=0)
    assert float(logits_of(start, task.query).abs().max()) == 0
    assert found.matrix.sum() <= 4


def test_the_support_accuracy_is_the_mean_over_classes():
    model, task = build(tiny_base()), task_of()
    (found,) = sequential_transfer(model, task, [SETTINGS[1]], seed=0)
    net, _ = plain_loop(model, task, SETTINGS[1], seed=0)
    logits = logits_of(net, task.support)
    expected = class_accuracy(logits, task.support_labels, 4).mean()
    assert found.support_accuracy == pytest.approx(float(expected))
