"""The pictures of zapping, drawn from its records by the figure functions that methods share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.reports.figures import draw_curves, draw_heatmap
from relearn.reports.method_figures import draw_shocks
from relearn.reports.pictures import shocks_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from relearn.methods.zap.config import ZapConfig

_MOST_MARKS = 30  # more dotted lines than this would hide the curves


def learning(records: pd.DataFrame, interventions: pd.DataFrame, zap: ZapConfig) -> Figure:
    """Return validation accuracy during pre-training, with the resets of the first seed marked.

    Args:
        records: Of the arms that are compared.
        interventions: Ledger of the same.
        zap: Knobs.
    """
    marks: dict[str, list[int]] = {}
    if len(interventions):
        first = interventions[interventions["seed"] == interventions["seed"].min()]
        marks = {str(arm): sorted(set(rows["step"])) for arm, rows in first.groupby("arm")}
    rows = records[(records["task"] == "pretrain") & (records["metric"] == "validation_accuracy")]
    metric = "validation_accuracy" if len(rows) else "train_accuracy"
    return draw_curves(
        records,
        task="pretrain",
        metric=metric,
        title="Pre-training",
        baseline=zap.evidence.baseline_arm,
        marks={arm: steps for arm, steps in marks.items() if len(steps) <= _MOST_MARKS},
    )


def adaptation(records: pd.DataFrame, zap: ZapConfig) -> Figure:
    """Return accuracy on unseen classes while their few samples are learnt.

    Args:
        records: Of the arms that are compared.
        zap: Knobs.
    """
    return draw_curves(
        records,
        task="few_shot",
        metric="accuracy",
        title="Adaptation to unseen classes",
        baseline=zap.evidence.baseline_arm,
    )


def retention(records: pd.DataFrame, zap: ZapConfig) -> Figure:
    """Return accuracy on the classes learnt so far, one class after the other.

    Args:
        records: Of the arms that are compared.
        zap: Knobs.
    """
    return draw_curves(
        records,
        task="continual",
        metric="seen_accuracy",
        x_label="classes learnt so far",
        title="Retention: classes learnt one after the other",
        baseline=zap.evidence.baseline_arm,
    )


def shock(records: pd.DataFrame, zap: ZapConfig) -> Figure:
    """Return the accuracy lost at each reset and the steps until it was back.

    Args:
        records: Of the arms that are compared.
        zap: Knobs.
    """
    return draw_shocks(shocks_of(records), baseline=zap.evidence.baseline_arm)


def heads(records: pd.DataFrame, zap: ZapConfig) -> Figure:
    """Return the table of arms against first weights of the transfer head, in percent.

    In ``compare: initialisation`` the arms are the initialisations of the reset.

    Args:
        records: Of the arms, or of a study's variants.
        zap: Knobs.
    """
    rows = records[
        (records["task"] == "few_shot") & records["metric"].str.match(r"accuracy_\w+_head")
    ]
    table = 100 * rows.pivot_table(index="arm", columns="metric", values="value", aggfunc="mean")
    ridge = records[(records["task"] == "ridge") & (records["metric"] == "accuracy")]
    table["closed form"] = 100 * ridge.groupby("arm")["value"].mean()
    table.columns = [
        str(c).removeprefix("accuracy_").removesuffix("_head").replace("_", " ") for c in table
    ]
    return draw_heatmap(
        table,
        title="Accuracy on unseen classes by arm and first weights of the transfer head",
        x_label="first weights of the transfer head",
        y_label="arm",
        unit="%",
        note=f"Mean over seeds; closed form: ridge head without training. "
        f"{zap.transfer.few_shot.classes} classes.",
    )
