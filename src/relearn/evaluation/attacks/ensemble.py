"""AutoAttack: attacks in a row, each on the samples that the ones before it left standing.

References:
    Croce and Hein 2020, arXiv 2003.01690, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relearn.data.randomness import seed_of
from relearn.errors import ParameterError, one_of
from relearn.evaluation.attacks.apgd import Apgd
from relearn.evaluation.attacks.fab import Fab
from relearn.evaluation.attacks.scoring import BATCH, correct_mask, robust_mask
from relearn.evaluation.attacks.square import Square

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.ball import Ball
    from relearn.evaluation.attacks.white_box import Attack

VERSIONS = ("standard", "reduced")
_RATIO_CLASSES = 4  # that the targeted ratio of logits needs


@dataclass(frozen=True)
class AutoAttack:
    """The attacks of one version, in order.

    Attributes:
        version: ``standard``, or ``reduced``, which is weaker and must be named where it is shown.
        members: (name, settings) of each attack.
        notes: What differs from the version's definition for this number of classes; one line each.
    """

    version: str
    members: tuple[tuple[str, Attack], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cascade:
    """What AutoAttack left.

    Attributes:
        version: As in ``AutoAttack``.
        robust_after: Which samples were still right after each attack, by its name in order, bool,
            shape (n,), on the CPU; ``clean`` comes first.
        notes: As in ``AutoAttack``.
    """

    version: str
    robust_after: dict[str, Tensor]
    notes: tuple[str, ...]

    @property
    def robust(self) -> Tensor:
        """Which samples are right after all attacks, bool, shape (n,)."""
        return list(self.robust_after.values())[-1]

    @property
    def accuracies(self) -> dict[str, float]:
        """Robust accuracy after each attack, 0 to 1; ``clean`` first."""
        return {name: float(mask.double().mean()) for name, mask in self.robust_after.items()}


def auto_attack(version: str, classes: int) -> AutoAttack:
    """Return the attacks of a version.

    ``standard`` is APGD on the cross-entropy, APGD and FAB towards 9 targets (100 steps each) and
    Square with 5,000 queries; ``reduced`` is APGD on the cross-entropy and towards 3 targets.

    Args:
        version: ``standard`` or ``reduced``.
        classes: Logits of the net, 2 or more. There are at most ``classes`` - 1 targets. With
            fewer than 4 classes ``apgd_t`` has no ratio of logits: ``apgd_margin_t``, which climbs
            z_t - z_y, stands in its place, and a note says so.

    Raises:
        ParameterError: The version is not known, or there are fewer than 2 classes.
    """
    if version not in VERSIONS:
        raise one_of("forget_relearn.judging.auto_attack.version", version, VERSIONS)
    if classes < 2:
        raise ParameterError(f"data classes: got {classes}, expected 2 or more to attack a net")
    targets = min(9 if version == "standard" else 3, classes - 1)
    name, loss = "apgd_t", "targeted_logits_ratio"
    notes: tuple[str, ...] = ()
    if classes < _RATIO_CLASSES:
        name, loss = "apgd_margin_t", "targeted_margin"
        notes = (
            f"apgd_t needs {_RATIO_CLASSES} classes and there are {classes}: apgd_margin_t, on the "
            "difference of two logits, ran in its place",
        )
    members: tuple[tuple[str, Attack], ...] = (
        ("apgd_ce", Apgd()),
        (name, Apgd(loss, targets=targets)),
    )
    if version == "standard":
        members += (("fab_t", Fab(targets=targets)), ("square", Square()))
    return AutoAttack(version, members, notes)


def run_auto_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attacks: AutoAttack,
    ball: Ball,
    seed: int,
    batch_size: int = BATCH,
    minimum: int = 1,
) -> Cascade:
    """Return which samples are right after each attack; no attack sees what one before it fooled.

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        attacks: From ``auto_attack``, or any others.
        ball: Where the attacked images may lie.
        seed: Seed of everything random.
        batch_size: Images a pass.
        minimum: Samples below which the share would be told too coarsely.

    Raises:
        ParameterError: There are fewer samples than ``minimum``.
        DataError: As ``correct_mask``.
        EvidenceError: As ``robust_mask``.
    """
    if len(images) < minimum:
        raise ParameterError(
            f"forget_relearn.judging.auto_attack.images: got {len(images)}, expected "
            f"{minimum} or more; take more test images, or lower the minimum and say so"
        )
    standing = correct_mask(model, images, labels, batch_size=batch_size)
    robust_after = {"clean": standing}
    for name, attack in attacks.members:
        standing = standing.clone()
        rows = standing.nonzero().squeeze(1)
        if len(rows):
            standing[rows] = robust_mask(
                *(model, images[rows], labels[rows]),
                attack=attack,
                ball=ball,
                seed=seed_of(seed, f"auto_attack.{name}"),
                batch_size=batch_size,
            )
        robust_after[name] = standing
    return Cascade(attacks.version, robust_after, attacks.notes)
