"""Nodes of the roll-out: check, export, register, move aliases, write the audit row."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError, TrackingError, one_of
from relearn.pipelines.promote import rules
from relearn.reports.config import PromoteConfig

if TYPE_CHECKING:
    from pandas import DataFrame

    from relearn.models.checkpoint import Checkpoint
    from relearn.tracking import RunHandle
else:
    DataFrame = Any

logger = logging.getLogger(__name__)

ALIASES = (rules.CHALLENGER, rules.CHAMPION, rules.PREVIOUS)


def roll_out(
    promote: PromoteConfig, decision: Mapping[str, Any], **units: DataFrame
) -> dict[str, Any]:
    """Do what ``promote.action`` says and return the audit row.

    Args:
        promote: Action, unit and what must hold first.
        decision: As written to ``decision.json``.
        units: ``<method>_units``: index of the trained units, columns arm, seed, path.

    Raises:
        ParameterError: The decision, the arm, the seed or the aliases do not permit it.
        CheckpointError: The unit is damaged or was changed too recently.
        TrackingError: No run is open, or the registry does not answer.
    """
    from relearn.tracking import alias_version, set_alias

    handle, name = _open_run(), rules.model_name(promote)
    facts = _register(promote, decision, units, handle) if promote.action == "register" else {}
    before = {alias: alias_version(handle, name, alias) for alias in ALIASES}
    moves = rules.moved_aliases(promote.action, before, new=facts.get("version", ""))
    for alias, version in moves.items():
        set_alias(handle, name, alias, version)
        logger.info("%s: alias %s now points to version %s", name, alias, version)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": handle.run_id,
        "action": promote.action,
        "model": name,
        "reason": promote.reason,
        "aliases_before": before,
        "aliases_after": {**before, **moves},
        **facts,
    }


def _open_run() -> RunHandle:
    from relearn.tracking import current_run

    handle = current_run()
    if handle is None:
        raise TrackingError(
            "tracking.enabled: the model registry is part of MLflow and no run is open; "
            "set tracking.enabled: true and start through `kedro run --pipeline promote`"
        )
    return handle


def _register(
    promote: PromoteConfig,
    decision: Mapping[str, Any],
    units: Mapping[str, DataFrame],
    handle: RunHandle,
) -> dict[str, Any]:
    """Register the unit as a new version and return what the audit row says about it."""
    import torch

    from relearn.arm_store import CHECKPOINT
    from relearn.models.checkpoint import load_checkpoint
    from relearn.pipelines.promote.export import example_of, export_program, inference_module
    from relearn.tracking import register_model

    verdict = rules.require_decision(promote, decision)
    rules.require_arm(promote, decision)
    folder = rules.choose_unit(promote, _units_of(promote.method, units))
    checkpoint = load_checkpoint(Path(folder) / CHECKPOINT)
    rules.require_settled(checkpoint, promote.minimum_steps_after_intervention)
    facts = _facts(promote, checkpoint, verdict)
    module, example = inference_module(promote.method, checkpoint), example_of(checkpoint)
    export_program(module, example)
    with torch.no_grad():  # the registry exports it once more
        version = register_model(
            handle,
            rules.model_name(promote),
            module=module,
            example=example,
            class_names=rules.class_names_of(checkpoint),
            facts=facts,
        )
    return {**facts, "version": version}


def _units_of(method: str, units: Mapping[str, DataFrame]) -> DataFrame:
    if f"{method}_units" not in units:
        known = [name.removesuffix("_units") for name in units]
        raise one_of("promote.method", method, known)
    found = units[f"{method}_units"]
    if found.empty:
        raise ParameterError(
            f"promote.method: {method} has no trained units here; run "
            f"`kedro run --pipeline {method}` first (same --env and --params)"
        )
    return found


def _facts(promote: PromoteConfig, checkpoint: Checkpoint, verdict: str) -> dict[str, Any]:
    return {
        "method": promote.method,
        "arm": promote.arm,
        "seed": promote.seed,
        "verdict": verdict,
        "overridden": verdict != "adopt",
        "checkpoint": checkpoint.digest,
        "steps_since_intervention": checkpoint.provenance["steps_since_intervention"],
        "minimum_steps": promote.minimum_steps_after_intervention,
    }
