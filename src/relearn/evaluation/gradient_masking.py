"""Three checks that a robust accuracy is no artefact of a gradient that leads nowhere.

Each compares two attacks on the same samples that were drawn independently, so that chance alone
can turn some of them: with d samples on which the two differ, the difference of the two counts has
standard deviation sqrt(d) where neither is better. Three times that is allowed, which is one false
alarm in about 700 checks.

References:
    Carlini et al. 2019, arXiv 1902.06705, section 5; Athalye et al. 2018, arXiv 1802.00420,
    section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relearn.data.ball import Ball
from relearn.data.randomness import seed_of
from relearn.errors import EvidenceError
from relearn.evaluation.attacks.pgd import Pgd
from relearn.evaluation.attacks.scoring import BATCH, robust_mask
from relearn.evaluation.attacks.square import Square
from relearn.evaluation.robustness import share

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.evaluation.attacks.white_box import Attack


@dataclass(frozen=True)
class MaskingChecks:
    """How hard the checks try.

    Attributes:
        few_steps: Steps of the attack that shall be the weaker one.
        many_steps: Steps of the stronger one.
        restarts: Restarts of the weaker one that shall be no weaker than one.
        queries: Forward passes of the black-box attack.
        huge_epsilon: Radius in linf at which every image can be turned into grey.
        huge_accuracy: Robust accuracy allowed there.
    """

    few_steps: int = 10
    many_steps: int = 50
    restarts: int = 5
    queries: int = 1000
    huge_epsilon: float = 0.5
    huge_accuracy: float = 0.05


@dataclass(frozen=True)
class Finding:
    """One check and how it came out.

    Attributes:
        name: ``more_steps``, ``more_restarts``, ``huge_ball`` or ``black_box``.
        value: What was measured: robust accuracy, or how much the attack that should be the
            stronger one leaves above the other.
        allowed: Largest value that is no sign of masking.
        says: The check in words.
    """

    name: str
    value: float
    allowed: float
    says: str

    @property
    def holds(self) -> bool:
        """Whether nothing speaks for masking."""
        return self.value <= self.allowed


def gradient_masking(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    ball: Ball,
    seed: int,
    batch_size: int = BATCH,
    checks: MaskingChecks | None = None,
) -> tuple[Finding, ...]:
    """Return the findings on more steps, more restarts, a huge ball and a black-box attack.

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        ball: The ball of the robust accuracy that is under suspicion.
        seed: Seed of everything random.
        batch_size: Images a pass.
        checks: How hard to try; None for the defaults.

    Raises:
        DataError: As ``robust_mask``.
        EvidenceError: As ``robust_mask``.
    """
    tried = checks or MaskingChecks()

    def left(name: str, attack: Attack, where: Ball) -> Tensor:
        # a door of its own for each: attacks that share their draws could not disagree
        door = seed_of(seed, f"gradient_masking.{name}")
        kept: dict[str, Any] = {"ball": where, "seed": door, "batch_size": batch_size}
        return robust_mask(model, images, labels, attack=attack, **kept)

    few = left("few", paced_pgd(ball, tried.few_steps), ball)
    many = left("many", paced_pgd(ball, tried.many_steps), ball)
    again = left("again", paced_pgd(ball, tried.few_steps, tried.restarts), ball)
    blind = left("blind", Square(tried.queries), ball)
    huge = Ball("linf", tried.huge_epsilon)
    grey = left("huge", paced_pgd(huge, tried.many_steps), huge)
    steps = f"{tried.many_steps} steps instead of {tried.few_steps} leave fewer samples"
    return (
        _compared("more_steps", few, many, steps),
        _compared("more_restarts", few, again, f"{tried.restarts} restarts leave fewer samples"),
        Finding(
            *("huge_ball", share(grey), tried.huge_accuracy),
            f"a ball of linf {tried.huge_epsilon:g} leaves about nothing",
        ),
        _compared("black_box", blind, many, "gradients leave fewer samples than blind search"),
    )


def paced_pgd(ball: Ball, steps: int, restarts: int = 1) -> Pgd:
    """Return PGD whose steps reach 2.5 radii together, so that each sample can cross the ball.

    Args:
        ball: Where the points may lie.
        steps: Steps of each restart.
        restarts: Starts of each sample.

    References:
        Madry et al. 2018, arXiv 1706.06083, section 5.1 (2.5 epsilon / steps).
    """
    return Pgd(2.5 * ball.epsilon / steps, steps, restarts)


def require_honest(findings: Sequence[Finding]) -> None:
    """Return if no finding speaks for masked gradients.

    Args:
        findings: From ``gradient_masking``.

    Raises:
        EvidenceError: A check failed; the line names each with its figures.
    """
    failed = [
        f"{found.name} (expected: {found.says}; got {found.value:+.3f}, allowed "
        f"{found.allowed:.3f})"
        for found in findings
        if not found.holds
    ]
    if failed:
        raise EvidenceError(
            f"gradient masking: {'; '.join(failed)}; the robust accuracy is not to be believed, "
            "measure with auto_attack and train with a stronger attack"
        )


def _compared(name: str, weaker: Tensor, stronger: Tensor, says: str) -> Finding:
    """Return whether the stronger attack leaves more than chance over the weaker one."""
    differ = int((weaker != stronger).sum())
    allowed = 3 * math.sqrt(differ) / len(weaker)
    return Finding(name, share(stronger) - share(weaker), allowed, says)
