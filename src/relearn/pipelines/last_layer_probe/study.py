"""Reading the records: verdicts, gaps between rungs, controls, and what is recommended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError
from relearn.pipelines.last_layer_probe.tables import (
    correct,
    cost_means,
    final_by_seed,
    last_doubling,
    means_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.last_layer_probe.arms import Arm
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.methods.last_layer_probe.ladder import Gap
    from relearn.methods.last_layer_probe.verdict import Verdict


class Reading:
    """What the tables say about each arm.

    Args:
        records: Of all arms.
        predictions: Of the same.
        config: Knobs.
    """

    def __init__(
        self, records: pd.DataFrame, predictions: pd.DataFrame, config: LastLayerProbeConfig
    ) -> None:
        from relearn.methods.last_layer_probe.arms import arms_of

        self.config = config
        self.test = final_by_seed(records, "test", "accuracy")
        there = {name: arm for name, arm in arms_of(config).items() if name in self.test}
        self.arms: dict[str, Arm] = there
        self.validation = means_of(records, "validation", "accuracy")
        self.right = correct(predictions)

    def baseline_of(self, arm: Arm) -> str:
        """Return the linear arm on the same images.

        Args:
            arm: Any.
        """
        return "linear" if arm.condition == "plain" else f"linear.{arm.condition}"

    def verdict(self, arm: Arm) -> Verdict:
        """Return the verdict on an arm.

        Args:
            arm: With records of the test images.
        """
        from relearn.methods.last_layer_probe.verdict import Earned, sampling_error, verdict_of

        rival = self.baseline_of(arm)
        seeds = sorted(set(self.test[arm.name]) & set(self.test.get(rival, {})))
        if not seeds:
            raise EvidenceError(
                f"last_layer_probe.records: {arm.name} has no seed in common with {rival}; run "
                "`kedro run --pipeline last_layer_probe` whole"
            )
        mine = [self.right[arm.name, seed] for seed in seeds]
        floor = self.test.get("majority", {}) if arm.condition == "plain" else {}
        earned = Earned(
            scores=[self.test[arm.name][seed] for seed in seeds],
            baseline=[self.test[rival][seed] for seed in seeds],
            floor=sum(floor.values()) / len(floor) if floor else 0.0,
            images=len(mine[0]),
            sampling=sampling_error(mine, [self.right[rival, seed] for seed in seeds]),
        )
        return verdict_of(earned, self.config.verdict)

    def gap(self, pair: tuple[str, str], below: str, above: str) -> Gap:
        """Return the paired difference of two arms and what it says.

        Args:
            pair: Rungs of the two.
            below: Arm of the lower rung.
            above: Arm of the upper rung.
        """
        from relearn.methods.last_layer_probe.ladder import Gap, said_of
        from relearn.methods.last_layer_probe.verdict import sampling_error
        from relearn.reports.paired import paired_interval

        seeds = sorted(set(self.test[below]) & set(self.test[above]))
        differences = [self.test[above][seed] - self.test[below][seed] for seed in seeds]
        found = paired_interval(differences, self.config.evidence.confidence)
        noise = self.config.verdict.near * sampling_error(
            [self.right[above, seed] for seed in seeds], [self.right[below, seed] for seed in seeds]
        )
        outside = found.low is None or found.high is None or found.low > 0 or found.high < 0
        clear = bool(outside and abs(found.mean) > noise)
        says = said_of(pair, found.mean, clear=clear)
        return Gap(below, above, found.mean, found.low, found.high, clear, says)


def recommendation_of(
    records: pd.DataFrame,
    costs: pd.DataFrame,
    predictions: pd.DataFrame,
    before: Mapping[str, Any],
    *,
    config: LastLayerProbeConfig,
) -> dict[str, Any]:
    """Return the recommendation as plain data.

    Args:
        records: Of all arms.
        costs: Of the same.
        predictions: Of the same.
        before: What was seen of the images before.
        config: Thresholds.
    """
    from relearn.pipelines.last_layer_probe.study_arms import question_of
    from relearn.pipelines.last_layer_probe.verdict_study import regret_of

    reading, spent = Reading(records, predictions, config), cost_means(costs)
    baseline, treated = question_of(reading, config)
    probes = [arm for arm in reading.arms.values() if arm.treated and arm.condition == "plain"]
    verdicts = {arm.name: reading.verdict(arm).to_plain() for arm in probes}
    told: dict[str, Any] = {
        "study": config.compare,
        "baseline_arm": baseline,
        "treated_arm": treated,
        "verdicts": verdicts,
        "verdict": verdicts.get(treated, {}).get("verdict", ""),
        "controls": _controls(reading),
        "target": config.verdict.target,
        "thresholds": config.verdict.model_dump(),
        "seconds": float(costs[costs["metric"] == "total_seconds"]["value"].sum()),
        "costs": spent,
        **_ladder(reading, treated),
        **_difference(records, baseline, treated, config=config),
    }
    if config.compare == "verdicts":
        told["regret"] = regret_of(reading, spent)
    return told | _advice(reading, records, spent, before, told=told)


def _controls(reading: Reading) -> dict[str, Any]:
    """Return the verdicts that must be FAIL."""
    wrong = [
        arm
        for arm in reading.arms.values()
        if arm.treated and (arm.kind == "noise" or arm.condition == "permuted_labels")
    ]
    return {arm.name: reading.verdict(arm).to_plain() for arm in wrong}


def _ladder(reading: Reading, treated: str) -> dict[str, Any]:
    from relearn.methods.last_layer_probe.ladder import mismatch, neighbours, rungs_of

    if reading.config.compare != "arms":
        return {"rungs": {}, "gaps": [], "mismatch": ""}
    rungs = rungs_of(reading.arms, reading.validation)
    gaps = [
        reading.gap((low, high), below, above)
        for low, high, below, above in neighbours(rungs, treated)
    ]
    return {
        "rungs": rungs,
        "gaps": [gap.to_plain() for gap in gaps],
        "mismatch": mismatch(rungs, gaps),
    }


def _difference(
    records: pd.DataFrame, baseline: str, treated: str, *, config: LastLayerProbeConfig
) -> dict[str, Any]:
    from relearn.reports.comparison import compare_arms
    from relearn.reports.questions import headline_question
    from relearn.reports.recommendation import verdict_of

    arms = {"baseline_arm": baseline, "treated_arm": treated}
    evidence = config.evidence.model_copy(update=arms)
    found = compare_arms(records, headline_question("last_layer_probe", evidence))
    told: dict[str, Any] = {"seeds": list(found.seeds), "fresh_seeds": False}
    if found.difference is not None:
        told |= verdict_of(found.difference, evidence)
    return told


def _advice(
    reading: Reading,
    records: pd.DataFrame,
    spent: Mapping[str, Mapping[str, float]],
    before: Mapping[str, Any],
    *,
    told: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the next step, learning curve, projected costs, and one sentence for the log."""
    from relearn.methods.last_layer_probe.learning_curve import rises
    from relearn.methods.last_layer_probe.recommendation import (
        FEW_A_CLASS,
        next_step,
        projected_seconds,
        savings,
    )

    treated, config = str(told["treated_arm"]), reading.config
    if config.compare != "arms" or treated not in told["verdicts"]:
        text = f"study {config.compare}: {told.get('recommendation', '')}"
        return {"next_step": "", "text": text}
    gains = last_doubling(records, treated)
    rising = rises(gains, sigmas=config.curve.rising)
    fails = [
        told["verdicts"][arm.name]["verdict"] == "FAIL"
        for arm in reading.arms.values()
        if arm.kind == "kernel" and arm.name in told["verdicts"]
    ]
    special = _special(before, records, config)
    verdict = reading.verdict(reading.arms[treated])
    step = next_step(
        verdict,
        kernel_fails=bool(fails) and all(fails),
        few=before["images_a_class"] < FEW_A_CLASS,
        rising=rising,
        special=special,
    )
    return {
        "next_step": step,
        "special": special,
        "learning_curve": {
            "rising": rising,
            "last_doubling": sum(gains) / len(gains) if gains else None,
        },
        "projected_seconds": projected_seconds(config, spent, blocks=before["blocks"]),
        "savings": savings(spent, treated),
        "text": f"{verdict.verdict} ({treated}): {verdict.why}. {step}",
    }


def _special(
    before: Mapping[str, Any], records: pd.DataFrame, config: LastLayerProbeConfig
) -> list[str]:
    """Return why the data are special: what was seen before, and labels that look wrong."""
    from relearn.methods.last_layer_probe.special import reasons_of

    suspicious = means_of(records, "special", "suspicious_share")
    share = min(suspicious.values()) if suspicious else 0.0
    return reasons_of(dict(before["images"]), config.special, suspicious=share)
