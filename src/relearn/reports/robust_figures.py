"""Figures of the end: best against last, under each attack, per class, on corrupted images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import MaxNLocator

from relearn.reports.arm_rows import final_means, leading_arms, left_out, values_of
from relearn.reports.comparison import final_values
from relearn.reports.figures import (
    DASHES,
    PALETTE,
    add_note,
    colours_of,
    draw_heatmap,
    name_axis,
    new_figure,
)
from relearn.reports.phase_figures import legend_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STOPPED = "_stopped"
"""End of the name of an arm that is the best model on validation of the arm without it."""

ATTACKS = {
    "apgd_ce": "APGD-CE",
    "apgd_t": "APGD-T",
    "apgd_margin_t": "APGD-T (margin)",
    "fab_t": "FAB-T",
    "square": "Square",
}
_WEAKEST = {"fab_t", "square"}  # a cascade without them is the reduced one


def best_and_last(records: pd.DataFrame) -> pd.DataFrame:
    """Return test robust accuracy of every arm beside that of its best model on validation.

    Args:
        records: With ``robust_accuracy`` of the task ``test``.

    Returns:
        Columns arm, seed, best, last: shares from 0 to 1.
    """
    final = final_values(records, task="test", metric="robust_accuracy")
    order = list(dict.fromkeys(records["arm"]))
    pairs = [arm for arm in order if f"{arm}{STOPPED}" in order]
    last = final[final["arm"].isin(pairs)].rename(columns={"value": "last"})
    best = final[final["arm"].isin([f"{arm}{STOPPED}" for arm in pairs])].copy()
    best["arm"] = best["arm"].str.removesuffix(STOPPED)
    best = best.rename(columns={"value": "best"})
    both = best[["arm", "seed", "best"]].merge(last[["arm", "seed", "last"]], on=["arm", "seed"])
    return both.sort_values("arm", key=lambda arms: arms.map(order.index), ignore_index=True)


def draw_best_last(records: pd.DataFrame) -> Figure:
    """Return one line per training from its last model to its best one, the difference written.

    Args:
        records: As for ``best_and_last``.
    """
    table = 100 * best_and_last(records).set_index(["arm", "seed"])
    arms = list(dict.fromkeys(table.index.get_level_values("arm")))
    figure, axes = new_figure(9.2, 1.7 + 0.62 * max(1, len(arms)))
    axis = axes[0, 0]
    for place, arm in enumerate(arms):
        _draw_dumbbell(axis, table.loc[arm], place)
    axis.set_yticks(range(len(arms)), arms)
    axis.set_ylim(len(arms) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    axis.margins(x=0.06)
    title = "Best on validation against last, both on test images"
    name_axis(axis, title=title, x="robust accuracy on test images (%)")
    if arms:
        legend_beside(axis)
    count = table.index.get_level_values("seed").nunique()
    add_note(figure, f"Large: mean over n = {count} seeds; small: single seeds.")
    return figure


def _draw_dumbbell(axis: Axes, rows: pd.DataFrame, place: int) -> None:
    best, last = float(rows["best"].mean()), float(rows["last"].mean())
    first = place == 0
    axis.plot([last, best], [place, place], "-", color="#999999", lw=2.5, zorder=1)
    for values, mean, mark, colour, label in (
        (rows["last"], last, "o", PALETTE[2], "last"),
        (rows["best"], best, "D", PALETTE[1], "best on validation"),
    ):
        axis.plot(values, [place + 0.2] * len(values), mark, ms=3.5, color=colour, alpha=0.5)
        axis.plot([mean], [place], mark, ms=8, color=colour, label=label if first else None)
    text = f"{best - last:+.1f} points"
    axis.annotate(
        text,
        ((best + last) / 2, place),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=9,
    )


def attack_table(records: pd.DataFrame, *, headline: str = "PGD") -> pd.DataFrame:
    """Return accuracy in percent, arms in rows, from clean images to the strongest attack.

    Args:
        records: With the tasks ``test``, ``auto_attack``, ``square`` and ``transfer``; columns
            without records are left out.
        headline: Name of the headline attack.
    """
    columns = {
        "clean": final_means(records, "test", "clean_accuracy"),
        headline: final_means(records, "test", "robust_accuracy"),
    }
    cascade = records[records["task"] == "auto_attack"]["metric"].unique()
    members = [name for name in ATTACKS if f"after_{name}" in cascade]
    short = "" if set(members) >= _WEAKEST else " reduced"
    for name in members:
        columns[f"AA{short}:\n{ATTACKS[name]}"] = final_means(
            records, "auto_attack", f"after_{name}"
        )
    columns["Square\nalone"] = final_means(records, "square", "robust_accuracy")
    columns["transfer"] = final_means(records, "transfer", "robust_accuracy")
    table = 100 * pd.DataFrame(columns)
    order = [arm for arm in dict.fromkeys(records["arm"]) if arm in table.index]
    return table.loc[order].dropna(axis=1, how="all")


def draw_attacks(records: pd.DataFrame, *, headline: str = "PGD") -> Figure:
    """Return the table of ``attack_table`` as a heat map.

    Args:
        records: As for ``attack_table``.
        headline: Name of the headline attack.
    """
    count = values_of(records, "test", "robust_accuracy")["seed"].nunique()
    attacked = values_of(records, "auto_attack", "images")["value"]
    few = f" AA: AutoAttack on {attacked.max():.0f} images." if len(attacked) else ""
    cascade = "AA: one attack after the other, each on what the ones before have left"
    table = attack_table(records, headline=headline)
    transfer = "\nTransfer: images attacked against plain adversarial training (pgd_at)."
    transfer = transfer if "transfer" in table else ""
    return draw_heatmap(
        table,
        width=3.0 + 1.05 * table.shape[1],
        title="Accuracy under each attack",
        x_label=cascade if len(attacked) else "attack",
        y_label="arm",
        unit="%",
        note=f"Mean over n = {count} seeds.{few} Attacks may be on different numbers of images."
        f"{transfer}",
    )


def draw_corruptions(records: pd.DataFrame, *, baseline: str, treated: str) -> Figure:
    """Return accuracy by severity for each arm, and by kind of corruption for two of them.

    Args:
        records: With the task ``corruption``, whose step is the severity.
        baseline: Arm drawn in black.
        treated: Arm that is put to the test.
    """
    rows = records[records["task"] == "corruption"]
    figure, axes = new_figure(10.2, 4.8, columns=2)
    mean = rows[rows["metric"] == "mean_accuracy"]
    arms = leading_arms(mean, named=(baseline, treated))
    for arm, (colour, dash) in colours_of(arms, baseline).items():
        found = 100 * mean[mean["arm"] == arm].groupby("step")["value"].mean()
        width = 2.4 if arm in (baseline, treated) else 1.4
        axes[0, 0].plot(found.index, found, dash, color=colour, lw=width, marker=".", label=arm)
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    name_axis(axes[0, 0], title="All kinds together", x="severity", y="accuracy (%)")
    kinds = rows[rows["metric"] != "mean_accuracy"]
    pair = [arm for arm in dict.fromkeys((baseline, treated)) if arm in arms]
    table = 100 * kinds.pivot_table(index="metric", columns="arm", values="value", sort=False)
    _draw_pairs(axes[0, 1], table[pair])
    name_axis(axes[0, 1], title="Each kind, mean over severities", x="accuracy (%)")
    lines, _ = axes[0, 0].get_legend_handles_labels()
    legend_beside(axes[0, 1], lines)
    marks = " Right: " + ", ".join(
        f"{mark} {arm}" for mark, arm in zip(("circles", "diamonds"), pair, strict=False)
    )
    count = rows["seed"].nunique()
    rest = left_out([str(arm) for arm in dict.fromkeys(mean["arm"])], arms)
    rest = rest.replace(" No", "\nNo", 1)
    add_note(figure, f"Mean over n = {count} seeds; images without attack.{marks}.{rest}")
    return figure


def _draw_pairs(axis: Axes, table: pd.DataFrame) -> None:
    """Draw one line per row of the table, from its first column to its second."""
    marks = (("o", PALETTE[0]), ("D", PALETTE[1]))
    for place, values in enumerate(table.to_numpy(dtype=float)):
        axis.plot(values, [place] * len(values), "-", color="#BBBBBB", lw=2, zorder=1)
    for column, (mark, colour) in zip(table, marks, strict=False):
        axis.plot(table[column], range(len(table)), mark, ms=6, color=colour)
    axis.set_yticks(range(len(table)), [str(name).replace("_", " ") for name in table.index])
    axis.set_ylim(len(table) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")


def draw_classes(records: pd.DataFrame, *, baseline: str, treated: str) -> Figure:
    """Return robust accuracy of every class under two arms, on test images.

    Args:
        records: With the task ``class_robust``, whose step is the number of the class.
        baseline: Arm drawn in black.
        treated: Arm that is put to the test.
    """
    rows = values_of(records, "class_robust", "robust_accuracy")
    table = 100 * rows.pivot_table(index="step", columns="arm", values="value")
    pair = [arm for arm in dict.fromkeys((baseline, treated)) if arm in table]
    figure, axes = new_figure(9.6, 4.2)
    axis = axes[0, 0]
    looks = zip(pair, ("o", "D"), PALETTE, DASHES, strict=False)
    for step, values in table[pair].iterrows():
        axis.plot([step] * len(pair), values, "-", color="#BBBBBB", lw=2, zorder=1)
    for arm, mark, colour, _ in looks:
        axis.plot(table.index, table[arm], mark, ms=6, color=colour, label=arm)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    name_axis(axis, title="Robust accuracy of each class", x="class", y="robust accuracy (%)")
    legend_beside(axis)
    add_note(figure, f"Mean over n = {rows['seed'].nunique()} seeds, on test images.")
    return figure
