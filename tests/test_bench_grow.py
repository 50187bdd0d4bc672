"""The benchmark of growing runs on a small net, and its page says which goals were missed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
ROW = {
    "name": "grow.x",
    "seconds": 2.0,
    "goal": 3.0,
    "verify_seconds": 8.0,
    "verify_share": 4.0,
    "verify_goal": 3.0,
    "memory_share": 1.1,
    "memory_goal": 1.2,
    "torch_pruning_seconds": None,
    "parameters": 1_000_000,
    "parameters_grown": 2_000_000,
    "groups": 3,
    "groups_grown": 2,
    "unit": "CPU-s",
    "precision": "fp32",
    "conditions": "a net",
}
MACHINE = {
    "machine": "m",
    "torch": "2",
    "threads": 1,
    "repetitions": 1,
    "date": "d",
    "load": 0.1,
    "commit": "c",
}


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_grow
    import grow_work
    import growth_page

    return bench_grow, grow_work, growth_page


def test_every_row_has_a_net_and_the_goals_that_were_said_before(modules):
    bench, work, _ = modules
    assert {row.name: row.goal for row in bench.WHOLE} == {
        "grow.resnet50": 3.0,
        "grow.vit_b16": 5.0,
    }
    assert (bench.VERIFY_GOAL, bench.MEMORY_GOAL, work.IMAGES, work.SIDE) == (3.0, 1.2, 8, 64)


def test_growth_and_gate_are_done_again_and_again_and_counted(modules):
    _, work, _ = modules
    for maker in (work.growth, work.verification):
        repetition = maker(net="squeezenet1_1", side=32)
        assert [repetition(), repetition()] == [1.0, 1.0]


def test_the_memory_of_a_growth_holds_both_nets(modules):
    _, work, _ = modules
    share = work.memory(net="squeezenet1_1")()
    assert math.isnan(share) or share > 0.5


def test_the_page_says_which_goals_were_missed_and_what_was_not_measured(modules):
    *_, page = modules
    text = page.growth_page({**MACHINE, "rows": [ROW]})
    assert "Missed: `grow.x`: gate over growth (4, at most 3)." in text
    assert "| not measured | 2 of 3 | 1.0 to 2.0 | a net |" in text
    met = {**ROW, "verify_share": 2.5}
    assert "Every goal is met." in page.growth_page({**MACHINE, "rows": [met]})
    unknown = {**met, "memory_share": None}
    assert "memory (not measured, at most 1.2)" in page.growth_page({**MACHINE, "rows": [unknown]})


def test_the_page_is_the_one_made_from_the_kept_result(modules):
    *_, page = modules
    import speed_page

    if speed_page.GROWTH_RESULT.exists():
        result = json.loads(speed_page.GROWTH_RESULT.read_text(encoding="utf-8"))
        assert not result["quick"]
        assert speed_page.GROWTH_PAGE.read_text(encoding="utf-8") == page.growth_page(result)


def test_a_folder_without_torch_pruning_is_refused_in_one_line(modules, tmp_path, capsys):
    bench, *_ = modules
    with pytest.raises(SystemExit) as ended:
        bench.main(["--peer", str(tmp_path)])
    assert ended.value.code != 0
    assert "no torch_pruning" in capsys.readouterr().err


@pytest.mark.full
def test_the_last_line_is_one_json_object():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "bench_grow.py"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    (row,) = result["rows"]
    assert set(row) == set(ROW)
    assert row["seconds"] > 0
