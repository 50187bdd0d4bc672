"""The arms: where their net comes from, and how long it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relearn.errors import ParameterError, near_miss
from relearn.evaluation.config import BEST_ON_VALIDATION

if TYPE_CHECKING:
    from relearn.methods.grow.config import GrowConfig

GROWN, FRESH, TEACHER, PADDED, LAYERS = "grown", "fresh", "teacher", "padded", "layers"

CANDIDATES = ("scratch_total", "teacher_continued")
"""Cheap alternatives of which the best on validation is the baseline."""


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        name: Free label.
        start: Where its net comes from: ``grown`` keeps the teacher's function, ``fresh`` draws
            everything, ``teacher`` is the teacher itself, ``padded`` and ``layers`` draw what the
            teacher does not have.
        budget: ``steps``: as many steps as the student; ``student_flops``: as many FLOPs as the
            student; ``total_flops``: as many FLOPs as teacher and student together.
        distils: Whether the teacher's outputs are further targets.
    """

    name: str
    start: str
    budget: str = "steps"
    distils: bool = False

    @property
    def treated(self) -> bool:
        """Whether weights are changed outside the optimizer."""
        return self.start in (GROWN, PADDED, LAYERS)

    @property
    def inherits(self) -> bool:
        """Whether the teacher's training is part of its cost."""
        return self.start != FRESH or self.distils


_ALL = (
    Arm("scratch", FRESH),
    Arm("scratch_total", FRESH, "total_flops"),
    Arm("teacher_continued", TEACHER, "student_flops"),
    Arm("distilled", FRESH, distils=True),
    Arm("random_pad", PADDED),
    Arm("random_layers", LAYERS),
    Arm("grown", GROWN),
)


def arms_of(config: GrowConfig) -> dict[str, Arm]:
    """Return the arms that are switched on, by name, baselines before treatments.

    Args:
        config: Knobs of the method.

    Raises:
        ParameterError: An arm named under ``evidence`` is not switched on.
    """
    found = {arm.name: arm for arm in _ALL if getattr(config.arms, arm.name)}
    _require_named(config, found)
    return found


def arm_named(config: GrowConfig, name: str) -> Arm:
    """Return one arm.

    Args:
        config: Knobs of the method.
        name: Name of the arm.

    Raises:
        ParameterError: No arm of this name is switched on; a near miss is suggested.
    """
    arms = arms_of(config)
    if name not in arms:
        raise ParameterError(
            f"grow.arms: no arm {name!r} is switched on,{near_miss(name, arms)} "
            f"there are {', '.join(arms)}"
        )
    return arms[name]


def candidates_of(config: GrowConfig) -> tuple[str, ...]:
    """Return the arms of which the best on validation is the baseline.

    Args:
        config: ``evidence.baseline_arm`` names one arm, or the rule.
    """
    named = config.evidence.baseline_arm
    if named != BEST_ON_VALIDATION:
        return (named,)
    return tuple(arm for arm in CANDIDATES if arm in arms_of(config))


def epochs_of(arm: Arm, *, student_epochs: int, student: int, own: int, teacher: int) -> int:
    """Return the epochs an arm is trained; a remainder is rounded up, in favour of the arm.

    All three counts of FLOPs are of forward passes; a training step takes three times as many of
    each alike.

    Args:
        arm: The arm.
        student_epochs: Epochs of the student.
        student: FLOPs of one epoch of the student's forward passes.
        own: FLOPs of one epoch of the arm's own net.
        teacher: FLOPs of the teacher's whole training.
    """
    if arm.budget == "steps":
        return student_epochs
    spent = student_epochs * student + (teacher if arm.budget == "total_flops" else 0)
    return -(-spent // own)


def rate_factor(config: GrowConfig, arm: str) -> float:
    """Return the factor of an arm on ``train.learning_rate``.

    Args:
        config: Knobs of the method.
        arm: Name of the arm.
    """
    return float(getattr(config.rates, arm))


def _require_named(config: GrowConfig, arms: dict[str, Arm]) -> None:
    evidence = config.evidence
    wanted = {
        "baseline_arm": evidence.baseline_arm,
        "treated_arm": evidence.treated_arm,
        "sham_arm": evidence.sham_arm,
    }
    for field, name in wanted.items():
        if not name or name in arms:
            continue
        by_rule = field == "baseline_arm" and name == BEST_ON_VALIDATION
        if by_rule and set(CANDIDATES) & set(arms):
            continue
        raise ParameterError(
            f"grow.evidence.{field}: arm {name!r} is not switched on under grow.arms,"
            f"{near_miss(name, arms)} there are {', '.join(arms) or 'none'}"
        )
