"""The report: whole in itself, complete, and honest about what was not run."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from made_up import compare_config, evidence, zap_costs, zap_records

from relearn.reports.comparison import compare_method
from relearn.reports.config import METHODS
from relearn.reports.costs import add_money, cost_ratio, cost_table
from relearn.reports.decision import decide
from relearn.reports.document import (
    MethodPart,
    flat_rows,
    report_content,
    write_html,
    write_markdown,
)
from relearn.reports.pictures import method_pictures
from relearn.reports.summary import decision_document, main, method_entry, short_table

ORIGIN = {"command": "kedro run", "commit": "abc (clean)", "machine": "Linux x86_64, 2 cores"}


def document(*, seeds=5, gain=0.05, price=0.0):
    asked, config = evidence(), compare_config()
    rows = compare_method(
        zap_records(seeds=seeds, gain=gain), method="zap", evidence=asked, config=config
    )
    costs = cost_table(zap_costs(seeds=seeds), method="zap", baseline="iid")
    costs = add_money(costs, price_per_hour=price, currency="USD")
    decision = decide(rows, asked, cost_ratio=cost_ratio(costs, arm="iid_zap"))
    entry = method_entry(decision, asked, comparisons=rows, costs=costs)
    return decision_document({"zap": entry}, title="Does <it> help?", provenance=ORIGIN)


def part():
    changes = pd.DataFrame({"arm": ["iid_zap"] * 2, "seed": [0, 0], "step": [90, 180]})
    return MethodPart(
        pictures=method_pictures("zap", zap_records(), interventions=changes, baseline="iid"),
        diagnostics={"findings": ["rate at a border of its grid"], "steps_between_resets": 225},
        recommendation={"recommendation": "Reset every epoch.", "every": 1},
        ledger={"rows": 9, "verified": 9},
    )


@pytest.fixture(scope="module")
def page():
    content = report_content(
        document(), parts={"zap": part()}, data_card={"images": 14000}, japanese=True
    )
    return write_html(content), write_markdown(content)


class _Links(HTMLParser):
    """Collects what a browser would fetch, and whether tags close in order."""

    VOID = frozenset({"meta", "link", "img", "br", "hr"})

    def __init__(self):
        super().__init__()
        self.fetched, self.open, self.badly_closed = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.badly_closed.append(tag)


def test_the_page_fetches_nothing_and_its_tags_close(page):
    parser = _Links()
    parser.feed(page[0])
    assert all(address.startswith(("data:", "#")) for address in parser.fetched)
    assert sum(address.startswith("data:image/png") for address in parser.fetched) == 3
    assert (parser.open, parser.badly_closed) == ([], [])
    assert not re.search(r"https?://|url\(|@import|<script", page[0])


def test_text_from_outside_is_escaped(page):
    assert "Does &lt;it&gt; help?" in page[0]
    assert "<it>" not in page[0]


def test_both_forms_show_a_row_for_each_method_and_what_was_not_run(page):
    for text in page:
        for method in METHODS:
            assert method in text
        assert text.count("not run") >= 4


def test_both_forms_hold_rule_cost_ledger_failures_and_origin(page):
    wanted = [
        "smallest difference that matters",
        "rate at a border of its grid",
        "Reset every epoch.",
        "verified",
        "abc (clean)",
        "14000",
        "1.04x",
        "経営者向け要約",
        "treated over sham",
    ]
    for text in page:
        assert [w for w in wanted if w not in text] == []


def test_every_table_of_the_markdown_has_rows_of_one_width(page):
    blocks = re.findall(r"(?:^\|.*\n)+", page[1], flags=re.MULTILINE)
    assert len(blocks) >= 6
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_a_report_of_nothing_run_still_says_so():
    content = report_content(
        decision_document({}, title="t", provenance=ORIGIN), parts={}, data_card={}
    )
    assert "0 of 5 methods were run" in write_html(content)
    assert "0 of 5 methods were run" in write_markdown(content)


def test_the_decision_is_plain_json_without_nan():
    text = json.dumps(document(seeds=1), allow_nan=False)
    assert json.loads(text)["methods"]["zap"]["verdict"] == "hold"
    assert list(json.loads(text)["methods"]) == list(METHODS)


def test_a_file_that_sorts_its_keys_changes_nothing_that_is_read():
    found = document()
    again = json.loads(json.dumps(found, sort_keys=True))
    assert short_table(again) == short_table(found)
    pages = [write_html(report_content(d, parts={}, data_card={})) for d in (found, again)]
    assert pages[0] == pages[1]


def test_the_short_table_fits_a_terminal_and_names_every_method():
    lines = short_table(document()).splitlines()
    assert max(map(len, lines)) <= 120
    assert [line.split()[0] for line in lines[2:]] == list(METHODS)
    assert lines[2].endswith("adopt")


def test_the_table_is_printed_again_from_the_file(tmp_path, capsys):
    path = tmp_path / "decision.json"
    path.write_text(json.dumps(document()), encoding="utf-8")
    assert main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "adopt" in printed
    assert str(tmp_path / "report.html") in printed
    assert "make ui" in printed
    assert main([str(tmp_path / "none.json")]) == 1
    assert "kedro run --pipeline compare" in capsys.readouterr().err


def test_money_is_shown_only_with_a_price():
    plain = report_content(document(), parts={}, data_card={})
    priced = report_content(document(price=3600.0), parts={}, data_card={})
    assert "USD" not in write_html(plain)
    assert "21 USD" in write_html(priced)  # 21 s at 1 USD a second


def test_nested_data_becomes_rows_and_long_lists_are_cut():
    rows = dict(flat_rows({"splits": {"train": 3}, "seeds": list(range(20)), "ok": True}))
    assert rows["splits: train"] == "3"
    assert rows["seeds"].endswith("and 8 more")
    assert rows["ok"] == "yes"
