"""Figures of robust training say what the records say: positions, counts, marks and labels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from made_up_robust import (
    CYCLES,
    LAST,
    made_up_pictures,
    robust_records,
    study_records,
)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from relearn.reports.arm_rows import distinct_arms, leading_arms, left_out, treated_of, values_of
from relearn.reports.before_after import (
    changed_samples,
    confusion_change,
    draw_confusion_change,
    draw_cycles,
    draw_scatter,
    few_cycles,
)
from relearn.reports.figures import PALETTE
from relearn.reports.paired import paired_interval
from relearn.reports.phase_figures import draw_overfitting, draw_phases, phase_spans
from relearn.reports.pictures import method_pictures
from relearn.reports.recovery_figures import draw_recovery, recoveries_of
from relearn.reports.robust_figures import attack_table, best_and_last, draw_attacks, draw_best_last
from relearn.reports.robust_pictures import robust_figures
from relearn.reports.study_figures import draw_gains, draw_grid, grid_table, paired_gains

RECORDS = robust_records()
PICTURES = made_up_pictures()


def texts(axis):
    return [text.get_text() for text in axis.texts]


def labelled(axis, label):
    return next(line for line in axis.lines if line.get_label() == label)


def test_arms_of_one_model_share_a_curve_and_it_is_drawn_once():
    rows = values_of(RECORDS, "curve", "validation_robust_accuracy")
    groups = distinct_arms(rows)
    assert groups["pgd_at"] == ["pgd_at", "pgd_at_stopped"]
    assert groups["forget_relearn"] == ["forget_relearn", "forget_relearn_stopped"]
    labels = [
        line.get_label()
        for line in draw_phases(RECORDS, baseline="pgd_at_stopped", treated="forget_relearn")
        .axes[0]
        .lines
    ]
    assert "pgd_at" in labels
    assert "pgd_at_stopped" not in labels


def test_the_baseline_is_black_and_the_treated_arm_blue_even_where_another_moment_stands_for_it():
    axis = draw_phases(RECORDS, baseline="pgd_at_stopped", treated="forget_relearn").axes[0]
    assert to_hex(labelled(axis, "pgd_at").get_color()) == PALETTE[0]
    assert to_hex(labelled(axis, "forget_relearn").get_color()) == PALETTE[1].lower()


def test_lines_differ_without_their_colours_too():
    axis = draw_phases(RECORDS, baseline="pgd_at", treated="forget_relearn").axes[0]
    curves = [line for line in axis.lines if len(line.get_xdata()) > 2]
    assert len({line.get_linestyle() for line in curves}) == 4


def test_phases_follow_one_another_without_a_hole():
    spans = list(phase_spans(RECORDS, "forget_relearn"))
    assert spans == [(0.0, 80.0, 0), (80.0, 150.0, 2)]


def test_every_forgetting_of_the_treated_arm_is_marked():
    axis = draw_phases(RECORDS, baseline="pgd_at", treated="forget_relearn").axes[0]
    dotted = [line for line in axis.lines if len(line.get_xdata()) == 2]
    rows = values_of(RECORDS, "recovery", "epoch")
    first = rows[(rows["arm"] == "forget_relearn") & (rows["seed"] == 0)]
    assert [line.get_xdata()[0] for line in dotted] == sorted(first["value"])


def test_the_gap_that_is_written_is_training_minus_validation_at_the_end():
    figure = draw_overfitting(RECORDS, arms=("pgd_at", "forget_relearn"))
    ends = [
        values_of(RECORDS, "curve", f"student_{split}_robust_accuracy").query(
            "arm == 'pgd_at' and step == 150"
        )["value"]
        for split in ("train", "validation")
    ]
    assert f"{100 * (ends[0].mean() - ends[1].mean()):.0f} points" in texts(figure.axes[0])


def test_the_alarm_is_marked_once_a_seed_and_only_where_it_rang():
    figure = draw_overfitting(RECORDS, arms=("pgd_at", "forget_relearn"))
    marks = labelled(figure.axes[0], "alarm of robust overfitting")
    assert list(marks.get_xdata()) == [75, 80, 85]
    labels = [line.get_label() for line in figure.axes[1].lines]
    assert "alarm of robust overfitting" not in labels


def test_what_is_not_recovered_and_what_was_rolled_back_stand_on_the_edge_with_own_marks():
    figure = draw_recovery(RECORDS, treated="forget_relearn")
    table = recoveries_of(RECORDS)
    rolled = int((table["rolled_back"] > 0).sum())
    never = int(((table["recovery_epochs"] < 0) & (table["rolled_back"] == 0)).sum())
    on_edge = [line for line in figure.axes[1].lines if set(line.get_ydata()) == {1.0}]
    marked = {m: sum(len(x.get_xdata()) for x in on_edge if x.get_marker() == m) for m in "xs"}
    assert marked == {"x": never, "s": rolled}
    assert rolled > 0
    assert never > 0


def test_the_dip_is_the_mean_over_seeds_in_points():
    figure = draw_recovery(RECORDS, treated="forget_relearn")
    table = recoveries_of(RECORDS)
    mine = table[table["arm"] == "forget_relearn"]
    expected = 100 * mine.groupby("step")["dip"].mean()
    assert labelled(figure.axes[0], "forget_relearn").get_ydata() == pytest.approx(expected)


def test_best_and_last_come_from_test_images_of_the_same_seed():
    table = best_and_last(RECORDS)
    assert list(dict.fromkeys(table["arm"])) == ["pgd_at", "pgd_at_ema", "awp", "forget_relearn"]
    difference = (table["best"] - table["last"]).groupby(table["arm"]).mean()
    for arm, value in difference.items():
        assert value == pytest.approx(LAST[f"{arm}_stopped"] - LAST[arm])
    written = texts(draw_best_last(RECORDS).axes[0])
    assert written == ["+8.0 points", "+6.0 points", "+2.0 points", "+1.5 points"]


def test_a_cascade_without_its_last_members_is_called_reduced():
    assert "AA reduced:\nAPGD-CE" in attack_table(RECORDS)
    whole = []
    for name in ("fab_t", "square"):
        rows = values_of(RECORDS, "auto_attack", "after_apgd_t").copy()
        rows["metric"] = f"after_{name}"
        whole.append(rows)
    table = attack_table(pd.concat([RECORDS, *whole]), headline="PGD-20")
    assert list(table)[:2] == ["clean", "PGD-20"]
    assert list(table)[2:6] == ["AA:\nAPGD-CE", "AA:\nAPGD-T", "AA:\nFAB-T", "AA:\nSquare"]


def test_an_attack_that_was_not_tried_on_an_arm_is_a_dash():
    axis = draw_attacks(RECORDS).axes[0]
    assert texts(axis).count("-") == 4  # nobody attacks pgd_at with its own images
    assert len(texts(axis)) == attack_table(RECORDS).size


def test_the_named_arms_are_never_left_out_of_a_crowded_figure():
    rows = values_of(RECORDS, "corruption", "mean_accuracy")
    arms = leading_arms(rows, named=("awp_stopped", "forget_only"), most=4)
    assert arms == ["awp_stopped", "forget_only", "pgd_at", "pgd_at_ema"]


def test_a_figure_without_room_says_which_arms_it_leaves_out():
    more = []
    for name, more_value in (("stable_only", 0.001), ("forget_stable", 0.002)):
        rows = RECORDS[RECORDS["arm"] == "forget_only"].copy()
        rows["arm"], rows["value"] = name, rows["value"] + more_value
        more.append(rows)
    records = pd.concat([RECORDS, *more])
    figure = draw_phases(records, baseline="pgd_at_ema", treated="forget_relearn")
    assert figure.get_supxlabel().endswith("No room for forget_relearn_student, forget_stable.")
    assert left_out(["a", "b"], ["b", "a"]) == ""
    labels = [text.get_text() for text in draw_attacks(records).axes[0].get_yticklabels()]
    assert labels == list(dict.fromkeys(records["arm"]))


def test_a_gain_is_paired_and_its_bar_carries_the_interval():
    records = study_records("layers")
    gains = paired_gains(records, task="validation", metric="robust_accuracy", baseline="pgd_at")
    axis = draw_gains(records, baseline="pgd_at", title="t", labels={}).axes[0]
    found = paired_interval(gains["layers_late"], 0.95)
    line = [line for line in axis.lines if line.get_linewidth() == 2][
        list(gains).index("layers_late")
    ]
    assert list(line.get_xdata()) == [found.low, found.high]
    assert axis.patches[list(gains).index("layers_late")].get_width() == pytest.approx(found.mean)


def test_the_grid_holds_the_mean_of_every_share_and_length():
    records = study_records("fraction_length")
    names = {"rows": "share", "columns": "length"}
    pattern = r"^share_(?P<share>[\d.e-]+)_length_(?P<length>\d+)$"
    table, seeds = grid_table(records, pattern=pattern, **names)
    mine = records[records["arm"] == "share_0.05_length_12"]["value"].mean()
    assert table.loc["0.05", "12"] == pytest.approx(100 * mine)
    assert (table.shape, seeds) == ((4, 3), 3)
    assert len(texts(draw_grid(records, title="t", pattern=pattern, **names).axes[0])) == 12


def test_newly_right_minus_newly_wrong_is_the_change_of_the_diagonal():
    changed = changed_samples(PICTURES)
    for view in ("clean", "attacked"):
        rows = changed[(changed["cycle"] == 3) & (changed["view"] == view)]
        counts = rows["change"].value_counts()
        change = confusion_change(PICTURES, 3, view)
        assert counts["newly right"] - counts["newly wrong"] == np.trace(change)
        assert change.sum() == 0
    assert set(changed["index"]) <= set(PICTURES["indices"])


def test_all_panels_of_all_forgettings_share_their_axes():
    limits = {
        (axis.get_xlim(), axis.get_ylim())
        for cycle in few_cycles(PICTURES)
        for axis in draw_scatter(PICTURES, cycle).axes
    }
    assert few_cycles(PICTURES) == [1, CYCLES // 2 + 1, CYCLES]
    assert len(limits) == 1


def test_classes_differ_in_shape_as_well_as_colour_and_many_classes_turn_grey():
    marks = draw_scatter(PICTURES, 1).legends[0].legend_handles
    assert len({mark.get_marker() for mark in marks}) == 10
    many = made_up_pictures(images=200, classes=40)
    assert len(draw_scatter(many, 1).legends[0].legend_handles) == 12
    assert not texts(draw_confusion_change(many, 1).axes[0])


def test_pictures_of_a_forgetting_that_never_ended_are_left_out():
    partial = {k: v for k, v in PICTURES.items() if not k.startswith("cycle14.relearnt")}
    assert few_cycles(partial) == [1, 7, 13]
    assert len(draw_cycles(partial).axes) == 2


def test_the_report_shows_only_what_the_records_have():
    none = pd.DataFrame()
    few = RECORDS[RECORDS["task"].isin(["test"]) & RECORDS["arm"].isin(["pgd_at", "awp"])]
    pictures = method_pictures("forget_relearn", few, interventions=none, baseline="pgd_at")
    assert [picture.title for picture in pictures] == ["Under each attack"]
    everything = list(robust_figures(RECORDS, baseline="pgd_at_stopped"))
    assert len(everything) == 7
    assert treated_of(few, named="forget_relearn") == ""


def test_no_label_of_a_tick_lies_on_the_next():
    arms = ("pgd_at", "pgd_at_stopped", "forget_relearn", "forget_relearn_stopped")
    records = robust_records(seeds=1, arms=arms)
    for _, _, figure in robust_figures(records, baseline="pgd_at_stopped"):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        for axis in figure.axes:
            boxes = [text.get_window_extent() for text in axis.get_xticklabels() if text.get_text()]
            assert all(one.x1 <= two.x0 for one, two in pairwise(boxes))


def test_treated_of_takes_the_first_that_forgets():
    assert treated_of(RECORDS, named="nobody") == "share_zero"
