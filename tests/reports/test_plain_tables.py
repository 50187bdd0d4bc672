"""Plain data is shown whole: rows as tables, long texts as they are, nothing lost between them."""

from __future__ import annotations

import re

from test_document import document

from relearn.reports.document import MethodPart, report_content, write_html, write_markdown
from relearn.reports.names import arm_title, metric_title
from relearn.reports.plain_tables import divide


def shown(_, value):
    return str(value)


LEFT = {
    "findings": ["look here"],
    "best_last": [
        {"best_arm": "a_stopped", "best": 0.5, "training": "a<b"},
        {"best_arm": "c_stopped", "best": 0.25, "training": "c|d"},
    ],
    "spending": {"seconds": 12.5, "trainings": {"x": {"epochs": 3}, "y": {"epochs": 4}}},
    "forecast": "One line\n  and a second one\n",
    "gate": "",
}


def test_lists_of_rows_become_tables_with_the_plain_name_first():
    first, second = divide(LEFT, shown=shown).tables[:2]
    assert first.columns == ("training", "best arm", "best")
    assert first.rows[1] == ("c|d", "c_stopped", "0.25")
    assert (second.title, second.columns) == ("spending: trainings", ("", "epochs"))
    assert second.rows == (("x", "3"), ("y", "4"))


def test_every_value_lands_in_exactly_one_place():
    found = divide(LEFT, shown=shown)
    assert found.texts == [("forecast", "One line\n  and a second one")]
    assert found.rest == {"findings": ["look here"], "spending": {"seconds": 12.5}, "gate": ""}


def test_mappings_that_speak_of_the_same_names_stand_beside_each_other():
    spent = {"seconds": {"a": 1.5, "b": 2.0}, "percent": {"b": 3, "c": 4}, "all": 3.5}
    found = divide({"spending": spent}, shown=shown)
    (table,) = found.tables
    assert (table.title, table.columns) == ("spending", ("", "seconds", "percent"))
    assert table.rows == (("a", "1.5", "None"), ("b", "2.0", "3"), ("c", "None", "4"))
    assert found.rest == {"spending": {"all": 3.5}}


def test_accuracies_in_a_table_are_percent_and_their_differences_points():
    rows = [{"training": "a", "robust_best": 0.5, "robust_difference": 0.08, "seconds": 0.5}]
    parts = {"zap": MethodPart(diagnostics={"best_last": rows})}
    text = write_markdown(report_content(document(), parts=parts, data_card={}))
    assert "| a | 50.0 % | +8.0 points | 0.5 |" in text


def test_mappings_that_differ_in_their_fields_stay_as_they_are():
    uneven = {"a": {"x": 1}, "b": {"y": 2}}
    assert divide({"both": uneven}, shown=shown).rest == {"both": uneven}
    assert divide({"none": {}, "empty": []}, shown=shown).rest == {"none": {}, "empty": []}


def test_a_long_table_says_how_many_rows_it_leaves_out():
    (table,) = divide({"rows": [{"k": k} for k in range(100)]}, shown=shown).tables
    assert table.rows[-1] == ("and 60 more",)


def test_both_forms_of_the_report_hold_the_tables_and_the_text():
    parts = {"zap": MethodPart(diagnostics=LEFT)}
    content = report_content(document(), parts=parts, data_card={})
    page, text = write_html(content), write_markdown(content)
    assert "a&lt;b" in page
    assert "<pre>One line\n  and a second one</pre>" in page
    assert "| c\\|d | c_stopped | 0.25 |" in text
    assert "```\nOne line\n  and a second one\n```" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_reader_is_told_what_an_arm_is_and_under_what_it_is_robust():
    assert metric_title("test", "robust_accuracy") == "robust accuracy (PGD)"
    assert metric_title("test", "clean_accuracy") == "clean accuracy (test images)"
    assert arm_title("share_zero") == "share_zero (the whole cycle, nothing forgotten)"
    assert arm_title("new_arm") == "new_arm"
