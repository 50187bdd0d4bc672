"""Which arms there are, and how long each is trained."""

from __future__ import annotations

import pytest
from tiny_grow import curve, plain, tiny_config, value

from relearn.errors import ParameterError
from relearn.methods.grow.arms import Arm, arm_named, arms_of, candidates_of, epochs_of


def test_only_what_is_switched_on_is_trained():
    assert list(arms_of(tiny_config())) == [
        "scratch",
        "scratch_total",
        "teacher_continued",
        "distilled",
        "random_pad",
        "grown",
    ]


@pytest.mark.parametrize("field", ["baseline_arm", "treated_arm", "sham_arm"])
def test_an_arm_that_evidence_names_must_be_switched_on(field):
    config = tiny_config(**{f"evidence__{field}": "random_layers"})
    with pytest.raises(ParameterError, match=f"grow.evidence.{field}"):
        arms_of(config)


def test_a_near_miss_is_suggested():
    with pytest.raises(ParameterError, match="did you mean grown"):
        arm_named(tiny_config(), "growm")


def test_the_rule_takes_cheap_alternatives_only_and_a_name_stands_alone():
    assert candidates_of(tiny_config()) == ("scratch_total", "teacher_continued")
    assert candidates_of(tiny_config(evidence__baseline_arm="scratch")) == ("scratch",)


@pytest.mark.parametrize(
    ("budget", "own", "epochs"),
    [
        ("steps", 7, 5),
        ("student_flops", 100, 5),
        ("student_flops", 30, 17),
        ("total_flops", 100, 8),
    ],
)
def test_a_budget_in_flops_becomes_whole_epochs_rounded_up(budget, own, epochs):
    arm = Arm("x", "fresh", budget)
    assert epochs_of(arm, student_epochs=5, student=100, own=own, teacher=230) == epochs


def test_arms_of_equal_flops_spend_at_least_what_the_grown_one_spends():
    spent = {
        arm: {r.metric: r.value for r in plain(arm).costs}
        for arm in ("grown", "scratch_total", "teacher_continued", "scratch")
    }
    total = spent["grown"]["train_flops"]
    for arm in ("scratch_total", "teacher_continued"):
        one_epoch = spent[arm]["student_train_flops"] / len(curve(plain(arm), "flops"))
        assert total <= spent[arm]["train_flops"] <= total + 3 * one_epoch
    assert spent["scratch"]["student_train_flops"] == spent["grown"]["student_train_flops"]
    assert spent["scratch"]["teacher_train_seconds"] == 0


def test_the_grown_arm_begins_where_its_teacher_ended_and_controls_do_not():
    assert value(plain("grown"), "start", "drift") == 0
    assert value(plain("teacher_continued"), "start", "drift") == 0
    assert value(plain("scratch"), "start", "drift") != 0
