"""Scores by their formula, exact numbers of frozen matrices, and the controls."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_lora import images, learn_task, tiny_adapters, train_steps

from relearn.errors import ParameterError, TrainingError
from relearn.methods.lora_ipc.importance import (
    GRADIENT_RULES,
    ImportanceWatch,
    choose_matrices,
    control_scores,
    freezes_after,
    is_watched,
    number_to_freeze,
)


def watched_steps(rule, *, steps=3, betas=(0.85, 0.85)):
    """Return the watch, and the weights and gradients of one matrix at each step."""
    adapters = tiny_adapters(kinds=("k", "fc1"))
    adapters.begin_task([0, 1], seed=1)
    watch = ImportanceWatch(adapters.matrices.values(), rule, betas)
    watch.turn_on()
    matrix, seen = adapters.matrices["1.k"], []
    own = matrix.observe

    def both(weight, gradient):
        seen.append((weight.clone(), gradient.clone()))
        own(weight, gradient)

    matrix.observe = both
    train_steps(adapters, steps)
    return watch, seen


def formula(rule, seen, first=0.85, second=0.85):
    sensitivity = [float((w * g).abs().mean()) for w, g in seen]
    average = uncertainty = 0.0
    for value in sensitivity:
        average = first * average + (1 - first) * value
        uncertainty = second * uncertainty + (1 - second) * abs(value - average)
    return {
        "sensitivity_uncertainty": average * uncertainty,
        "sensitivity": average,
        "fisher": sum(float((w * g).square().mean()) for w, g in seen) / len(seen),
        "gradient_norm": sum(float(g.norm()) for _, g in seen) / len(seen),
    }[rule]


@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_a_score_is_what_its_formula_says(rule):
    watch, seen = watched_steps(rule)
    assert len(seen) == 3
    assert watch.scores()["1.k"] == pytest.approx(formula(rule, seen), rel=1e-4)


def test_other_betas_give_other_scores():
    watch, seen = watched_steps("sensitivity_uncertainty", betas=(0.5, 0.2))
    expected = formula("sensitivity_uncertainty", seen, 0.5, 0.2)
    assert watch.scores()["1.k"] == pytest.approx(expected, rel=1e-4)


def test_the_gradient_that_is_watched_is_that_of_the_effective_weight():
    _, ((weight, gradient), *_) = watched_steps("sensitivity", steps=1)
    adapters = tiny_adapters(kinds=("k", "fc1"))
    layer = next(x for x in adapters.layers if x.parts[0].place.name == "1.k")
    torch.testing.assert_close(weight, layer.base_of(layer.parts[0]))
    layer.base_weight.requires_grad_(True)
    x, labels = images(8, seed=0), torch.tensor([0, 1]).repeat(4)
    net = adapters.model
    logits = net(x)[:, :2]
    linear = torch.nn.functional.linear
    # at rest the layer uses its weight without a graph, so it is put in by hand
    layer.forward = lambda x: linear(x, layer.base_weight, layer.bias)
    logits = net(x)[:, :2]
    torch.nn.functional.cross_entropy(logits, labels).backward()
    first, last = layer.parts[0].place.rows
    torch.testing.assert_close(gradient, layer.base_weight.grad[first:last])


def test_the_last_steps_alone_give_nearly_the_same_scores():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(300, generator=generator).tolist()

    def score(steps):
        average = uncertainty = 0.0
        for value in steps:
            average = 0.85 * average + 0.15 * value
            uncertainty = 0.85 * uncertainty + 0.15 * abs(value - average)
        return average * uncertainty

    window = [v for n, v in enumerate(values) if is_watched(n, steps=300, window=40)]
    assert len(window) == 40
    assert score(window) == pytest.approx(score(values), rel=0.01)


def test_watching_can_be_turned_off_and_frozen_matrices_are_not_scored():
    adapters = tiny_adapters(kinds=("q", "o"))
    learn_task(adapters, freeze=["0.q"])
    adapters.begin_task([2, 3], seed=1)
    watch = ImportanceWatch(adapters.matrices.values(), "sensitivity")
    with pytest.raises(TrainingError, match=r"no step was watched for 0\.o"):
        watch.scores()
    watch.turn_on()
    train_steps(adapters, 1)
    before = watch.scores()
    watch.turn_off()
    train_steps(adapters, 2)
    assert watch.scores() == before
    assert list(before) == ["0.o", "1.q", "1.o"]


def test_a_score_that_is_not_finite_is_refused():
    adapters = tiny_adapters(kinds=("q",))
    adapters.begin_task([0, 1], seed=1)
    watch = ImportanceWatch(adapters.matrices.values(), "sensitivity")
    watch.turn_on()
    (adapters.model(images()).square().sum() * math.inf).backward()
    with pytest.raises(TrainingError, match="lower the learning rate"):
        watch.scores()


def test_controls_look_at_nothing_but_order_and_seed():
    names = [f"{block}.{kind}" for block in range(3) for kind in "qk"]
    assert choose_matrices(control_scores(names, "sequential", task=4, seed=1), 3) == names[:3]
    drawn = [
        choose_matrices(control_scores(names, "random", task=task, seed=seed), 6)
        for task, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) == 3


@given(
    scores=st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 1), min_size=1),
    share=st.floats(0, 1),
)
def test_the_choice_is_exactly_the_highest_scores(scores, share):
    number = round(share * len(scores))
    chosen = choose_matrices(scores, number)
    assert len(chosen) == len(set(chosen)) == number
    left = [scores[name] for name in scores if name not in chosen]
    assert not left or not chosen or min(scores[name] for name in chosen) >= max(left)


def test_ties_are_broken_by_order_and_never_freeze_more():
    assert choose_matrices(dict.fromkeys("abcdef", 0.0), 2) == ["a", "b"]


@pytest.mark.parametrize(
    ("share", "total", "remaining", "counted", "rounding", "number"),
    [
        (0.05, 72, 72, "all", "nearest", 4),
        (0.05, 72, 72, "all", "down", 3),  # as the official code, int(0.05 * 72)
        (0.05, 24, 24, "all", "nearest", 1),
        (0.04, 24, 24, "all", "down", 1),  # 0.96: at least one
        (0.05, 50, 50, "all", "nearest", 2),  # 2.5: half to even
        (0.29, 100, 100, "all", "down", 29),  # 28.999... in binary
        (0.5, 24, 10, "remaining", "nearest", 5),
        (0.5, 24, 10, "all", "nearest", 10),
        (0.05, 24, 0, "all", "nearest", 0),
        (0.0, 24, 24, "all", "nearest", 0),
    ],
)
def test_a_share_becomes_a_number_by_the_stated_rule(
    share, total, remaining, counted, rounding, number
):
    found = number_to_freeze(
        share, total=total, remaining=remaining, counted=counted, rounding=rounding
    )
    assert found == number


def test_freezing_happens_after_the_tasks_that_were_said():
    tasks = range(6)
    assert [t for t in tasks if freezes_after(t, when="each_task")] == list(tasks)
    assert [t for t in tasks if freezes_after(t, when="first_task")] == [0]
    assert [t for t in tasks if freezes_after(t, when="every", every=2)] == [1, 3, 5]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: ImportanceWatch([], "random"), r"importance.rule: 'random' is not known"),
        (lambda: ImportanceWatch([], "fisher", (1.0, 0.5)), r"importance.beta1: got 1.0"),
        (lambda: ImportanceWatch([], "fisher", (0.5, -1)), r"importance.beta2: got -1"),
        (lambda: control_scores([], "fisher", task=0, seed=0), r"importance.rule: 'fisher'"),
        (lambda: number_to_freeze(1.0, total=3, remaining=3), r"freeze.share: got 1.0"),
        (
            lambda: number_to_freeze(0.1, total=3, remaining=3, counted="some"),
            r"freeze.counted: 'some'",
        ),
        (
            lambda: number_to_freeze(0.1, total=3, remaining=3, rounding="up"),
            r"freeze.rounding: 'up'",
        ),
        (lambda: freezes_after(0, when="never"), r"freeze.when: 'never'"),
        (lambda: freezes_after(0, when="every", every=0), r"freeze.every: got 0"),
    ],
)
def test_unusable_settings_are_refused(ask, says):
    with pytest.raises(ParameterError, match=says):
        ask()
