"""The pictures of forgetting and relearning, drawn by the figure functions of the reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.methods.forget_relearn.arms import candidates_of
from relearn.reports.arm_rows import final_means
from relearn.reports.before_after import (
    changed_samples,
    draw_confusion_change,
    draw_cycles,
    draw_scatter,
    few_cycles,
)
from relearn.reports.figures import add_note, name_axis, new_figure
from relearn.reports.robust_pictures import PLAIN, robust_figures
from relearn.reports.stacked import stacked
from relearn.reports.study_figures import draw_gains, draw_grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from relearn.methods.forget_relearn.config import ForgetRelearnConfig

_GRID = r"^share_(?P<share>[\d.e-]+)_length_(?P<length>\d+)$"

_KEPT = "tensors."  # before the names of all that an arm keeps besides predictions

_LABELS = {
    "pgd_at_stopped": "best on validation\n(no forgetting)",
    "pgd_at_ema": "moving average\n(no forgetting)",
    "pgd_at_ema_stopped": "best moving average\n(no forgetting)",
    "forget_only": "forgetting",
    "stable_only": "stable model",
    "forget_stable": "forgetting\n+ stable model",
    "share_zero": "stable model\n+ consistency",
    "forget_relearn": "forgetting + stable\nmodel + consistency",
}


def baseline_of(records: pd.DataFrame, config: ForgetRelearnConfig) -> str:
    """Return the candidate with the best mean robust accuracy on validation images.

    Args:
        records: Of the arms that are compared.
        config: Says which arms are candidates: one that is named stands alone.
    """
    scores = final_means(records, "validation", "robust_accuracy")
    there = scores.reindex([arm for arm in candidates_of(config) if arm in scores.index])
    return str(there.idxmax()) if len(there) else PLAIN


def overview(
    records: pd.DataFrame, interventions: pd.DataFrame, config: ForgetRelearnConfig
) -> Figure:
    """Return phases, overfitting, recovery, best against last, attacks, corruptions and classes.

    They come as one picture, one below the other: one dataset leaves the namespace.

    Args:
        records: Of the arms that are compared.
        interventions: Ledger of the same; the records say when something was forgotten.
        config: Knobs of the method.
    """
    headline = f"PGD-{config.judging.steps}"
    baseline = baseline_of(records, config)
    drawn = [
        figure for _, _, figure in robust_figures(records, baseline=baseline, headline=headline)
    ]
    return stacked(drawn) if drawn else _empty("There are no records to draw.")


def before_after(units: pd.DataFrame, config: ForgetRelearnConfig) -> Figure:
    """Return what the first, the middle and the last forgetting changed in the treated arm.

    Args:
        units: Index of the judging units: arm, seed, path.
        config: Names the treated arm.
    """
    pictures = _pictures_of(units, config)
    cycles = few_cycles(pictures)
    if not cycles:
        return _empty("No forgetting was pictured; set forget_relearn.monitor.pictures: true.")
    panels = [draw_cycles(pictures)]
    for cycle in cycles:
        panels += [draw_scatter(pictures, cycle), draw_confusion_change(pictures, cycle)]
    return stacked(panels)


def changed(units: pd.DataFrame, config: ForgetRelearnConfig) -> pd.DataFrame:
    """Return the validation images that each forgetting of the treated arm made right or wrong.

    Args:
        units: As for ``before_after``.
        config: Names the treated arm.

    Returns:
        Columns cycle, view, change, index, label, before, after.
    """
    return changed_samples(_pictures_of(units, config))


def _pictures_of(units: pd.DataFrame, config: ForgetRelearnConfig) -> dict[str, Any]:
    """Return the pictures of the treated arm's first seed; in a study, of its first variant."""
    for arm in [config.evidence.treated_arm, *dict.fromkeys(units["arm"])]:
        rows = units[units["arm"] == arm].sort_values("seed")
        for path in rows["path"].head(1):
            found = _arrays_of(Path(path))
            if few_cycles(found):
                return found
    return {}


def _arrays_of(folder: Path) -> dict[str, Any]:
    """Return what a unit keeps besides its predictions, as arrays by name."""
    from relearn.arm_store import load_tensors

    kept = {
        name.removeprefix(_KEPT): value
        for name, value in load_tensors(folder).items()
        if name.startswith(_KEPT)
    }
    return {
        name: (value.float() if value.is_floating_point() else value).numpy()
        for name, value in kept.items()
    }


def study_figure(exploration: pd.DataFrame, config: ForgetRelearnConfig) -> Figure:
    """Return bars for the studies ``layers`` and ``components``, a heat map for the grid.

    Args:
        exploration: Records of a study's variants; empty for ``compare: arms``.
        config: Knobs of the method.
    """
    if exploration.empty:
        return _empty("No study was run: forget_relearn.compare is arms.")
    if config.compare == "fraction_length":
        return draw_grid(
            exploration,
            title="Share that is forgotten and length of relearning",
            pattern=_GRID,
            rows="share",
            columns="length",
        )
    title = {"layers": "Which layers are forgotten", "components": "What each component earns"}
    groups = {
        arm: arm.removeprefix("layers_")
        for arm in dict.fromkeys(exploration["arm"])
        if str(arm).startswith("layers_")
    }
    return draw_gains(
        exploration,
        baseline=PLAIN,
        title=title[config.compare],
        labels=_LABELS | groups,
        rivals=[arm for arm in candidates_of(config) if arm != PLAIN],
        confidence=config.evidence.confidence,
    )


def _empty(text: str) -> Figure:
    """Return a figure that says why there is nothing to see."""
    figure, axes = new_figure(8.0, 1.6)
    axes[0, 0].set_axis_off()
    name_axis(axes[0, 0], title=text)
    add_note(figure, "")
    return figure
