"""The benchmark of dual kernels runs on tiny kernels and prints what is kept."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_kernel
    import foreign_worker
    import kernel_work

    return bench_kernel, foreign_worker, kernel_work


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("maker", "options"),
    [
        ("dense", {"inputs": 6, "dimension": 5, "depth": 2}),
        ("grid", {"inputs": 6, "side": 4, "depth": 2}),
    ],
)
def test_a_kernel_is_made_again_and_again_and_its_entries_are_counted(modules, maker, options, own):
    repetition = getattr(modules[2], maker)(**options, own=own, check=False)
    assert [repetition(), repetition()] == [36.0, 36.0]
    value = getattr(modules[2], maker)(**options, own=own, check=True)()
    assert 0 < value < 2


def test_both_codes_are_asked_for_the_same_work_and_the_goals_are_those_of_the_project(modules):
    bench, _, work = modules
    rows = list(bench.rows(bench.WHOLE, "python"))
    assert {row.name: row.goal for row in rows if row.goal} == {
        "kernel.fc": 5.0,
        "kernel.conv": 2.0,
    }
    for row in rows:
        assert hasattr(work, row.ours.maker)
        assert (row.ours.maker, row.ours.options) == (row.peer.maker, row.peer.options)
        assert row.peer.python == "python"
    assert all(row.peer is None for row in bench.rows(bench.WHOLE, None))


def test_the_last_line_is_one_json_object_with_a_row_for_each_kernel():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "bench_kernel.py"), "--quick", "--rows", "kernel.conv_own"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["name"] == "kernel"
    assert result["quick"]
    (row,) = result["rows"]
    assert row["name"] == "kernel.conv_own"
    assert row["ours"] > 0
    assert row["peer"] is None


def test_a_worker_of_another_python_waits_works_and_ends(modules, monkeypatch, tmp_path):
    worker = modules[1]
    monkeypatch.setattr(worker, "FOLDER", tmp_path)
    (tmp_path / "other.py").write_text(
        textwrap.dedent(
            """
            import json, sys
            print("a library says something")
            print("SAYS " + json.dumps([json.loads(sys.argv[2])["units"], 12.5]), flush=True)
            for line in sys.stdin:
                if line.strip() == "stop":
                    break
                print("SAYS " + json.dumps([10.0, 2.0, 5.0, 13.5]), flush=True)
            """
        ),
        encoding="utf-8",
    )
    found = worker.ForeignWorker(sys.executable, "other", "any", options={"units": 10}, threads=1)
    assert (found.first, found.megabytes) == (10, 12.5)
    assert found.rates() == (5.0, 2.0)
    assert math.isclose(found.megabytes, 13.5)
    found.close()
    with pytest.raises(RuntimeError, match="ended"):
        worker.ForeignWorker(sys.executable, "missing", "any", options={}, threads=1)


def test_codes_that_disagree_are_not_raced(modules, monkeypatch):
    bench = modules[0]
    row = next(iter(bench.rows(bench.QUICK, "python")))
    monkeypatch.setattr(bench, "outcome", lambda job, **_: 1.0 if job.python else 1.001)
    with pytest.raises(RuntimeError, match="our entry is"):
        bench.require_same_kernels(row)


def test_a_python_that_is_not_there_is_refused_in_one_line(modules, tmp_path, capsys):
    with pytest.raises(SystemExit):
        modules[0].main(["--peer", str(tmp_path / "python")])
    assert "is no file" in capsys.readouterr().err
