"""E2 and the transfer task: counts, frozen backbones, first weights of the head."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_zap import tiny_base, tiny_stream

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError
from relearn.methods.zap.few_shot import AdaptationCurve, few_shot_transfer
from relearn.methods.zap.transfer_task import (
    TransferHead,
    TransferTask,
    draw_transfer_task,
    logits_of,
    with_transfer_head,
)
from relearn.models.checkpoint import build
from relearn.models.heads import features


def task_of(pool: str = "transfer", *, classes: int = 3, seed: int = 0, name: str = "few_shot"):
    return draw_transfer_task(
        tiny_stream(), pool=pool, classes=classes, seed=seed, name=name, mean=(0.5,), std=(0.3,)
    )


def net():
    return build(tiny_base())


def state(module) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in module.state_dict().items()}


def same(one: dict, two: dict) -> bool:
    return all(torch.equal(one[n], two[n]) for n in one)


def test_a_task_is_sorted_by_class_in_drawn_order_and_balanced():
    task = task_of()
    assert task.support_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert task.query_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert task.support.shape == (12, 1, 8, 8)
    assert task.support.dtype == torch.float32


def test_a_task_is_a_function_of_seed_pool_and_name():
    assert torch.equal(task_of().support, task_of().support)
    others = [task_of(seed=1), task_of("selection"), task_of(name="continual")]
    assert not any(torch.equal(task_of().support, other.support) for other in others)


def test_support_and_query_of_a_task_are_of_the_same_classes_and_share_no_sample():
    stream, task = tiny_stream(), task_of()
    pixels = (task.support * 0.3 + 0.5) * 255
    stored = stream.split("transfer_support")
    for label in range(3):
        one = pixels[task.support_labels == label][0].round().byte()
        number = stored.labels[(stored.images == one).flatten(1).all(1)]
        query = (task.query[task.query_labels == label][0] * 0.3 + 0.5) * 255
        many = stream.split("transfer_query")
        found = many.labels[(many.images == query.round().byte()).flatten(1).all(1)]
        assert int(number) == int(found)
    both = torch.cat([task.support, task.query]).flatten(1)
    assert len(both.unique(dim=0)) == len(both)


def test_too_few_classes_name_the_parameter_and_the_remedy():
    with pytest.raises(ParameterError, match=r"zap\.transfer\.few_shot\.classes: 9 .*selection"):
        task_of("selection", classes=9)


@pytest.mark.parametrize("start", ["zero", "kaiming", "ridge"])
@pytest.mark.parametrize("outputs", [0, 8])
def test_the_head_fits_the_task_and_everything_else_is_a_copy(start, outputs):
    model, task = net().train(), task_of()
    before = state(model)
    made = with_transfer_head(model, task, TransferHead(start, outputs=outputs), seed=0)
    assert same(before, state(model))
    assert model.training
    assert not made.training
    assert made.head.weight.shape == (outputs or 3, 16)
    assert torch.equal(made.hidden[0].weight, model.hidden[0].weight)
    assert made.hidden[0].weight.data_ptr() != model.hidden[0].weight.data_ptr()


def test_zero_is_zero_and_kaiming_is_drawn_by_seed_with_its_scale():
    model, task = net(), task_of()
    zero = with_transfer_head(model, task, TransferHead("zero"), seed=0).head
    assert not bool(zero.weight.any() or zero.bias.any())
    wide = TransferHead("kaiming", outputs=2000)
    one, two, other = (with_transfer_head(model, task, wide, seed=s).head for s in (0, 0, 1))
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)
    assert float(one.weight.detach().std()) == pytest.approx((2 / 16) ** 0.5, rel=0.02)
    assert not bool(one.bias.any())


def test_the_ridge_head_solves_the_normal_equations_of_the_features():
    model, task = net(), task_of()
    made = with_transfer_head(model, task, TransferHead("ridge", penalty=0.1), seed=0)
    x = features(model, task.support).detach().double()
    y = torch.nn.functional.one_hot(task.support_labels, 3).double()
    xc, yc = x - x.mean(0), y - y.mean(0)
    scale = 0.1 * xc.square().sum() / len(x)
    weight = torch.linalg.solve(xc.T @ xc + scale * torch.eye(16), xc.T @ yc).T
    assert torch.allclose(made.head.weight.double(), weight, atol=1e-6)
    bias = y.mean(0) - weight @ x.mean(0)
    assert torch.allclose(made.head.bias.double(), bias, atol=1e-6)
    unused = with_transfer_head(model, task, TransferHead("ridge", outputs=5), seed=0).head
    assert not bool(unused.weight[3:].any())


def test_a_one_by_one_convolution_can_be_the_head_too():
    class Convolutional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Conv2d(1, 6, 3)
            self.classifier = torch.nn.Conv2d(6, 4, 1)

        def forward(self, x):
            return self.classifier(self.body(x).relu()).mean((2, 3))

    model, task = Convolutional(), task_of()
    for start in ("zero", "kaiming", "ridge"):
        made = with_transfer_head(model, task, TransferHead(start), seed=0)
        assert logits_of(made, task.query).shape == (12, 3)
        curve = few_shot_transfer(model, task, TransferHead(start), rate=0.01, seed=0)
        assert 0 <= curve.final <= 1


def test_bad_heads_are_refused():
    with pytest.raises(ParameterError, match=r"zap\.head_outputs: 2 is below the 3 classes"):
        with_transfer_head(net(), task_of(), TransferHead("zero", outputs=2), seed=0)
    with pytest.raises(ParameterError, match="'ones' is not a known start"):
        with_transfer_head(net(), task_of(), TransferHead("ones"), seed=0)


@pytest.mark.parametrize(
    ("epochs", "batch_size", "every", "steps"),
    [
        (1, 6, 0, (0, 2)),
        (1, 6, 1, (0, 1, 2)),
        (2, 5, 1, (0, 1, 2, 3, 4, 5, 6)),
        (2, 5, 2, (0, 2, 4, 6)),
        (2, 5, 4, (0, 4, 6)),
        (1, 100, 3, (0, 1)),
    ],
)
def test_the_curve_has_its_points_and_both_ends(epochs, batch_size, every, steps):
    curve = few_shot_transfer(
        net(),
        task_of(),
        TransferHead("zero"),
        rate=0.01,
        seed=0,
        epochs=epochs,
        batch_size=batch_size,
        evaluate_every=every,
    )
    assert curve.steps == steps
    assert len(curve.accuracy) == len(steps)


def by_hand(model, task: TransferTask, *, alone: bool):
    made = with_transfer_head(model, task, TransferHead("kaiming"), seed=3)
    trained = made.head if alone else made
    adam = torch.optim.Adam(trained.parameters(), lr=0.01)
    order = generator_of(3, "few_shot.order")
    for _ in range(2):
        for rows in torch.randperm(len(task.support), generator=order).split(5):
            adam.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                made(task.support[rows]), task.support_labels[rows]
            )
            loss.backward()
            adam.step()
    return made


@pytest.mark.parametrize("alone", [True, False])
def test_few_shot_transfer_is_a_plain_loop_and_keeps_the_input_model(alone):
    model, task = net(), task_of()
    before = state(model)
    expected = by_hand(model, task, alone=alone)
    curve = few_shot_transfer(
        model,
        task,
        TransferHead("kaiming", alone=alone),
        rate=0.01,
        seed=3,
        epochs=2,
        batch_size=5,
    )
    logits = logits_of(expected, task.query)
    assert torch.equal(curve.predicted, logits.argmax(1))
    assert curve.final == float((logits.argmax(1) == task.query_labels).double().mean())
    assert same(before, state(model))
    held = torch.equal(expected.hidden[0].weight, model.hidden[0].weight)
    assert held is alone


def test_batch_norm_statistics_are_those_of_pre_training():
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 4)
    )
    model[2].running_mean.normal_()
    model[2].running_var.uniform_(0.5, 2)
    before = copy.deepcopy(model.state_dict())
    few_shot_transfer(model, task_of(), TransferHead("zero"), rate=0.1, seed=0)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_steps_to_a_share_and_area_by_hand():
    curve = AdaptationCurve((0, 2, 4, 8), (0.0, 0.5, 0.75, 0.8), 1.0, torch.zeros(1))
    assert curve.final == 0.8
    assert curve.steps_to(0.9) == 4
    assert curve.steps_to(0.95) == 8
    assert curve.steps_to(0.1) == 2
    # trapezoids: 2 * .25 + 2 * .625 + 4 * .775, over 8 steps
    assert curve.area() == pytest.approx((0.5 + 1.25 + 3.1) / 8)
