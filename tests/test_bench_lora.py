"""The benchmark of low-rank modules runs on tiny nets; its rows name work that exists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
TINY = {"dim": 64, "depth": 1, "image": 16, "patch": 8, "batch_size": 6, "rank": 2}


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_lora
    import lora_work

    monkeypatch.setattr(lora_work, "keep_freed_memory", lambda: True)  # not in the tests' process
    return bench_lora, lora_work


@pytest.mark.parametrize(
    "more",
    [
        {"tasks": 0, "penalty": False},
        {"tasks": 2},
        {"tasks": 2, "watched": True},
        {"tasks": 3, "freeze": 0.25},
        {"tasks": 2, "omega": False},
    ],
)
def test_a_step_is_done_again_and_again_and_counted(modules, more):
    _, work = modules
    repetition = work.step(**TINY, **more)
    assert [repetition(), repetition()] == [6, 6]


def test_a_mixed_batch_is_answered_by_the_tasks_it_was_made_of(modules):
    _, work = modules
    repetition = work.inference(**TINY, tasks=3)
    assert [repetition(), repetition()] == [6, 6]


def test_the_share_of_frozen_matrices_is_the_one_asked_for(modules):
    _, work = modules
    model = work.net(dim=64, depth=2, image=16, patch=8)
    adapters = work.learnt(model, tasks=4, rank=2, freeze=1 / 12, omega=True)
    assert len(adapters.frozen) == 4
    assert sorted(adapters.frozen.values()) == [0, 1, 2, 3]


def test_the_bytes_of_a_task_are_not_less_than_its_factors(modules):
    _, work = modules
    sizes = {name: TINY[name] for name in ("dim", "depth", "image", "patch", "rank")}
    assert work.stored(**sizes)() > 1


def test_every_row_names_work_that_exists_and_the_goals_that_were_set(modules):
    bench, work = modules
    rows = list(bench.rows(bench.WHOLE, "somewhere", peft=True))
    assert len({row.name for row in rows}) == len(rows)
    assert all(hasattr(work, row.ours.maker) for row in rows)
    goals = {row.name: row.goal for row in rows if row.goal}
    assert goals == {
        "lora.step_9_tasks_768": 1.5,
        "lora.step_9_tasks_192": 1.15,
        "lora.step_1_over_20_tasks": 0.909,
        "lora.step_1_over_20_tasks_frozen": 0.909,
        "lora.task_inference": 4.0,
        "lora.peft_one_adapter": 1.0,
        "lora.peft_one_adapter_192": 1.0,
    }


def test_without_the_other_codes_their_columns_stay_empty(modules):
    bench, _ = modules
    rows = list(bench.rows(bench.WHOLE, None, peft=False))
    assert {row.against for row in rows if row.peer} == {"ours after 1 task"}


def test_a_checkout_that_is_none_is_refused_in_one_line(modules, tmp_path, capsys):
    bench, _ = modules
    with pytest.raises(SystemExit) as ended:
        bench.main(["--peer", str(tmp_path)])
    assert ended.value.code != 0
    assert "no checkout of LoRAC-IPC" in capsys.readouterr().err


def test_the_last_line_is_one_json_object_with_every_field():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "bench_lora.py"), "--quick", "--rows", "lora.step_1_tasks_1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert {"name", "threads", "torch", "machine", "date", "commit", "rows"} <= set(result)
    (row,) = result["rows"]
    assert row["ours"] > 0
    assert row["peer"] is None


def test_the_page_of_the_speed_is_that_of_the_kept_figures_and_names_what_was_missed(modules):
    import speed_page

    result = json.loads(speed_page.LORA_RESULT.read_text(encoding="utf-8"))
    text = speed_page.lora_text(result)
    assert speed_page.LORA_PAGE.read_text(encoding="utf-8") == text
    missed = [r for r in result["rows"] if r.get("goal") and r["ratio"] < r["goal"]]
    assert all(f"`{row['name']}` ({row['ratio']:.2f} of " in text for row in missed)
    told = [r for r in result["rows"] if "margin" in r and not r["within_margin"]]
    assert text.count("NOT within") == len(told)
