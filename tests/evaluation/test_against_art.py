"""Our attacks beside those of the Adversarial Robustness Toolbox, on one net and in equal steps.

The draws differ, so that a few of the 120 samples turn: ``CHANCE`` is five of them. ART's Square
attack loses length in l2 where a square holds no change yet (it divides by zero), so that there
ours has only to be no weaker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relearn.data.ball import Ball
from relearn.evaluation.attacks.apgd import Apgd
from relearn.evaluation.attacks.ensemble import AutoAttack, run_auto_attack
from relearn.evaluation.attacks.fab import Fab
from relearn.evaluation.attacks.pgd import Pgd
from relearn.evaluation.attacks.scoring import correct_at, correct_mask, robust_mask
from relearn.evaluation.attacks.square import Square
from relearn.evaluation.attacks.white_box import Attack, is_fooled, length, logits_at
from relearn.evaluation.robustness import share

if TYPE_CHECKING:
    from attacked_nets import Attacked

CHANCE = 5 / 120
SHORT = AutoAttack(
    "short",
    (
        ("apgd_ce", Apgd(steps=20)),
        ("apgd_t", Apgd("targeted_logits_ratio", steps=20, targets=3)),
    ),
)
BALLS = [Ball("linf", 0.1), Ball("l2", 0.6)]
both_balls = pytest.mark.parametrize("ball", BALLS, ids=["linf", "l2"])
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*encountered in divide:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@dataclass(frozen=True)
class Toolbox:
    """ART's view of the net."""

    attacked: Attacked
    classifier: Any

    def run(self, kind: str, ball: Ball, **settings: Any) -> Tensor:
        """Return what one of ART's attacks leaves, bool, shape (n,)."""
        from art.attacks import evasion

        norm: Any = np.inf if ball.norm == "linf" else 2
        attack = getattr(evasion, kind)(
            self.classifier, norm=norm, eps=ball.epsilon, batch_size=256, verbose=False, **settings
        )
        return self.left(lambda: attack.generate(*self.data))

    @property
    def data(self) -> tuple[Any, Any]:
        return self.attacked.pixels.numpy(), self.attacked.labels.numpy()

    def left(self, generate: Callable[[], Any]) -> Tensor:
        points = torch.from_numpy(self.generated(generate))
        model, images, labels = self.attacked.model, self.attacked.images, self.attacked.labels
        return correct_mask(model, images, labels) & correct_at(model, points, labels)

    @staticmethod
    def generated(generate: Callable[[], Any]) -> Any:
        # ART draws from the global random numbers of both libraries
        state = np.random.get_state()  # noqa: NPY002
        with torch.random.fork_rng():
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002
            points = generate()
        np.random.set_state(state)  # noqa: NPY002
        return points


@pytest.fixture(scope="module")
def toolbox(digits: Attacked) -> Toolbox:
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        *(digits.model, nn.CrossEntropyLoss(), (1, 8, 8), 10),
        clip_values=(0, 1),
        device_type="cpu",
    )
    return Toolbox(digits, classifier)


def left_by(attack: Attack, attacked: Attacked, ball: Ball) -> Tensor:
    parts = (attacked.model, attacked.images, attacked.labels)
    return robust_mask(*parts, attack=attack, ball=ball, seed=0)


@both_balls
@pytest.mark.parametrize("restarts", [1, 3])
def test_pgd_leaves_what_arts_leaves(
    toolbox: Toolbox, digits: Attacked, ball: Ball, restarts: int
) -> None:
    ours = left_by(Pgd(ball.epsilon / 4, 20, restarts=restarts), digits, ball)

    theirs = toolbox.run(
        *("ProjectedGradientDescentPyTorch", ball),
        eps_step=ball.epsilon / 4,
        max_iter=20,
        num_random_init=restarts,
    )

    assert abs(share(ours) - share(theirs)) <= CHANCE


@both_balls
@pytest.mark.parametrize(
    ("loss", "name"),
    [("cross_entropy", "cross_entropy"), ("logits_ratio", "difference_logits_ratio")],
)
def test_auto_pgd_leaves_what_arts_leaves(
    toolbox: Toolbox, digits: Attacked, ball: Ball, loss: str, name: str
) -> None:
    ours = left_by(Apgd(loss, steps=30), digits, ball)

    theirs = toolbox.run(
        *("AutoProjectedGradientDescent", ball),
        eps_step=2 * ball.epsilon,
        max_iter=30,
        nb_random_init=1,
        loss_type=name,
    )

    assert abs(share(ours) - share(theirs)) <= CHANCE


@both_balls
def test_square_leaves_no_more_than_arts(toolbox: Toolbox, digits: Attacked, ball: Ball) -> None:
    ours = left_by(Square(60), digits, ball)

    theirs = toolbox.run("SquareAttack", ball, max_iter=60, p_init=0.8)

    assert share(ours) <= share(theirs) + CHANCE


def test_fab_finds_no_farther_points_than_arts_deepfool(toolbox: Toolbox, digits: Attacked) -> None:
    from art.attacks.evasion import DeepFool

    ours = Fab(steps=10).nearest(digits.model, digits.pixels, digits.labels, norm="l2")
    attack = DeepFool(
        toolbox.classifier, max_iter=20, epsilon=1e-6, nb_grads=10, batch_size=256, verbose=False
    )
    theirs = torch.from_numpy(toolbox.generated(lambda: attack.generate(toolbox.data[0])))

    model, labels = digits.model, digits.labels
    rows = correct_mask(model, digits.images, labels) & is_fooled(logits_at(model, theirs), labels)
    assert int(rows.sum()) > 100
    near, far = (length(points - digits.pixels, "l2")[rows] for points in (ours, theirs))
    assert float((near <= 1.01 * far).double().mean()) > 0.98
    assert float(near.mean()) > 0.7 * float(far.mean())


def test_a_short_cascade_leaves_no_more_than_arts_attacks_together(
    toolbox: Toolbox, digits: Attacked
) -> None:
    ball = BALLS[0]
    told = run_auto_attack(
        *(digits.model, digits.images, digits.labels),
        attacks=SHORT,
        ball=ball,
        seed=0,
    )

    settings = {"eps_step": 2 * ball.epsilon, "max_iter": 20, "nb_random_init": 1}
    theirs = [
        toolbox.run("AutoProjectedGradientDescent", ball, loss_type=name, **settings)
        for name in ("cross_entropy", "difference_logits_ratio")
    ]

    together = torch.stack(theirs).all(0)
    assert share(told.robust) <= share(together) + 1 / 120
    assert share(told.robust) >= share(together) - 2 * CHANCE
