"""What a reader must know before believing the table, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from relearn.pipelines.last_layer_probe.tables import rank_correlations, values_of, width_laws

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig

_SLOPE = (-0.6, -0.4)
_FLAT = 0.002
"""Accuracy by which a border must be better than the inside, to be worth a finding."""


def findings_of(
    records: pd.DataFrame,
    selection: pd.DataFrame,
    recommendation: Mapping[str, Any],
    recheck: Mapping[str, Any],
    *,
    before: Mapping[str, Any],
    config: LastLayerProbeConfig,
) -> list[str]:
    """Return one sentence for each thing that limits or explains what the table says.

    Args:
        records: Of all arms.
        selection: Settings chosen for the trained arms.
        recommendation: Verdicts, gaps, next step.
        recheck: Bodies that changed.
        before: Depth, first weights, images.
        config: Knobs.
    """
    return [
        *_verdict(recommendation),
        *(f"{g['above']} over {g['below']}: {g['says']}." for g in recommendation["gaps"]),
        *([f"Overall: {recommendation['mismatch']}."] if recommendation["mismatch"] else []),
        *(f"Special data: {reason}." for reason in recommendation.get("special", [])),
        *(f"Before training: {warning}" for warning in before["warnings"]),
        *_borders(records, selection),
        *_slopes(records),
        *sentences_on_hints(records),
        *_changed(recheck),
        *_regret(recommendation, config),
    ]


def _verdict(told: Mapping[str, Any]) -> Iterator[str]:
    if told["verdict"]:
        yield f"{told['text']}"
    curve = told.get("learning_curve", {})
    if curve.get("rising"):
        yield (
            f"Learning curve: the last doubling of the images gained "
            f"{100 * curve['last_doubling']:.1f} points, and it still rises."
        )


def _borders(records: pd.DataFrame, selection: pd.DataFrame) -> Iterator[str]:
    rows = values_of(records, "head", "at_border")
    # a control has nothing to find inside its grid
    rows = rows[~rows["arm"].str.contains("permuted_labels|noise_body")]
    for arm, mine in rows.groupby("arm", sort=False):
        if mine["value"].mean() > 0.5 and not _is_flat(records, str(arm)):
            yield (
                f"{arm}: the chosen penalty lies at the border of its grid in "
                f"{int(mine['value'].sum())} of {len(mine)} seeds; widen last_layer_probe.heads."
            )
    taken = selection[selection["chosen"].astype(bool)]
    for row in taken.itertuples():
        if bool(row.at_border):
            yield (
                f"{row.arm}: the best rate (x{row.rate_factor:g}) lies at the border of its grid; "
                "raise last_layer_probe.trained.tuning.rate.widenings."
            )


def _is_flat(records: pd.DataFrame, arm: str) -> bool:
    """Return whether the border of the penalty path is no better than what lies inside it."""
    path = values_of(records, "path", "accuracy")
    means = path[path["arm"] == arm].groupby("step")["value"].mean().to_numpy()
    return len(means) > 4 and bool(means.max() - means[2:-2].max() < _FLAT)


def _slopes(records: pd.DataFrame) -> Iterator[str]:
    for law in width_laws(records):
        inside = _SLOPE[0] <= law["slope"] <= _SLOPE[1]
        yield (
            f"{law['body']}: the error of the random kernel falls with slope {law['slope']:.2f} in "
            f"log width ({'as' if inside else 'not as'} predicted, -0.5); the theorem, as "
            f"remembered, asks for {law['theorem_over_used']:.0f} times the width."
        )


def sentences_on_hints(records: pd.DataFrame) -> Iterator[str]:
    """Yield how well the transferability scores rank what they were made for.

    Args:
        records: With the task ``hint``.
    """
    ranks = rank_correlations(records)
    for over in ("arms", "seeds"):
        told = [
            f"{hint} {row['rank_correlation']:+.2f}"
            for hint, row in ranks.items()
            if row["over"] == over and row["rank_correlation"] is not None
        ]
        if told:
            yield (
                f"Transferability scores rank the {over} like their test accuracy by (Spearman) "
                f"{', '.join(told)}: hints, never the verdict."
            )


def _changed(recheck: Mapping[str, Any]) -> Iterator[str]:
    for arm, told in recheck.items():
        if told["changed"]:
            yield (
                f"{arm}: its {' and '.join(told['changed'])} changed since the last run; on the "
                f"small set {100 * told['accuracy_before']:.1f} % became "
                f"{100 * told['accuracy']:.1f} %: {told['status']}."
            )


def _regret(told: Mapping[str, Any], config: LastLayerProbeConfig) -> Iterator[str]:
    found = told.get("regret")
    if not found or found["mean_regret"] is None:
        return
    saved, whole = found["seconds_saved"], found["full_training_everywhere"]
    yield (
        f"{len(found['cases'])} cases: following the verdicts loses "
        f"{100 * found['mean_regret']:.1f} points on average and saves {saved:.0f} of {whole:.0f} "
        "seconds of full training."
    )
    for case in found["cases"]:
        if case["regret"] > config.study.largest_regret:
            yield (
                f"{case['body']} on {case['images']}: {case['verdict']} loses "
                f"{100 * case['regret']:.1f} points against the best of linear, head and full."
            )
