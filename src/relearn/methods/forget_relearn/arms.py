"""What is trained, and which models each training delivers: the arms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError, near_miss
from relearn.methods.forget_relearn.config import BEST_ON_VALIDATION

if TYPE_CHECKING:
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.methods.forget_relearn.cycle_config import (
        CycleConfig,
        ForgetConfig,
        RelearnConfig,
    )

LAST, BEST = "last", "best"
AVERAGE, AVERAGE_BEST = "average", "average_best"
STABLE, STABLE_BEST = "stable", "stable_best"

CANDIDATES = ("pgd_at_stopped", "pgd_at_ema", "pgd_at_ema_stopped", "awp", "awp_stopped")
"""Cheap alternatives of which the best on validation is the baseline."""


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: Free label.
        deliveries: Arm to the model it is: one of the constants above.
        cycle: When it forgets; None for plain adversarial training.
        forget: What it forgets.
        relearn: How it is held to the stable model.
        stable: Whether it keeps a stable model.
        average: Whether it keeps a moving average.
        perturbed: Whether its weights are perturbed adversarially.
    """

    name: str
    deliveries: dict[str, str]
    cycle: CycleConfig | None
    forget: ForgetConfig
    relearn: RelearnConfig
    stable: bool = False
    average: bool = False
    perturbed: bool = False

    @property
    def treated(self) -> bool:
        """Whether its weights are changed outside the optimizer, be it by a share of zero."""
        return self.cycle is not None


def trainings_of(config: ForgetRelearnConfig) -> dict[str, Training]:
    """Return the trainings that the configuration asks for, by name, baselines first.

    Args:
        config: ``compare: arms`` gives the trainings switched on; a study gives plain adversarial
            training and one training for each variant.

    Raises:
        ParameterError: An arm named under ``evidence`` is delivered by no training.
    """
    if config.compare == "arms":
        chosen = [t for t in _all(config) if getattr(config.trainings, t.name)]
    else:
        variants = {
            "layers": _layers,
            "fraction_length": _fraction_length,
            "components": _components,
        }[config.compare]
        chosen = [_plain(config), *variants(config)]
    found = {training.name: training for training in chosen}
    if config.compare == "arms":
        _require_named(config, found)
    return found


def training_of(config: ForgetRelearnConfig, arm: str) -> Training:
    """Return the training that delivers an arm.

    Args:
        config: Knobs of the method.
        arm: Name of the arm.

    Raises:
        ParameterError: No training of this configuration delivers it; a near miss is suggested.
    """
    by_arm = {name: t for t in trainings_of(config).values() for name in t.deliveries}
    if arm not in by_arm:
        raise ParameterError(
            f"forget_relearn.trainings: no training delivers an arm {arm!r},"
            f"{near_miss(arm, by_arm)} there are {', '.join(by_arm)}"
        )
    return by_arm[arm]


def arms_of(config: ForgetRelearnConfig) -> tuple[str, ...]:
    """Return the names of all arms, baselines first."""
    return tuple(arm for t in trainings_of(config).values() for arm in t.deliveries)


def candidates_of(config: ForgetRelearnConfig) -> tuple[str, ...]:
    """Return the arms of which the best on validation is the baseline.

    Args:
        config: ``evidence.baseline_arm`` names one arm, or the rule.
    """
    named = config.evidence.baseline_arm
    if config.compare == "arms" and named != BEST_ON_VALIDATION:
        return (named,)
    return tuple(arm for arm in CANDIDATES if arm in arms_of(config))


def _all(config: ForgetRelearnConfig) -> list[Training]:
    return [
        _plain(config),
        _perturbed(config),
        _share_zero(config),
        _method(config),
        _early(config),
        _forget_only(config),
        _stable_only(config),
        _forget_stable(config),
    ]


def _plain(config: ForgetRelearnConfig) -> Training:
    return Training(
        name="pgd_at",
        deliveries={
            "pgd_at": LAST,
            "pgd_at_stopped": BEST,
            "pgd_at_ema": AVERAGE,
            "pgd_at_ema_stopped": AVERAGE_BEST,
        },
        cycle=None,
        forget=config.forget,
        relearn=config.relearn,
        average=True,
    )


def _perturbed(config: ForgetRelearnConfig) -> Training:
    return replace(
        _plain(config),
        name="awp",
        deliveries={"awp": LAST, "awp_stopped": BEST},
        average=False,
        perturbed=True,
    )


def _method(config: ForgetRelearnConfig) -> Training:
    return Training(
        name="forget_relearn",
        deliveries={
            "forget_relearn": STABLE,
            "forget_relearn_student": LAST,
            "forget_relearn_stopped": STABLE_BEST,
        },
        cycle=config.cycle,
        forget=config.forget,
        relearn=config.relearn,
        stable=True,
    )


def _variant(config: ForgetRelearnConfig, name: str, **forget: Any) -> Training:
    return replace(
        _method(config),
        name=name,
        deliveries={name: STABLE},
        forget=config.forget.model_copy(update=forget),
    )


def _no_own_shares(config: ForgetRelearnConfig) -> Any:
    fractions = config.forget.fractions
    return fractions.model_copy(update=dict.fromkeys(type(fractions).model_fields))


def _share_zero(config: ForgetRelearnConfig) -> Training:
    return _variant(config, "share_zero", fraction=0.0, fractions=_no_own_shares(config))


def _early(config: ForgetRelearnConfig) -> Training:
    return _variant(
        config,
        "forget_early",
        layers="early",
        allow_early=True,
        fractions=_no_own_shares(config),
    )


def _forget_only(config: ForgetRelearnConfig) -> Training:
    return replace(
        _variant(config, "forget_only"),
        deliveries={"forget_only": LAST},
        stable=False,
        relearn=_inconsistent(config),
    )


def _stable_only(config: ForgetRelearnConfig) -> Training:
    return replace(
        _share_zero(config),
        name="stable_only",
        deliveries={"stable_only": STABLE},
        relearn=_inconsistent(config),
    )


def _forget_stable(config: ForgetRelearnConfig) -> Training:
    return replace(_variant(config, "forget_stable"), relearn=_inconsistent(config))


def _inconsistent(config: ForgetRelearnConfig) -> RelearnConfig:
    return config.relearn.model_copy(update={"consistency": "none"})


def _layers(config: ForgetRelearnConfig) -> list[Training]:
    own = _no_own_shares(config)
    return [
        _variant(config, f"layers_{group}", layers=group, allow_early=True, fractions=own)
        for group in ("early", "middle", "late", "head", "all")
    ]


def _fraction_length(config: ForgetRelearnConfig) -> list[Training]:
    own = _no_own_shares(config)
    return [
        replace(
            _variant(config, f"share_{share:g}_length_{length}", fraction=share, fractions=own),
            cycle=_of_length(config.cycle, length),
        )
        for share in config.study.fractions.values
        for length in config.study.lengths.values
    ]


def _of_length(cycle: CycleConfig, length: int) -> CycleConfig:
    consolidated = cycle.consolidate_epochs / cycle.relearn_epochs
    return cycle.model_copy(
        update={
            "relearn_epochs": length,
            "every_epochs": length,
            "consolidate_epochs": max(1, round(consolidated * length)),
        }
    )


def _components(config: ForgetRelearnConfig) -> list[Training]:
    return [
        _forget_only(config),
        _stable_only(config),
        _forget_stable(config),
        _share_zero(config),
        _method(config),
    ]


def _require_named(config: ForgetRelearnConfig, trainings: dict[str, Training]) -> None:
    arms = [arm for training in trainings.values() for arm in training.deliveries]
    evidence = config.evidence
    wanted = {
        "baseline_arm": evidence.baseline_arm,
        "treated_arm": evidence.treated_arm,
        "sham_arm": evidence.sham_arm,
    }
    for name, arm in wanted.items():
        if not arm or arm in arms:
            continue
        if name == "baseline_arm" and arm == BEST_ON_VALIDATION and set(arms) & set(CANDIDATES):
            continue
        raise ParameterError(
            f"forget_relearn.evidence.{name}: {arm!r} is delivered by no training that is switched "
            f"on under forget_relearn.trainings{near_miss(arm, arms)}; there are "
            f"{', '.join(arms) or 'none'}"
        )
