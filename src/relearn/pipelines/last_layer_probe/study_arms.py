"""Which two arms a run sets against each other: the ladder's, or those of its study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.errors import EvidenceError

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.pipelines.last_layer_probe.study import Reading


def question_of(reading: Reading, config: LastLayerProbeConfig) -> tuple[str, str]:
    """Return baseline and treated arm; what is best is chosen on validation images.

    Args:
        reading: Of the records.
        config: Names the study, or the arms.

    Raises:
        EvidenceError: No arm has validation records that could be the treated one.
    """
    evidence = config.evidence
    if config.compare in ("arms", "verdicts"):
        from relearn.methods.last_layer_probe.config import BEST_PROBE
        from relearn.methods.last_layer_probe.ladder import best_probe

        named = evidence.treated_arm
        treated = best_probe(reading.arms, reading.validation) if named == BEST_PROBE else named
        baseline = evidence.baseline_arm if config.compare == "arms" else "linear"
        return baseline, _there(treated)
    if config.compare == "skeletons":
        return "random_fc", "random_conv"
    first = {
        "activations": f"random_{config.study.activations.split()[0]}",
        "initialisation": "random_gain_1",
    }[config.compare]
    rivals = {
        arm.name: reading.validation[arm.name]
        for arm in reading.arms.values()
        if arm.kind == "random" and arm.name != first and arm.name in reading.validation
    }
    return first, _there(max(rivals, key=lambda name: rivals[name]) if rivals else "")


def _there(arm: str) -> str:
    if not arm:
        raise EvidenceError(
            "last_layer_probe.evidence.treated_arm: no last-layer arm has validation records; run "
            "`kedro run --pipeline last_layer_probe` whole"
        )
    return arm
