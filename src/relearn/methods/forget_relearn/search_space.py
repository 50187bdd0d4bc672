"""What the automatic choice may choose from, and what a choice makes of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError
from relearn.methods.forget_relearn.config import ForgetRelearnConfig, TrainingsConfig

if TYPE_CHECKING:
    from relearn.methods.forget_relearn.search_config import ForgetRelearnSearchConfig

CHOICES = ("layers", "fraction", "relearn_epochs", "warmup_epochs", "trigger")
"""Names of what is chosen."""

SEARCHED = "forget_relearn"
"""The training whose stable model is scored."""

_DIGITS = 4


@dataclass(frozen=True)
class SearchSpace:
    """Possible choices; the present setting is one of them.

    Attributes:
        layers: What is forgotten.
        trigger: When.
        fraction: Smallest and largest share.
        relearn_epochs: Shortest and longest relearning.
        warmup_epochs: Shortest and longest warm-up.
        present: The present setting as a choice.
    """

    layers: tuple[str, ...]
    trigger: tuple[str, ...]
    fraction: tuple[float, float]
    relearn_epochs: tuple[int, int]
    warmup_epochs: tuple[int, int]
    present: dict[str, Any]


def search_space(config: ForgetRelearnConfig, search: ForgetRelearnSearchConfig) -> SearchSpace:
    """Return the space, with the present setting inside.

    Args:
        config: The present setting.
        search: Choices and ranges.

    Raises:
        ParameterError: The ranges do not hold the present setting, so that it could not be
            compared, or do not fit into the epochs.
    """
    epochs, relearn = config.train.epochs, search.relearn_epochs
    warmup = (round(search.warmup.smallest * epochs), round(search.warmup.largest * epochs))
    space = SearchSpace(
        layers=search.layer_choices,
        trigger=search.trigger.names,
        fraction=(search.fraction.smallest, search.fraction.largest),
        relearn_epochs=(relearn.shortest, relearn.longest),
        warmup_epochs=warmup,
        present=_present(config),
    )
    if warmup[1] + relearn.longest > epochs:
        raise ParameterError(
            f"forget_relearn_search.warmup.largest: the longest warm-up of {warmup[1]} epochs and "
            f"the longest relearning of {relearn.longest} are more than forget_relearn.train."
            f"epochs={epochs}; lower one of them"
        )
    _require_present_inside(config, space)
    return space


def with_choice(config: ForgetRelearnConfig, choice: Mapping[str, Any]) -> ForgetRelearnConfig:
    """Return the configuration that trains the method alone, with a choice put in.

    The present choice leaves the present cycle and forgetting as they are.

    Args:
        config: The present setting.
        choice: ``CHOICES`` to values.
    """
    changed: dict[str, Any] = {}
    if dict(choice) != _present(config):
        changed = {
            "cycle": config.cycle.model_copy(update=block_of(config, choice)["cycle"]),
            "forget": config.forget.model_copy(
                update={name: choice[name] for name in ("layers", "fraction")}
            ),
        }
    alone = dict.fromkeys(TrainingsConfig.model_fields, False) | {"pgd_at": True, SEARCHED: True}
    evidence = {"baseline_arm": "pgd_at", "treated_arm": SEARCHED, "sham_arm": ""}
    changed |= {
        "compare": "arms",
        "trainings": TrainingsConfig.model_validate(alone),
        "evidence": config.evidence.model_copy(update=evidence),
    }
    return config.model_copy(update=changed)


def block_of(config: ForgetRelearnConfig, choice: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the part of the parameters that a choice decides, as it would stand in YAML.

    Args:
        config: The present setting: the pause after relearning and the share of it that is
            consolidated are kept.
        choice: ``CHOICES`` to values.
    """
    cycle, length = config.cycle, int(choice["relearn_epochs"])
    pause = cycle.every_epochs - cycle.relearn_epochs
    consolidated = cycle.consolidate_epochs / cycle.relearn_epochs
    return {
        "cycle": {
            "warmup_epochs": int(choice["warmup_epochs"]),
            "trigger": str(choice["trigger"]),
            "every_epochs": length + pause,
            "relearn_epochs": length,
            "consolidate_epochs": max(1, round(consolidated * length)),
        },
        "forget": {"layers": str(choice["layers"]), "fraction": float(choice["fraction"])},
    }


def rounded(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a choice whose share has four digits, so that it can be pasted and names a unit.

    Args:
        choice: ``CHOICES`` to values.
    """
    fraction = float(f"{choice['fraction']:.{_DIGITS}g}")
    return {name: choice[name] for name in CHOICES} | {"fraction": fraction}


def label_of(choice: Mapping[str, Any]) -> str:
    """Return a name that tells choices apart: letters, digits, dots and dashes.

    Args:
        choice: As from ``rounded``.
    """
    layers = "".join(c if c.isalnum() or c == "." else "-" for c in str(choice["layers"]))
    return (
        f"{layers}.share{choice['fraction']:g}.relearn{choice['relearn_epochs']}"
        f".warmup{choice['warmup_epochs']}.{choice['trigger']}"
    )


def _present(config: ForgetRelearnConfig) -> dict[str, Any]:
    cycle, forget = config.cycle, config.forget
    return {
        "layers": forget.layers,
        "fraction": forget.fraction,
        "relearn_epochs": cycle.relearn_epochs,
        "warmup_epochs": cycle.warmup_epochs,
        "trigger": cycle.trigger,
    }


def _require_present_inside(config: ForgetRelearnConfig, space: SearchSpace) -> None:
    own = {k: v for k, v in config.forget.fractions.model_dump().items() if v is not None}
    if own:
        name = next(iter(own))
        raise ParameterError(
            f"forget_relearn.forget.fractions.{name}: got {own[name]:g}, expected null: the search "
            "chooses one share for all layers"
        )
    for name, value in space.present.items():
        allowed = getattr(space, name)
        is_range = name in ("fraction", "relearn_epochs", "warmup_epochs")
        inside = allowed[0] <= value <= allowed[1] if is_range else value in allowed
        if inside:
            continue
        shown = f"{allowed[0]:g} to {allowed[1]:g}" if is_range else " | ".join(allowed)
        where = {"layers": "forget.", "fraction": "forget."}.get(name, "cycle.") + name
        knob = "warmup" if name == "warmup_epochs" else name
        raise ParameterError(
            f"forget_relearn_search.{knob}: the choices ({shown}) do not hold the present setting "
            f"forget_relearn.{where}={value}, which is tried first; widen them"
        )
