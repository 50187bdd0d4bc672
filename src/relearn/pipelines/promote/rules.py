"""What must hold before a unit is rolled out, and how aliases move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relearn.errors import CheckpointError, ParameterError, one_of

if TYPE_CHECKING:
    import pandas as pd

    from relearn.models.checkpoint import Checkpoint
    from relearn.reports.config import PromoteConfig

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"


def model_name(promote: PromoteConfig) -> str:
    """Return the name in the registry.

    Args:
        promote: ``model_name`` empty means ``relearn-<method>``.
    """
    return promote.model_name or f"relearn-{promote.method.replace('_', '-')}"


def require_decision(promote: PromoteConfig, decision: Mapping[str, Any]) -> str:
    """Return the verdict on the method after checking that it permits a roll-out.

    Args:
        promote: Which method, and whether another verdict than ``adopt`` may pass.
        decision: As written to ``decision.json``.

    Raises:
        ParameterError: The verdict is not ``adopt`` and no reason overrides it.
    """
    methods = decision["methods"]
    if promote.method not in methods:
        raise one_of("promote.method", promote.method, methods)
    verdict = str(methods[promote.method]["verdict"])
    if promote.require_decision == "adopt" and verdict != "adopt":
        raise ParameterError(
            f"promote.require_decision: the report says {verdict!r} about {promote.method}, not "
            "'adopt'; keep the baseline, or state why with --params "
            "promote.require_decision=any,promote.reason=<why>"
        )
    if promote.require_decision == "any" and not promote.reason.strip():
        raise ParameterError(
            "promote.reason: require_decision: any needs a reason, which the audit row keeps"
        )
    return verdict


def require_arm(promote: PromoteConfig, decision: Mapping[str, Any]) -> None:
    """Check that the arm is the one that the decision is about.

    Args:
        promote: Which arm, and whether another one may pass.
        decision: As written to ``decision.json``.

    Raises:
        ParameterError: Another arm than the treated one, and no reason overrides it.
    """
    treated = decision["methods"][promote.method].get("treated_arm")
    if promote.require_decision == "adopt" and promote.arm != treated:
        raise ParameterError(
            f"promote.arm: the decision is about {treated!r}, not {promote.arm!r}; promote that "
            "arm, or state why with --params promote.require_decision=any,promote.reason=<why>"
        )


def choose_unit(promote: PromoteConfig, units: pd.DataFrame) -> str:
    """Return the folder of the unit.

    Args:
        promote: Arm and seed.
        units: Index of the units: columns arm, seed, path.

    Raises:
        ParameterError: No such arm or seed among the units.
    """
    arms = sorted(set(units["arm"].astype(str)))
    if promote.arm not in arms:
        raise one_of("promote.arm", promote.arm, arms)
    rows = units[units["arm"] == promote.arm]
    found = rows[rows["seed"].astype(int) == promote.seed]
    if found.empty:
        seeds = ", ".join(str(seed) for seed in sorted(rows["seed"]))
        raise ParameterError(
            f"promote.seed: {promote.method} has no unit {promote.arm} with seed {promote.seed}; "
            f"seeds there: {seeds}"
        )
    return str(found["path"].iloc[-1])


def require_settled(checkpoint: Checkpoint, minimum: int) -> int:
    """Return the steps since the last change outside the optimizer, if they are enough.

    A net whose last layer was reset a moment ago has not relearnt: it must never be exported.

    Args:
        checkpoint: Its provenance tells ``steps_since_intervention``.
        minimum: ``promote.minimum_steps_after_intervention``.

    Raises:
        CheckpointError: Too few steps, or none told.
    """
    steps = checkpoint.provenance.get("steps_since_intervention")
    if steps is None:
        raise CheckpointError(
            "promote: the checkpoint does not say how long ago its weights were changed outside "
            "the optimizer; train the unit again with this version"
        )
    if int(steps) < minimum:
        raise CheckpointError(
            f"promote.minimum_steps_after_intervention: the last change outside the optimizer is "
            f"{steps} steps old, {minimum} are asked for; train longer after it (raise "
            "zap.policy.settle_steps, forget_relearn.cycle.relearn_epochs or grow.train.epochs) "
            "or promote another seed"
        )
    return int(steps)


def class_names_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the class names of a checkpoint, in the order of its outputs.

    A head that was padded for parity has more outputs than names; the padding is not exported.

    Raises:
        CheckpointError: There are no names, or more than outputs.
    """
    names = tuple(str(name) for name in checkpoint.provenance.get("class_names", ()))
    if not 0 < len(names) <= checkpoint.architecture.classes:
        raise CheckpointError(
            f"promote: the checkpoint has {checkpoint.architecture.classes} outputs but "
            f"{len(names)} class names; train the unit again with this version"
        )
    return names


def moved_aliases(action: str, now: Mapping[str, str | None], *, new: str = "") -> dict[str, str]:
    """Return the aliases after an action, only those that change.

    ``register`` points challenger at the new version. ``champion`` lets the challenger take over
    and remembers the champion before as previous. ``roll_back`` swaps champion and previous, so
    that rolling back twice is where it began.

    Args:
        action: ``register``, ``champion`` or ``roll_back``.
        now: Alias to version; None where it is not set.
        new: The version just registered.

    Raises:
        ParameterError: There is no challenger, or no champion before, to move to.
    """
    if action == "register":
        return {CHALLENGER: new}
    source = CHALLENGER if action == "champion" else PREVIOUS
    target, champion = now.get(source), now.get(CHAMPION)
    if target is None:
        first = "register a unit" if action == "champion" else "promote two versions"
        raise ParameterError(
            f"promote.action: {action} needs a {source}, and there is none; {first} first"
        )
    if target == champion:
        return {}
    # previous first: killed between the two, the champion before is still known
    return ({PREVIOUS: champion} if champion is not None else {}) | {CHAMPION: target}
