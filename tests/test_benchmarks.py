"""The benchmarks run on tiny nets, and what they print is what the pages and the Makefile read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = PROJECT / "benchmarks"
ROW = {
    "name",
    "ours",
    "peer",
    "ratio",
    "ratio_range",
    "ratio_by_the_clock",
    "goal",
    "unit",
    "precision",
    "megabytes",
    "against",
    "conditions",
}


def bench(*arguments):
    return subprocess.run(
        [sys.executable, str(FOLDER / "bench_zap.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def last_line(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_zap
    import side_by_side
    import speed_page
    import zap_work

    monkeypatch.setattr(zap_work, "keep_freed_memory", lambda: True)  # not in the tests' process
    return bench_zap, side_by_side, speed_page, zap_work


def test_the_last_line_is_one_json_object_with_every_field():
    result = last_line(bench("--quick", "--rows", "zap.inference_narrow"))
    assert {"name", "threads", "torch", "machine", "date", "commit", "rows"} <= set(result)
    (row,) = result["rows"]
    assert set(row) == ROW
    assert row["ours"] > 0
    assert row["peer"] is None
    assert row["ratio"] is None


@pytest.mark.parametrize(
    ("maker", "options", "units"),
    [
        ("iid", {"width": 2, "batch_size": 20, "images": 40, "precision": "fp32"}, 40),
        ("asb", {"width": 2, "images": 80, "episodes": 1, "precision": "fp32"}, 1),
        ("continual", {"width": 2, "classes": 2, "shots": 1, "outputs": 3, "rates": 2}, 4),
        ("side_by_side", {"width": 2, "classes": 2, "rates": 2}, 8),
        ("inference", {"width": 2, "images": 40}, 40),
    ],
)
def test_our_work_is_done_again_and_again_and_counted(modules, maker, options, units):
    *_, work = modules
    repetition = getattr(work, maker)(**options)
    assert [repetition(), repetition()] == [units, units]


def test_every_row_names_work_that_exists(modules):
    bench_zap, _, _, work = modules
    rows = list(bench_zap.rows(bench_zap.WHOLE, "somewhere"))
    assert len({row.name for row in rows}) == len(rows)
    assert all(hasattr(work, row.ours.maker) for row in rows)
    assert {row.peer.module for row in rows} == {"zap_work", "zap_official"}
    assert {row.goal for row in rows if row.goal} == {3.0, 1.3, 1.5, 2.0}


def test_a_ratio_is_the_median_of_neighbours_and_above_one_where_ours_is_faster(modules):
    _, side_by_side, *_ = modules
    # (per CPU second, by the clock) of ours and the peer; the second round met a busy machine
    rounds = [[(20, 20), (10, 10)], [(6, 2), (2, 1)], [(40, 40), (10, 40)]]
    found = side_by_side._summary(rounds)
    assert (found.ratio, found.lowest, found.highest) == (3, 2, 4)
    assert (found.ours, found.peer, found.clock_ratio) == (20, 10, 2)


def test_a_checkout_that_is_none_is_refused_in_one_line(modules, tmp_path, capsys):
    bench_zap, *_ = modules
    with pytest.raises(SystemExit) as ended:
        bench_zap.main(["--peer", str(tmp_path)])
    assert ended.value.code != 0
    assert "no anml.py" in capsys.readouterr().err


def test_the_page_of_figures_is_the_one_made_from_the_kept_result(modules):
    _, _, speed_page, _ = modules
    result = json.loads(speed_page.RESULT.read_text(encoding="utf-8"))
    assert not result["quick"]
    assert speed_page.PAGE.read_text(encoding="utf-8") == speed_page.speed_page(result)


def test_a_row_without_a_peer_is_not_measured_on_the_page(modules):
    _, _, speed_page, _ = modules
    row = dict.fromkeys(ROW) | {"name": "zap.x", "ours": 1.5, "against": "official code"}
    row |= {"unit": "images/CPU-s", "precision": "fp32", "conditions": "width 2"}
    common = {
        "machine": "m",
        "torch": "2",
        "threads": 1,
        "repetitions": 1,
        "date": "d",
        "load": 0.1,
    }
    text = speed_page.speed_page({**common, "commit": "c", "rows": [row]})
    assert "| `zap.x` | 1.5 | not measured | not measured | not measured |" in text


def test_the_page_says_which_goals_were_missed(modules):
    _, _, speed_page, _ = modules
    rows = [{"name": "a", "goal": 2.0, "ratio": 1.93}, {"name": "b", "goal": 1.5, "ratio": 1.51}]
    assert speed_page._short_of(rows) == "\nBelow its goal: `a` (1.93 of 2).\n"
    assert speed_page._short_of(rows[1:]) == "\nEvery goal is met.\n"


@pytest.mark.full
def test_every_row_runs_on_tiny_nets(modules):
    bench_zap, *_ = modules
    result = last_line(bench("--quick"))
    expected = [row.name for row in bench_zap.rows(bench_zap.QUICK, None)]
    assert [row["name"] for row in result["rows"]] == expected


@pytest.mark.full
def test_the_layout_benchmark_runs_and_prints_json():
    widths = ["--widths", "2", "--batch-norm-widths", "2"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "bench_layout.py"), "--quick", *widths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert {"name", "unit", "threads", "torch", "machine", "rows"} <= set(last_line(done))
