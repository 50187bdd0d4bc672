from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attacked_nets import Attacked, linear, linear_distances, middling_ball
from torch import nn

from relearn.data.ball import Ball
from relearn.errors import DataError, EvidenceError
from relearn.evaluation.attacks.pgd import Pgd
from relearn.evaluation.attacks.scoring import (
    attacked_pixels,
    both_masks,
    correct_mask,
    robust_mask,
)
from relearn.evaluation.attacks.white_box import length, measuring
from relearn.evaluation.robustness import (
    bf16_difference,
    class_shares,
    clean_accuracy,
    corruption_accuracy,
    robust_accuracy,
    share,
    transfer_mask,
)
from relearn.models.normalised import NormalisedNet

BALLS = [Ball("linf", 0.1), Ball("l2", 0.6)]
both_norms = pytest.mark.parametrize("norm", ["linf", "l2"])
both_balls = pytest.mark.parametrize("ball", BALLS, ids=["linf", "l2"])


def pgd(ball: Ball, steps: int = 10, **more: object) -> Pgd:
    return replace(Pgd(ball.epsilon / 4, steps), **more)


def test_the_trained_net_is_good_without_an_attack(digits: Attacked) -> None:
    assert clean_accuracy(digits.model, digits.images, digits.labels) > 0.93


@both_balls
def test_both_masks_are_the_two_that_can_be_measured_apart(digits: Attacked, ball: Ball) -> None:
    images, labels = digits.images[:60], (digits.labels[:60] + (torch.arange(60) < 5)) % 10
    how: dict = {"attack": pgd(ball), "ball": ball, "seed": 3}

    clean, robust = both_masks(digits.model, images, labels, **how)

    assert torch.equal(clean, correct_mask(digits.model, images, labels))
    assert torch.equal(robust, robust_mask(digits.model, images, labels, **how))
    assert 0 < int(robust.sum()) < int(clean.sum()) < 60
    assert not bool((robust & ~clean).any())


@both_norms
def test_pgd_on_a_two_class_linear_net_leaves_what_the_formula_leaves(norm: str) -> None:
    attacked = linear(2)
    ball = middling_ball(attacked, norm)

    left = robust_mask(
        *(attacked.model, attacked.images, attacked.labels),
        attack=pgd(ball, 20),
        ball=ball,
        seed=0,
    )

    distances = linear_distances(attacked, norm) / ball.epsilon
    assert bool(left[distances > 1].all())
    assert not bool(left[distances < 0.99].any())


@both_norms
def test_no_pgd_fools_what_the_formula_calls_robust(norm: str) -> None:
    attacked = linear(7)
    ball = middling_ball(attacked, norm)
    safe = linear_distances(attacked, norm) > ball.epsilon

    left = robust_mask(
        *(attacked.model, attacked.images, attacked.labels),
        attack=pgd(ball, 20, restarts=3),
        ball=ball,
        seed=0,
    )

    assert bool(left[safe].all())
    # the cross-entropy of seven classes does not point at the nearest one
    assert share(left) <= share(safe) + 0.15


@both_balls
def test_attacked_images_stay_in_the_ball_and_in_the_range_of_pixels(
    digits: Attacked, ball: Ball
) -> None:
    points = attacked_pixels(
        *(digits.model, digits.images, digits.labels), attack=pgd(ball), ball=ball, seed=1
    )

    assert float(length(points - digits.pixels, ball.norm).max()) <= ball.epsilon + 1e-6
    assert float(points.min()) >= 0
    assert float(points.max()) <= 1


@both_balls
def test_a_sample_once_fooled_stays_fooled(digits: Attacked, ball: Ball) -> None:
    few, more = (
        robust_mask(
            *(digits.model, digits.images, digits.labels),
            attack=Pgd(ball.epsilon / 4, steps, stop_early=early),
            ball=ball,
            seed=1,
        )
        for steps, early in ((5, True), (12, True))
    )

    assert bool((more <= few).all())
    assert int(more.sum()) < int(few.sum())


@both_balls
def test_resting_fooled_samples_changes_no_verdict(digits: Attacked, ball: Ball) -> None:
    early, whole = (
        robust_mask(
            *(digits.model, digits.images, digits.labels),
            attack=pgd(ball, stop_early=early),
            ball=ball,
            seed=1,
        )
        for early in (True, False)
    )

    assert torch.equal(early, whole)


def test_an_attack_leaves_modes_weights_and_gradients_alone(digits: Attacked) -> None:
    model = digits.model
    model.zero_grad()  # a peer's attack, tested before, may have left gradients of weights
    model.train()
    model.model[1].eval()  # a frozen normalisation stays frozen
    before = {name: value.clone() for name, value in model.state_dict().items()}
    switch = torch.backends.mkldnn.matmul.fp32_precision
    ball = BALLS[0]

    robust_accuracy(*(model, digits.images, digits.labels), attack=pgd(ball, 2), ball=ball, seed=0)

    assert model.training
    assert not model.model[1].training
    model.eval()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.backends.mkldnn.matmul.fp32_precision == switch


def test_the_same_seed_gives_the_same_images_and_another_seed_others(digits: Attacked) -> None:
    ball = BALLS[0]
    first, again, other = (
        attacked_pixels(
            *(digits.model, digits.images, digits.labels), attack=pgd(ball, 2), ball=ball, seed=seed
        )
        for seed in (3, 3, 4)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_shares_of_the_classes_average_to_the_whole(digits: Attacked) -> None:
    mask = correct_mask(digits.model, digits.images, digits.labels, batch_size=50)
    shares = class_shares(mask, digits.labels, 11)
    count = digits.labels.bincount(minlength=11)

    assert bool(shares[10].isnan())
    assert float((shares[:10] * count[:10]).sum() / count.sum()) == pytest.approx(share(mask))


def test_transfer_from_the_net_itself_is_the_white_box_attack(digits: Attacked) -> None:
    ball = BALLS[0]
    own = transfer_mask(
        *(digits.model, digits.model, digits.images, digits.labels),
        attack=pgd(ball),
        ball=ball,
        seed=0,
    )
    white = robust_mask(
        *(digits.model, digits.images, digits.labels), attack=pgd(ball), ball=ball, seed=0
    )

    assert abs(share(own) - share(white)) < 0.05


def test_transfer_from_an_unrelated_net_is_weaker(digits: Attacked) -> None:
    ball = BALLS[0]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        stranger = NormalisedNet(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), [0.3], [0.35])
    given, own = (
        transfer_mask(
            *(digits.model, surrogate, digits.images, digits.labels),
            attack=pgd(ball),
            ball=ball,
            seed=0,
        )
        for surrogate in (stranger, digits.model)
    )

    assert share(given) > share(own) + 0.1


def test_bf16_differs_little_from_fp32(digits: Attacked) -> None:
    ball = BALLS[0]
    apart = bf16_difference(
        *(digits.model, digits.images, digits.labels), attack=pgd(ball), ball=ball, seed=0
    )

    assert abs(apart) < 0.1


def test_measuring_runs_the_net_in_fp32_inside_an_open_autocast(digits: Attacked) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outside = digits.model(digits.pixels).dtype
        with measuring(digits.model):
            inside = digits.model(digits.pixels).dtype

    assert (outside, inside) == (torch.bfloat16, torch.float32)


def test_half_precision_weights_are_refused(digits: Attacked) -> None:
    model = NormalisedNet(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).bfloat16(), [0.0], [1.0])

    with pytest.raises(EvidenceError, match=r"weights 'model\.1\.weight' are bfloat16"):
        clean_accuracy(model, digits.images, digits.labels)


def test_a_net_that_has_diverged_is_refused(digits: Attacked) -> None:
    model = NormalisedNet(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), [0.0], [1.0])
    with torch.no_grad():
        model.model[1].weight.fill_(torch.nan)

    with pytest.raises(EvidenceError, match="not finite"):
        clean_accuracy(model, digits.images, digits.labels)


def test_images_of_another_kind_are_refused(digits: Attacked) -> None:
    with pytest.raises(DataError, match="float32"):
        clean_accuracy(digits.model, digits.pixels, digits.labels)
    with pytest.raises(DataError, match="0 images"):
        clean_accuracy(digits.model, digits.images[:0], digits.labels[:0])


def test_corruption_accuracy_is_the_clean_accuracy_of_each_corruption(digits: Attacked) -> None:
    def corrupt(images: torch.Tensor, name: str, severity: int, *, seed: int) -> torch.Tensor:
        return images if name == "none" else images * 0

    told = corruption_accuracy(
        *(digits.model, digits.images, digits.labels),
        corrupt=corrupt,
        names=("none", "black"),
        severities=(1, 2),
        seed=0,
    )

    black = torch.zeros_like(digits.images)
    assert told["none", 2] == clean_accuracy(digits.model, digits.images, digits.labels)
    assert told["black", 1] == clean_accuracy(digits.model, black, digits.labels)
    assert len(told) == 4
