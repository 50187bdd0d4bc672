"""Continual learning one setting after the other (CPU) and side by side (GPU): one mathematics."""

from __future__ import annotations

import copy

import pytest
import torch

from relearn.methods.zap.sequential import Setting, _learn, _Single, _Stack, sequential_transfer
from relearn.methods.zap.transfer_task import TransferHead, TransferTask, with_transfer_head
from relearn.models.checkpoint import Architecture, build_fresh

CLASSES, SHOTS = 4, 3
RATES = (1e-3, 3e-4)


@pytest.fixture
def net():
    return build_fresh(Architecture("convnet3", 1, 22, 7, {"width": 4}), seed=0).double()


@pytest.fixture
def task():
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(CLASSES * SHOTS, 1, 22, 22, generator=draw, dtype=torch.float64)
    labels = torch.arange(CLASSES).repeat_interleave(SHOTS)
    return TransferTask(images, labels, images.flip(-1), labels, CLASSES)


def settings(*, alone=False):
    # in float64 the two roads may differ by rounding alone, which Adam cannot blow up in 12 steps
    return [Setting(TransferHead("ridge", alone=alone), rate) for rate in RATES]


@pytest.mark.parametrize("alone", [False, True])
def test_settings_side_by_side_learn_what_each_learns_by_itself(net, task, alone):
    stack = _Stack(net, task, settings(alone=alone), seed=0)
    singles = [_Single(net, task, setting, seed=0) for setting in settings(alone=alone)]
    side_by_side = _learn(stack, task, every=2)
    by_itself = [r for single in singles for r in _learn(single, task, every=2)]
    for single, logits in zip(singles, stack.logits(task.query), strict=True):
        torch.testing.assert_close(single.logits(task.query)[0], logits.float())
    for one, other in zip(by_itself, side_by_side, strict=True):
        assert one.learnt == other.learnt == (1, 2, 4)
        assert torch.equal(one.matrix, other.matrix)
        assert one.support_accuracy == other.support_accuracy


def test_a_step_is_that_of_torchs_adam_bit_for_bit(net, task):
    setting = settings()[0]
    single = _Single(net, task, setting, seed=0)
    reference = with_transfer_head(net, task, setting.head, seed=0)
    optimizer = torch.optim.Adam(reference.parameters(), lr=setting.rate, fused=True)
    for row in range(len(task.support)):
        x, y = task.support[row : row + 1], task.support_labels[row : row + 1]
        single.step(x, y)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(reference(x), y).backward()
        optimizer.step()
    for found, expected in zip(single.net.parameters(), reference.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_head_that_is_trained_alone_leaves_the_backbone(net, task):
    setting = settings(alone=True)[0]
    single = _Single(net, task, setting, seed=0)
    before = copy.deepcopy(single.net.state_dict())
    _learn(single, task, every=0)
    changed = {k for k, v in single.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.weight", "head.bias"}


def test_each_setting_learns_from_the_same_start(net, task):
    both = sequential_transfer(net, task, settings(), seed=0, evaluate_every=1)
    alone = [sequential_transfer(net, task, [s], seed=0, evaluate_every=1)[0] for s in settings()]
    for one, other in zip(both, alone, strict=True):
        assert torch.equal(one.matrix, other.matrix)
