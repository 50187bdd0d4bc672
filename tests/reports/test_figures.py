"""Figures say what their data say: positions, labels, units and marks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_up import compare_config, evidence, zap_costs, zap_records
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from relearn.reports.comparison import compare_method
from relearn.reports.costs import cost_table
from relearn.reports.figures import (
    PALETTE,
    add_note,
    colours_of,
    draw_curves,
    draw_differences,
    draw_heatmap,
)
from relearn.reports.method_figures import draw_costs, draw_shocks
from relearn.reports.pictures import png_of, shocks_of


def comparisons(seeds=5):
    return compare_method(
        zap_records(seeds=seeds), method="zap", evidence=evidence(), config=compare_config()
    )


def test_the_bar_of_the_forest_is_the_interval_in_points():
    found = comparisons()
    axis = draw_differences(found).axes[0]
    bars = [line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 2]
    ends = bars[-1].get_xdata()  # the headline is drawn on top, last
    assert ends == pytest.approx([100 * found[0].difference.low, 100 * found[0].difference.high])
    assert "points" in axis.get_xlabel()
    assert "n = 5" in axis.get_yticklabels()[-1].get_text()


def test_metrics_of_other_units_get_an_axis_of_their_own():
    from dataclasses import replace

    first, *_ = comparisons()
    steps = replace(first, question=replace(first.question, metric="steps_to_target"))
    assert len(draw_differences([first, steps]).axes) == 2


def test_nothing_measured_still_draws():
    assert len(png_of(draw_differences([]))) > 1000


def test_a_curve_is_the_mean_over_seeds_in_percent_with_marks():
    records = zap_records()
    figure = draw_curves(
        records, task="few_shot", metric="accuracy", baseline="iid", marks={"iid_zap": [6, 12]}
    )
    axis = figure.axes[0]
    line = next(line for line in axis.lines if line.get_label().startswith("iid ("))
    rows = records[(records.arm == "iid") & (records.task == "few_shot")]
    expected = 100 * rows.groupby("step").value.mean().to_numpy()
    assert line.get_ydata() == pytest.approx(expected)
    assert to_hex(line.get_color()) == PALETTE[0]
    marks = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"]
    assert marks == [6, 12]
    assert "%" in axis.get_ylabel()


def test_the_baseline_is_black_wherever_it_stands():
    looks = colours_of(["a", "b", "base"], "base")
    assert looks["base"][0] == PALETTE[0]
    assert len({colour for colour, _ in looks.values()}) == 3


def test_small_heat_maps_carry_their_numbers_and_large_ones_do_not():
    small = pd.DataFrame([[62.8, np.nan]], index=["kaiming"], columns=["zero", "ridge"])
    titles = {"title": "t", "x_label": "x", "y_label": "y", "unit": "%"}
    texts = [text.get_text() for text in draw_heatmap(small, **titles).axes[0].texts]
    assert texts == ["62.8", "-"]
    large = pd.DataFrame(np.zeros((20, 100)))
    assert len(draw_heatmap(large, **titles).axes[0].texts) == 0


def test_cost_bars_name_the_ratio_to_the_baseline():
    table = cost_table(zap_costs(ratio=1.3), method="zap", baseline="iid")
    axis = draw_costs(table, baselines=["iid"]).axes[0]
    texts = {t.get_text().strip() for t in axis.texts}
    assert {"1.00x", "1.30x"} <= texts
    assert "(s)" in axis.get_xlabel()


def test_a_long_note_is_broken_into_lines():
    figure = draw_costs(cost_table(zap_costs(), method="zap", baseline="iid"), baselines=["iid"])
    add_note(figure, "arm " * 60)

    assert max(map(len, figure.get_supxlabel().splitlines())) <= 15 * figure.get_figwidth()


def test_shocks_are_numbered_per_arm_and_seed_and_missing_recovery_is_crossed():
    rows = [
        ("zap", "iid_zap", 0, "zap_shock", 90, "accuracy_drop", 0.3),
        ("zap", "iid_zap", 0, "zap_shock", 90, "recovery_steps", 20.0),
        ("zap", "iid_zap", 0, "zap_shock", 180, "accuracy_drop", 0.2),
    ]
    records = pd.DataFrame(rows, columns=list(zap_records().columns))
    table = shocks_of(records)
    assert table["reset"].tolist() == [1, 2]
    assert table["recovery_steps"].isna().tolist() == [False, True]
    recovery = draw_shocks(table).axes[1]
    crosses = [line for line in recovery.lines if line.get_marker() == "x"]
    assert list(crosses[0].get_xdata()) == [2]


def test_equal_figures_are_equal_bytes():
    assert png_of(draw_differences(comparisons())) == png_of(draw_differences(comparisons()))


def test_panels_of_resets_that_all_recovered_share_the_width():
    rows = [("iid_zap", s, r, 0.3, 20.0) for s in (0, 1) for r in (1, 2, 3)]
    shocks = pd.DataFrame(rows, columns=["arm", "seed", "reset", "drop", "recovery_steps"])
    figure = draw_shocks(shocks, baseline="iid")
    FigureCanvasAgg(figure).draw()
    assert all(axis.get_position().width > 0.3 for axis in figure.axes)
