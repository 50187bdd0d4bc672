"""Was the verdict right? Each case is held against what full training then gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.arms import Arm
    from relearn.pipelines.last_layer_probe.study import Reading


def regret_of(reading: Reading, costs: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return for each (images x body) case what following the verdict earns and saves.

    PASS ships the head; PROMISING trains in full and ships the better of that and the head on
    validation images; WEAK ships the better of head and linear on them; and FAIL the linear head:
    the body is given up, whatever luck its head had there. Regret is the best of linear, head and
    full training on test images minus what is shipped; the seconds saved are those of full training
    where it is not done.

    Args:
        reading: Of the records.
        costs: Arm to metric to mean.
    """
    cases = [_case(reading, arm, costs) for arm in reading.arms.values() if _is_case(arm)]
    regrets = [case["regret"] for case in cases]
    return {
        "cases": cases,
        "mean_regret": sum(regrets) / len(regrets) if regrets else None,
        "worst_regret": max(regrets, default=None),
        "seconds_saved": sum(case["seconds_saved"] for case in cases),
        "full_training_everywhere": sum(case["full_seconds"] for case in cases),
    }


def _is_case(arm: Arm) -> bool:
    return arm.treated


def _case(reading: Reading, arm: Arm, costs: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    suffix = "" if arm.condition == "plain" else f".{arm.condition}"
    linear, full = f"linear{suffix}", f"full{suffix}"
    verdict = reading.verdict(arm).verdict
    scores = {name: _mean(reading.test[name]) for name in (linear, arm.name, full)}
    compared = {
        "PASS": [arm.name],
        "PROMISING": [arm.name, full],
        "WEAK": [linear, arm.name],
        "FAIL": [linear],
    }[verdict]
    shipped = max(compared, key=lambda name: reading.validation[name])
    seconds = float(costs[full]["train_seconds"])
    return {
        "images": arm.condition,
        "body": arm.name.removesuffix(suffix),
        "verdict": verdict,
        "linear": scores[linear],
        "head": scores[arm.name],
        "full": scores[full],
        "shipped": shipped,
        "regret": max(scores.values()) - scores[shipped],
        "full_seconds": seconds,
        "seconds_saved": 0.0 if full in compared else seconds,
    }


def _mean(values: Mapping[int, float]) -> float:
    return sum(values.values()) / len(values)
