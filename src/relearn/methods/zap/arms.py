"""The arms: a pre-training scheme, with or without something done to its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from relearn.errors import ParameterError, near_miss
from relearn.methods.zap.config import Initialisation

if TYPE_CHECKING:
    from relearn.methods.zap.config import PolicyConfig, ResetConfig, ZapConfig


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        name: Free label.
        pretraining: ``iid``, ``asb`` or ``meta``.
        change: What is done at the moments of the policy: ``none``, ``zap``,
            ``shrink_and_perturb`` or ``moments``.
        policy: When.
        reset: What the reset rows become.
    """

    name: str
    pretraining: str
    change: str
    policy: PolicyConfig
    reset: ResetConfig

    @property
    def treated(self) -> bool:
        """Whether anything is done to the weights outside the optimizer."""
        return self.change != "none"


_SCHEMES = {
    "iid": ("iid", "none"),
    "iid_zap": ("iid", "zap"),
    "asb": ("asb", "none"),
    "asb_zap": ("asb", "zap"),
    "meta": ("meta", "none"),
    "meta_zap": ("meta", "zap"),
    "iid_shrink_perturb": ("iid", "shrink_and_perturb"),
    "iid_moments": ("iid", "moments"),
}


def arms_of(config: ZapConfig) -> dict[str, Arm]:
    """Return the arms that the configuration asks for, by name, baselines before treatments.

    Args:
        config: ``compare: arms`` gives the arms switched on; ``frequency`` and ``initialisation``
            give the baseline of the study's scheme and one arm for each variant.

    Raises:
        ParameterError: The arms named under ``evidence`` are not switched on.
    """
    if config.compare == "arms":
        arms = [_arm(config, name) for name in _SCHEMES if getattr(config.arms, name)]
        named = {arm.name: arm for arm in arms}
        _require_named(config, named)
        return named
    baseline = _arm(config, config.study.pretraining)
    template = _arm(config, f"{config.study.pretraining}_zap")
    variants = _frequencies if config.compare == "frequency" else _initialisations
    return {arm.name: arm for arm in [baseline, *variants(config, template)]}


def arm_named(config: ZapConfig, name: str) -> Arm:
    """Return one arm.

    Args:
        config: Knobs of the method.
        name: Name of the arm.

    Raises:
        ParameterError: No arm of this configuration has the name; a near miss is suggested.
    """
    arms = arms_of(config)
    if name not in arms:
        raise ParameterError(
            f"zap.arms: no arm {name!r} is switched on,{near_miss(name, arms)} "
            f"there are {', '.join(arms)}"
        )
    return arms[name]


def baseline_of(config: ZapConfig) -> str:
    """Return the name of the arm that a comparison is measured against."""
    if config.compare == "arms":
        return config.evidence.baseline_arm
    return config.study.pretraining


def _arm(config: ZapConfig, name: str) -> Arm:
    pretraining, change = _SCHEMES[name]
    policy = config.policy if pretraining == "iid" else config.episode_policy
    return Arm(name, pretraining, change, policy, config.reset)


def _frequencies(config: ZapConfig, template: Arm) -> list[Arm]:
    study = config.study.frequency
    intervals = [study.shortest * study.factor**k for k in range(study.variants)]
    return [
        Arm(
            f"{template.name}_every_{n}",
            template.pretraining,
            template.change,
            template.policy.model_copy(update={"every": n, "trigger": "interval"}),
            template.reset,
        )
        for n in intervals
    ]


def _initialisations(config: ZapConfig, template: Arm) -> list[Arm]:
    return [
        Arm(
            f"{template.name}_{name}",
            template.pretraining,
            template.change,
            template.policy,
            config.reset.model_copy(update={"initialisation": name}),
        )
        for name in get_args(Initialisation)
    ]


def _require_named(config: ZapConfig, arms: dict[str, Arm]) -> None:
    evidence = config.evidence
    wanted = {
        "baseline_arm": evidence.baseline_arm,
        "treated_arm": evidence.treated_arm,
        "sham_arm": evidence.sham_arm,
    }
    for field, name in wanted.items():
        if name and name not in arms:
            raise ParameterError(
                f"zap.evidence.{field}: {name!r} is not switched on under zap.arms"
                f"{near_miss(name, arms)}; there are {', '.join(arms) or 'none'}"
            )
