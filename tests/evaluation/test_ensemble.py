from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from attacked_nets import Attacked, linear, linear_distances, middling_ball

from relearn.data.ball import Ball
from relearn.errors import ParameterError
from relearn.evaluation.attacks.apgd import Apgd
from relearn.evaluation.attacks.ensemble import AutoAttack, Cascade, auto_attack, run_auto_attack
from relearn.evaluation.attacks.fab import Fab
from relearn.evaluation.attacks.scoring import robust_mask
from relearn.evaluation.attacks.square import Square

QUICK = AutoAttack(
    "quick",
    (
        ("apgd_ce", Apgd(steps=15)),
        ("apgd_t", Apgd("targeted_logits_ratio", steps=15, targets=3)),
        ("fab_t", Fab(steps=5, targets=3)),
        ("square", Square(80)),
    ),
)


def run(attacked: Attacked, attacks: AutoAttack, ball: Ball, **more: int) -> Cascade:
    parts = (attacked.model, attacked.images, attacked.labels)
    return run_auto_attack(*parts, attacks=attacks, ball=ball, seed=0, **more)


@pytest.mark.parametrize("ball", [Ball("linf", 0.1), Ball("l2", 0.6)], ids=["linf", "l2"])
def test_the_cascade_leaves_no_more_than_any_member(digits: Attacked, ball: Ball) -> None:
    left = run(digits, QUICK, ball).robust

    for _, attack in QUICK.members:
        alone = robust_mask(
            *(digits.model, digits.images, digits.labels), attack=attack, ball=ball, seed=0
        )
        # the members draw anew in the cascade, which turns a sample or two
        assert int(left.sum()) <= int(alone.sum()) + 2


def test_samples_fall_and_do_not_rise_again(digits: Attacked) -> None:
    told = run(digits, QUICK, Ball("linf", 0.1))

    masks = list(told.robust_after.values())
    assert list(told.robust_after) == ["clean", "apgd_ce", "apgd_t", "fab_t", "square"]
    for before, after in pairwise(masks):
        assert bool((after <= before).all())
    assert told.accuracies["square"] == pytest.approx(float(told.robust.double().mean()))


def test_the_reduced_version_on_a_linear_net_leaves_what_the_formula_leaves() -> None:
    attacked = linear(4)
    ball = middling_ball(attacked, "linf")
    distances = linear_distances(attacked, "linf") / ball.epsilon

    left = run(attacked, auto_attack("reduced", 4), ball).robust

    assert bool(left[distances > 1].all())
    assert not bool(left[distances < 0.995].any())


def test_the_standard_version_has_the_settings_of_the_paper() -> None:
    members = dict(auto_attack("standard", 10).members)

    assert list(members) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert members["apgd_t"] == Apgd("targeted_logits_ratio", steps=100, restarts=1, targets=9)
    assert members["fab_t"] == Fab(steps=100, targets=9)
    assert members["square"] == Square(queries=5000)
    assert dict(auto_attack("standard", 5).members)["fab_t"] == Fab(targets=4)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_change_the_targeted_loss_and_the_result_says_so(classes: int) -> None:
    attacked = linear(classes)
    told = run(attacked, auto_attack("reduced", classes), middling_ball(attacked, "linf"))

    assert list(told.robust_after) == ["clean", "apgd_ce", "apgd_margin_t"]
    assert f"there are {classes}: apgd_margin_t" in told.notes[0]
    assert auto_attack("reduced", 4).notes == ()


def test_too_few_samples_name_the_parameter(digits: Attacked) -> None:
    with pytest.raises(ParameterError, match=r"^forget_relearn\.judging\.auto_attack\.images:"):
        run(digits, QUICK, Ball("linf", 0.1), minimum=500)


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ParameterError, match="did you mean standard"):
        auto_attack("standart", 10)
    with pytest.raises(ParameterError, match="2 or more"):
        auto_attack("standard", 1)


def test_a_net_without_a_right_sample_is_attacked_no_further(digits: Attacked) -> None:
    wrong = Attacked(digits.model, digits.images, (digits.labels + 1) % 10)
    keep = ~run(wrong, AutoAttack("none", ()), Ball("linf", 0.1)).robust
    wrong = Attacked(digits.model, digits.images[keep], wrong.labels[keep])

    told = run(wrong, QUICK, Ball("linf", 0.1))

    assert not bool(torch.stack(list(told.robust_after.values())).any())
