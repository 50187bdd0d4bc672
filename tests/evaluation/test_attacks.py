from __future__ import annotations

import pytest
import torch
from attacked_nets import Attacked, linear, linear_distances, middling_ball
from scipy.optimize import linprog
from torch import Tensor, nn

from relearn.data.ball import Ball
from relearn.data.randomness import generator_of
from relearn.errors import EvidenceError, ParameterError
from relearn.evaluation.attacks.apgd import Apgd, checkpoints
from relearn.evaluation.attacks.fab import Fab, to_hyperplane
from relearn.evaluation.attacks.losses import (
    cross_entropy,
    likeliest_targets,
    logits_ratio,
    margin,
    targeted_logits_ratio,
)
from relearn.evaluation.attacks.pgd import Pgd
from relearn.evaluation.attacks.scoring import attacked_pixels, correct_mask, robust_mask
from relearn.evaluation.attacks.square import Square
from relearn.evaluation.attacks.square_moves import bumps
from relearn.evaluation.attacks.white_box import Attack, is_fooled, length, logits_at
from relearn.models.normalised import NormalisedNet

both_norms = pytest.mark.parametrize("norm", ["linf", "l2"])
WHITE_BOX = [
    *(Apgd(steps=50), Apgd("targeted_logits_ratio", 50), Apgd("targeted_margin", 50)),
    Fab(steps=10),
]
POINTS_AT_THE_NEAREST = WHITE_BOX[1:]
EVERY = [
    *(Apgd(steps=20), Apgd("targeted_logits_ratio", steps=10, targets=3), Fab(steps=5, targets=3)),
    *(Apgd("targeted_margin", 10, targets=3), Apgd("logits_ratio", 20), Square(300), Pgd(0.05, 10)),
]


def by_name(attack: Attack) -> str:
    return f"{type(attack).__name__}-{getattr(attack, 'loss', '')}"


def left_by(attack: Attack, attacked: Attacked, ball: Ball) -> Tensor:
    parts = (attacked.model, attacked.images, attacked.labels)
    return robust_mask(*parts, attack=attack, ball=ball, seed=0)


@both_norms
@pytest.mark.parametrize("attack", WHITE_BOX, ids=by_name)
def test_a_two_class_linear_net_keeps_what_the_formula_keeps(attack: Attack, norm: str) -> None:
    attacked = linear(2 if getattr(attack, "loss", "") != "targeted_logits_ratio" else 4)
    ball = middling_ball(attacked, norm)
    distances = linear_distances(attacked, norm) / ball.epsilon

    left = left_by(attack, attacked, ball)

    assert bool(left[distances > 1].all())
    assert not bool(left[distances < 0.995].any())


@both_norms
@pytest.mark.parametrize("attack", POINTS_AT_THE_NEAREST, ids=by_name)
def test_targeted_attacks_find_the_nearest_of_seven_classes(attack: Attack, norm: str) -> None:
    attacked = linear(7)
    ball = middling_ball(attacked, norm)
    distances = linear_distances(attacked, norm) / ball.epsilon

    left = left_by(attack, attacked, ball)

    assert bool(left[distances > 1].all())
    assert not bool(left[distances < 0.995].any())


@both_norms
@pytest.mark.parametrize("attack", EVERY, ids=by_name)
@pytest.mark.parametrize("net", ["linear", "digits"])
def test_no_attack_leaves_the_ball_or_the_range_of_pixels(
    attack: Attack, norm: str, net: str, digits: Attacked
) -> None:
    attacked = linear(5) if net == "linear" else digits
    ball = Ball(norm, 0.1 if norm == "linf" else 0.6)
    pixels = attacked.pixels[:60]

    points = attack.perturb(
        *(attacked.model, pixels, attacked.labels[:60]),
        ball=ball,
        generator=generator_of(0, "test"),
    )

    assert float(length(points - pixels, norm).max()) <= ball.epsilon + 1e-6
    assert float(points.min()) >= 0
    assert float(points.max()) <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_fools_nothing_that_the_formula_calls_robust(norm: str) -> None:
    attacked = linear(7)
    ball = middling_ball(attacked, norm)
    safe = linear_distances(attacked, norm) > ball.epsilon

    left = left_by(Square(400), attacked, ball)

    assert bool(left[safe].all())
    assert float(left[~safe].double().mean()) < 0.75


def test_square_finds_more_with_more_queries(digits: Attacked) -> None:
    ball = Ball("linf", 0.1)
    few, many = (int(left_by(Square(q), digits, ball).sum()) for q in (1, 300))

    assert many < few - 20


@both_norms
def test_auto_pgd_climbs_at_least_as_high_as_pgd_in_equal_steps(
    norm: str, digits: Attacked
) -> None:
    ball = Ball(norm, 0.1 if norm == "linf" else 0.6)
    heights = []
    for attack in (
        Apgd(steps=30, stop_early=False),
        Pgd(ball.epsilon / 4, 30, stop_early=False),
        Pgd(ball.epsilon / 10, 30, stop_early=False),
    ):
        points = attacked_pixels(
            *(digits.model, digits.images, digits.labels), attack=attack, ball=ball, seed=0
        )
        logits = logits_at(digits.model, points)
        heights.append(float(cross_entropy(logits, digits.labels, digits.labels).mean()))

    assert heights[0] >= max(heights[1:])


class Hill(nn.Module):
    """A net whose cross-entropy for label 0 has its only maximum at one point of the range."""

    def __init__(self, top: Tensor) -> None:
        super().__init__()
        self.top = nn.Parameter(top)

    def forward(self, pixels: Tensor) -> Tensor:
        height = -(pixels - self.top).square().flatten(1).sum(1)
        return torch.stack([torch.zeros_like(height), height], dim=1)


@both_norms
def test_auto_pgd_comes_to_rest_on_an_inner_maximum_where_pgd_goes_to_and_fro(norm: str) -> None:
    ball = Ball(norm, 0.2)
    pixels = torch.full((3, 1, 4, 4), 0.5)
    away = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = Hill(0.5 + 0.1 * away / length(away.unsqueeze(0), norm))
    rests = {}
    for attack in (Apgd(stop_early=False), Pgd(0.05, 100, stop_early=False)):
        points = attack.perturb(
            *(model, pixels, torch.zeros(3, dtype=torch.int64)),
            ball=ball,
            generator=generator_of(0, "test"),
        )
        rests[type(attack).__name__] = float(length(points - model.top.detach(), norm).max())

    assert rests["Apgd"] < 0.005
    assert rests["Apgd"] < rests["Pgd"] / 3


def test_the_checkpoints_are_those_of_the_paper() -> None:
    # p = 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 by the recursion of section 3.1
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(100).values()) == [0, 22, 41, 57, 70, 80, 87, 93]


@both_norms
def test_fab_finds_the_smallest_perturbation_of_a_linear_net(norm: str) -> None:
    attacked = linear(7)

    points = Fab(steps=10).nearest(*(attacked.model, attacked.pixels, attacked.labels), norm=norm)

    found = length(points - attacked.pixels, norm).double()
    assert bool(is_fooled(logits_at(attacked.model, points), attacked.labels).all())
    ratio = found / linear_distances(attacked, norm)
    assert float(ratio.median()) < 1.0005
    assert float(ratio.max()) < 1.01
    assert float(ratio.min()) > 0.999


def test_fab_finds_what_a_grid_over_two_pixels_finds() -> None:
    generator = torch.Generator().manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model = NormalisedNet(net, [0.5], [0.25])
    pixels = torch.rand(40, 1, 1, 2, generator=generator)
    labels = logits_at(model, pixels).argmax(1)
    side = torch.linspace(0, 1, 401)
    grid = torch.cartesian_prod(side, side).view(-1, 1, 1, 2)
    classes = logits_at(model, grid).argmax(1)
    away = torch.cdist(pixels.flatten(1), grid.flatten(1))
    away[labels.unsqueeze(1) == classes.unsqueeze(0)] = torch.inf
    truth = away.amin(1)

    points = Fab(steps=50, targets=2).nearest(model, pixels, labels, norm="l2")
    found = length(points - pixels, "l2")

    known = truth.isfinite()
    assert bool((found[known] > truth[known] - 0.004).all())  # half a cell's diagonal
    assert float((found[known] <= truth[known] * 1.05 + 0.002).double().mean()) > 0.9


@both_norms
def test_the_way_to_a_hyperplane_is_as_short_as_a_solver_finds(norm: str) -> None:
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(30, 1, 3, 3, generator=generator)
    slope = torch.randn(30, 1, 3, 3, generator=generator)
    slope[:, :, 0, 0] = 0.0
    rise = 2.5 * torch.randn(30, generator=generator)

    change = to_hyperplane(points, slope, rise, norm)

    reached = (change * slope).flatten(1).sum(1)
    ends = (points + change).flatten(1)
    assert float(ends.min()) >= -1e-6
    assert float(ends.max()) <= 1 + 1e-6
    rows = zip(points.flatten(1), slope.flatten(1), rise, change.flatten(1), reached, strict=True)
    for point, across, wanted, moved, got in rows:
        most = float(torch.where(across * wanted > 0, (1 - point), point) @ across.abs())
        if most < abs(float(wanted)):
            assert abs(float(got)) == pytest.approx(most, abs=1e-4)
            continue
        assert float(got) == pytest.approx(float(wanted), abs=1e-4)
        if norm == "linf":
            assert float(moved.abs().max()) == pytest.approx(
                shortest(point, across, wanted), abs=1e-4
            )
        else:
            assert_stationary(point, across, moved)


def shortest(point: Tensor, slope: Tensor, rise: Tensor) -> float:
    """Return the smallest linf change, by linear programming."""
    size = len(point)
    rows = torch.cat([torch.eye(size), -torch.eye(size)])
    upper = torch.cat([rows, -torch.ones(2 * size, 1)], dim=1)
    bounds = [(-float(p), 1 - float(p)) for p in point] + [(0, None)]
    done = linprog(
        [0.0] * size + [1.0],
        A_ub=upper.numpy(),
        b_ub=[0.0] * (2 * size),
        A_eq=[[*slope.tolist(), 0.0]],
        b_eq=[float(rise)],
        bounds=bounds,
    )
    return float(done.fun)


def assert_stationary(point: Tensor, slope: Tensor, moved: Tensor) -> None:
    """Require the optimality conditions of the l2 projection: pixels inside share a multiplier."""
    inside = ((point + moved) > 1e-5) & ((point + moved) < 1 - 1e-5) & (slope != 0)
    multipliers = moved[inside] / slope[inside]
    if len(multipliers):
        assert float(multipliers.max() - multipliers.min()) < 1e-4
        held = ~inside & (slope != 0)
        assert bool((moved[held].abs() <= (slope[held] * multipliers[0]).abs() + 1e-4).all())


def test_the_margin_is_positive_exactly_where_the_net_is_wrong() -> None:
    logits = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 6

    assert torch.equal(margin(logits, labels) > 0, is_fooled(logits, labels))


def test_the_ratio_losses_do_not_know_the_scale_of_the_logits() -> None:
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 6
    targets = (labels + 1) % 6

    for loss in (logits_ratio, targeted_logits_ratio):
        one, other = (loss(scale * logits, labels, targets) for scale in (1.0, 500.0))
        assert torch.allclose(one, other, atol=1e-5)


def test_the_ratio_losses_by_hand() -> None:
    logits = torch.tensor([[5.0, 3.0, 2.0, 1.0]])
    label, target = torch.tensor([0]), torch.tensor([2])

    assert float(logits_ratio(logits, label, target)) == pytest.approx((3 - 5) / (5 - 2))
    told = targeted_logits_ratio(logits, label, target)
    assert float(told) == pytest.approx((2 - 5) / (5 - (2 + 1) / 2))


def test_targets_are_the_likeliest_classes_without_the_label() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0]])

    assert likeliest_targets(logits, torch.tensor([1]), 2).tolist() == [[2, 3]]
    assert likeliest_targets(logits, torch.tensor([0]), 9).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("side", [1, 2, 3, 8, 13])
def test_bumps_have_length_one_and_two_signs(side: int) -> None:
    window = bumps(side)

    assert window.shape == (side, side)
    assert float(window.norm()) == pytest.approx(1.0)
    assert side == 1 or (float(window.max()) > 0 > float(window.min()))


def test_a_loss_for_more_classes_than_there_are_is_refused() -> None:
    attacked = linear(3)

    with pytest.raises(EvidenceError, match="needs 4 classes, the net has 3"):
        left_by(Apgd("targeted_logits_ratio"), attacked, Ball("linf", 0.1))
    with pytest.raises(ParameterError, match="did you mean cross_entropy"):
        left_by(Apgd("cross_entrop"), attacked, Ball("linf", 0.1))


def test_an_image_that_is_wrong_without_an_attack_is_never_robust(digits: Attacked) -> None:
    labels = (digits.labels + 1) % 10
    left = left_by(Fab(steps=1), Attacked(digits.model, digits.images, labels), Ball("linf", 1e-6))

    assert torch.equal(left, correct_mask(digits.model, digits.images, labels))
