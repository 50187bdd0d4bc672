"""Which figures of robust training the report shows, where the records have what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.reports.arm_rows import forgetting_arms, treated_of, values_of
from relearn.reports.phase_figures import draw_overfitting, draw_phases
from relearn.reports.recovery_figures import draw_recovery
from relearn.reports.robust_figures import (
    best_and_last,
    draw_attacks,
    draw_best_last,
    draw_classes,
    draw_corruptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from matplotlib.figure import Figure

PLAIN = "pgd_at"
"""Arm of plain adversarial training to its end, where robust overfitting is looked for."""

TREATED = "forget_relearn"


def robust_figures(
    records: pd.DataFrame, *, baseline: str, headline: str = "PGD"
) -> Iterator[tuple[str, str, Figure]]:
    """Yield title, caption and figure of everything that the records can show.

    Args:
        records: Of the arms that are compared.
        baseline: Arm drawn in black.
        headline: Name of the headline attack.
    """
    treated = treated_of(records, named=TREATED)
    yield from _curves(records, baseline=baseline, treated=treated)
    yield from _tables(records, baseline=baseline, treated=treated, headline=headline)


def _curves(
    records: pd.DataFrame, *, baseline: str, treated: str
) -> Iterator[tuple[str, str, Figure]]:
    if len(values_of(records, "curve", "validation_robust_accuracy")):
        yield (
            "Robust accuracy and the phases",
            "How robust each arm is on validation images while it trains.",
            draw_phases(records, baseline=baseline, treated=treated),
        )
    if len(values_of(records, "curve", "student_train_robust_accuracy")):
        plain = PLAIN if PLAIN in set(records["arm"]) else baseline
        yield (
            "Robust overfitting",
            "Training and validation part where a net learns its training images by heart.",
            draw_overfitting(records, arms=(plain, treated)),
        )
    if forgetting_arms(records):
        yield (
            "Dip and recovery",
            "Robust accuracy lost at each forgetting, and the epochs until it was back.",
            draw_recovery(records, treated=treated),
        )


def _tables(
    records: pd.DataFrame, *, baseline: str, treated: str, headline: str
) -> Iterator[tuple[str, str, Figure]]:
    if len(best_and_last(records)):
        yield (
            "Best against last",
            "A small difference alone is no merit: look at where the last model stands.",
            draw_best_last(records),
        )
    if len(values_of(records, "test", "robust_accuracy")):
        yield (
            "Under each attack",
            "A net that stands one attack and falls to another is not robust.",
            draw_attacks(records, headline=headline),
        )
    if (records["task"] == "corruption").any():
        yield (
            "Corrupted images",
            "Noise, blur and other faults that nobody planned, without an attack.",
            draw_corruptions(records, baseline=baseline, treated=treated),
        )
    if (records["task"] == "class_robust").any():
        yield (
            "Class by class",
            "Whether the mean hides a class that pays for the others.",
            draw_classes(records, baseline=baseline, treated=treated),
        )
