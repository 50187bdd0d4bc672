"""Accuracy on stored images, and the care taken of the net that is judged."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from relearn.evaluation.classification import accuracy_of, class_accuracy, evaluating, predict

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 2.0], [5.0, 1.0, 2.0]])


def test_accuracy_counts_the_largest_logit():
    assert accuracy_of(LOGITS, torch.tensor([0, 1, 2, 2])) == 0.75
    assert accuracy_of(LOGITS, torch.tensor([1, 0, 0, 1])) == 0.0


def test_class_accuracy_is_inside_each_class_and_absent_classes_have_none():
    found = class_accuracy(LOGITS, torch.tensor([0, 1, 2, 2]), 4)
    assert found[:3].tolist() == [1.0, 1.0, 0.5]
    assert math.isnan(float(found[3]))
    assert found.dtype == torch.float64


def test_class_accuracies_of_equal_classes_average_to_the_accuracy():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 7, generator=draw)
    labels = torch.arange(6).repeat(10)
    mean = float(class_accuracy(logits, labels, 6).mean())
    assert mean == pytest.approx(accuracy_of(logits, labels))


@pytest.fixture
def net():
    made = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
    made[2].running_mean.normal_()
    made[2].running_var.uniform_(0.5, 2.0)
    return made


@pytest.mark.parametrize("training", [True, False])
def test_predicting_keeps_mode_statistics_and_weights(net, training):
    net.train(training)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    images = torch.randint(0, 256, (11, 1, 4, 4), dtype=torch.uint8)
    logits = predict(net, images, mean=(0.5,), std=(0.2,))
    assert net.training is training
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())
    assert not logits.requires_grad
    net.eval()
    expected = net((images.float() / 255 - 0.5) / 0.2)
    assert torch.allclose(logits, expected, atol=1e-5)


def test_the_batch_size_does_not_change_the_prediction(net):
    images = torch.randint(0, 256, (23, 1, 4, 4), dtype=torch.uint8)
    whole, parts = (
        predict(net, images, mean=(0.5,), std=(0.2,), batch_size=size) for size in (512, 4)
    )
    assert torch.allclose(whole, parts, atol=1e-6)


def test_the_mode_comes_back_even_after_an_error(net):
    net.train()

    def fails():
        with evaluating(net):
            assert not torch.is_grad_enabled()
            assert not net.training
            raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        fails()
    assert net.training
    assert torch.is_grad_enabled()
