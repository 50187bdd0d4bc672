"""Which pictures of a method go into the report, drawn from its records and its ledger."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relearn.reports.continual_figures import continual_figures
from relearn.reports.document import Picture
from relearn.reports.figures import draw_curves, draw_heatmap
from relearn.reports.growth_figures import growth_figures
from relearn.reports.method_figures import draw_shocks
from relearn.reports.probe_figures import probe_figures
from relearn.reports.robust_pictures import robust_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curve:
    """One curve per arm in the report.

    Attributes:
        task: As in ``Record.task``.
        metric: As in ``Record.metric``.
        title: Heading of the picture.
        steps: What ``Record.step`` counts in this task.
        marked: Whether the ledger's changes are marked on it.
    """

    task: str
    metric: str
    title: str
    steps: str
    marked: bool = False


CURVES = {
    "zap": (
        Curve("few_shot", "accuracy", "Adapting to unseen classes", "optimizer step"),
        Curve("continual", "seen_accuracy", "Retention, class after class", "classes learnt"),
        Curve("pretrain", "validation_accuracy", "Pre-training", "optimizer step", marked=True),
    ),
    "grow": (Curve("curve", "validation_accuracy", "After growth", "optimizer step since growth"),),
}
"""Method to the curves that are drawn where the records have them."""

FURTHER = {
    "forget_relearn": robust_figures,
    "grow": growth_figures,
    "lora_ipc": continual_figures,
    "last_layer_probe": probe_figures,
}
"""Method to the function that yields title, caption and figure of all that is not such a curve."""


def png_of(figure: Figure, *, dots_per_inch: int = 110) -> bytes:
    """Return the figure as the bytes of a PNG.

    Args:
        figure: Any figure.
        dots_per_inch: Resolution.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()


def shocks_of(records: pd.DataFrame) -> pd.DataFrame:
    """Return one row per reset, as ``draw_shocks`` takes it.

    Args:
        records: Of the ``zap`` method; the task ``zap_shock`` has one step per reset with the
            metrics accuracy_drop and, where it recovered, recovery_steps.
    """
    rows = records[records["task"] == "zap_shock"]
    table = rows.pivot_table(index=["arm", "seed", "step"], columns="metric", values="value")
    wanted = table.reindex(columns=["accuracy_drop", "recovery_steps"]).reset_index()
    wanted["reset"] = wanted.groupby(["arm", "seed"]).cumcount() + 1
    return wanted.rename(columns={"accuracy_drop": "drop"})


def heads_of(records: pd.DataFrame) -> pd.DataFrame:
    """Return mean accuracy in percent by arm (rows) and first weights of the transfer head.

    Args:
        records: With the metrics ``accuracy_<start>_head`` of ``few_shot``, and ``accuracy`` of
            ``ridge`` (the head in closed form, without training).
    """
    few = (records["task"] == "few_shot") & records["metric"].str.match(r"accuracy_\w+_head$")
    ridge = (records["task"] == "ridge") & (records["metric"] == "accuracy")
    rows = records[few | ridge].copy()
    start = rows["metric"].str.removeprefix("accuracy_").str.removesuffix("_head")
    rows["start"] = start.where(rows["task"] == "few_shot", "closed form")
    return 100 * rows.pivot_table(index="arm", columns="start", values="value", aggfunc="mean")


def method_pictures(
    method: str, records: pd.DataFrame, *, interventions: pd.DataFrame, baseline: str
) -> list[Picture]:
    """Return the pictures of one method for the report.

    Args:
        method: Such as ``zap``.
        records: Columns as in ``relearn.reports.comparison.COLUMNS``.
        interventions: The ledger, with the columns arm, seed and step; may be empty.
        baseline: Arm drawn in black.
    """
    found = [
        _curve_picture(records, curve, interventions=interventions, baseline=baseline)
        for curve in CURVES.get(method, ())
        if _steps_of(records, curve) > 1
    ]
    heads = heads_of(records)
    if heads.shape[1] > 1:
        found.append(_heads_picture(heads, records))
    if (records["task"] == "zap_shock").any():
        caption = "Training accuracy lost at each reset, and the steps until it was back."
        found.append(
            Picture("Shock and recovery", caption, png_of(draw_shocks(shocks_of(records))))
        )
    if method in FURTHER:
        drawn = FURTHER[method](records, baseline=baseline)
        found += [Picture(title, caption, png_of(figure)) for title, caption, figure in drawn]
    return found


def _steps_of(records: pd.DataFrame, curve: Curve) -> int:
    rows = records[(records["task"] == curve.task) & (records["metric"] == curve.metric)]
    return int(rows["step"].nunique())


def _curve_picture(
    records: pd.DataFrame, curve: Curve, *, interventions: pd.DataFrame, baseline: str
) -> Picture:
    marks = _marks_of(interventions) if curve.marked and len(interventions) else None
    figure = draw_curves(
        records,
        task=curve.task,
        metric=curve.metric,
        x_label=curve.steps,
        baseline=baseline,
        marks=marks,
    )
    rows = records[(records["task"] == curve.task) & (records["metric"] == curve.metric)]
    count = rows["seed"].nunique()
    caption = f"Mean over n = {count} seeds; the band spans the lowest and the highest seed."
    return Picture(curve.title, caption, png_of(figure))


def _heads_picture(heads: pd.DataFrame, records: pd.DataFrame) -> Picture:
    count = records[records["task"] == "few_shot"]["seed"].nunique()
    figure = draw_heatmap(
        heads,
        title="Accuracy on unseen classes",
        x_label="first weights of the transfer head",
        y_label="arm",
        unit="%",
        note=f"Mean over n = {count} seeds.",
    )
    caption = "The first weights of the transfer head matter as much as the arm: compare columns."
    return Picture("Arm against transfer head", caption, png_of(figure))


def _marks_of(interventions: pd.DataFrame) -> dict[str, Sequence[int]]:
    """Return arm to the steps of its first seed: the schedule is the same for every seed."""
    first = interventions.groupby("arm")["seed"].transform("min")
    rows = interventions[interventions["seed"] == first]
    return {str(arm): sorted(set(steps)) for arm, steps in rows.groupby("arm")["step"]}
