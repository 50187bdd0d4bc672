"""The ridge benchmark runs on little data, compares like with like, and keeps its bound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
LITTLE = {"rows": 200, "width": 12, "classes": 3}


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_ridge
    import ridge_work

    return bench_ridge, ridge_work


@pytest.mark.parametrize(("maker", "units"), [("path", 1), ("peer", 1), ("streamed", 200)])
def test_the_work_is_done_again_and_again_and_counted(modules, maker, units):
    repetition = getattr(modules[1], maker)(**LITTLE)
    assert [repetition(), repetition()] == [units, units]


def test_both_codes_choose_one_penalty_and_give_the_same_answers(modules):
    found = modules[1].agreement(**LITTLE)
    assert found["ours"] == pytest.approx(found["peer"])
    assert found["equal_predictions"] == 1.0


def test_every_row_names_work_that_exists_and_only_the_path_has_a_goal(modules):
    bench, work = modules
    rows = list(bench.rows(bench.WHOLE))
    assert [row.name for row in rows] == ["kernel.ridge_path", "kernel.ridge_streamed"]
    assert [row.goal for row in rows] == [5.0, None]
    jobs = [job for row in rows for job in (row.ours, row.peer) if job]
    assert all(hasattr(work, job.maker) for job in jobs)
    assert rows[0].ours.options == rows[0].peer.options
    assert bench.WHOLE.stream_rows == 50_000  # training images of CIFAR-10


def test_the_stream_is_the_same_at_each_pass_and_ends_where_it_shall(modules):
    first, second = (list(modules[1].batches(2500, 3, 2)) for _ in range(2))
    assert [len(labels) for _, labels in first] == [1000, 1000, 500]
    assert all((a[0] == b[0]).all() for a, b in zip(first, second, strict=True))


def told(modules, capsys, *arguments):
    modules[0].main(["--quick", *arguments])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_last_line_is_one_json_object(modules, capsys):
    result = told(modules, capsys, "--rows", "kernel.ridge_same_result")
    assert {"name", "threads", "torch", "machine", "date", "commit", "rows"} <= set(result)
    (row,) = result["rows"]
    assert row["same"]


@pytest.mark.full
def test_every_row_runs_on_little_data(modules, capsys):
    result = told(modules, capsys)
    rows = {row["name"]: row for row in result["rows"]}
    assert len(rows) == 4
    assert rows["kernel.ridge_path"]["ratio"] > 0
    assert rows["kernel.ridge_same_result"]["same"]
    assert rows["kernel.ridge_streamed_memory"]["within_bound"]


def test_the_page_is_the_one_made_from_the_kept_results(modules):
    import speed_page

    there = [path for path in speed_page.PROBE_RESULTS if path.exists()]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in there]
    text = speed_page.probe_page(found)
    assert speed_page.PROBE_PAGE.read_text(encoding="utf-8") == text
    bounds = [row for result in found for row in result["rows"] if "bound" in row]
    assert all(f"`{row['name']}`" in text for row in bounds)
    assert ("NOT within" in text) == any(not row["within_bound"] for row in bounds)
    assert not any(result["quick"] for result in found)
