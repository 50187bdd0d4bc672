"""A run killed at any moment goes on from there and ends with the records of an undisturbed one.

Four moments are part of ``make test``; twenty, spread over the run, of ``make test-faults``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kedro_runs import PROJECT, SMALL, parents_in, run, runs_in

from relearn.tracking.client import STORE

RECORDS = "test/07_model_output/zap/records.parquet"
FEW = {"seeds.count": 1}
PARAMS = ",".join(f"{k}={v}" for k, v in {**SMALL, **FEW, "zap.evidence.sham_arm": '""'}.items())
MOMENTS = 20


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """Return a storage root in which everything before zap has been run."""
    root = tmp_path_factory.mktemp("prepared")
    shutil.copy(empty_store, root / STORE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELEARN_DATA", str(root))
        run("prepare_data", "pretrain", seeds__count=1, tracking__enabled=False)
    return root


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Return the records of a run that nothing has disturbed."""
    root = tmp_path_factory.mktemp("undisturbed") / "root"
    shutil.copytree(prepared, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELEARN_DATA", str(root))
        run("zap", seeds__count=1)
    return pd.read_parquet(root / RECORDS)


@pytest.fixture
def root(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the prepared root, which the configuration points to."""
    copy = tmp_path / "root"
    shutil.copytree(prepared, copy)
    monkeypatch.setenv("RELEARN_DATA", str(copy))
    return copy


def start(root: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start ``zap`` as a process of its own."""
    words = ["-m", "relearn", "--env", "test", "--pipelines", "zap", "--params"]
    told = {**os.environ, "RELEARN_DATA": str(root), "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    with (root / "screen.log").open("wb") as screen:
        return subprocess.Popen(
            [sys.executable, *words, ",".join([PARAMS, *more])],
            cwd=PROJECT,
            env=told,
            stdout=screen,
            stderr=screen,
        )


def wait(process: subprocess.Popen[bytes], reached: Callable[[], object]) -> None:
    """Wait until the moment is reached or the process has ended."""
    end = time.monotonic() + 120
    while not reached() and process.poll() is None:
        assert time.monotonic() < end, "the moment never came"
        time.sleep(0.01)


def check(root: Path, undisturbed: pd.DataFrame) -> None:
    """Go on in this process, and compare with the run that nothing has disturbed."""
    run("zap", seeds__count=1)
    pd.testing.assert_frame_equal(pd.read_parquet(root / RECORDS), undisturbed)
    assert "RUNNING" not in {r.info.status for r in runs_in(root)}
    assert parents_in(root)[0].info.status == "FINISHED"
    zap = root / "test/06_models/zap"
    assert not list(zap.rglob("lock.json"))
    assert not [p for p in zap.rglob(".writing-*") if (p.parent / "done.json").exists()]


def first(pattern: str) -> Callable[[Path], Callable[[], object]]:
    return lambda root: lambda: next((root / "test").glob(pattern), None)


EVENTS = {
    "first unit begun, kill": (first("06_models/zap/arms/*/*/lock.json"), signal.SIGKILL),
    "first unit finished, kill": (first("06_models/zap/arms/*/*/done.json"), signal.SIGKILL),
    "first unit resumable, kill": (first("06_models/zap/arms/*/*/resume*"), signal.SIGKILL),
    "second unit begun, SIGTERM": (
        first("06_models/zap/arms/iid_zap*/*/lock.json"),
        signal.SIGTERM,
    ),
}


@pytest.mark.parametrize("event", EVENTS)
def test_a_run_stopped_at_an_event_goes_on_from_there(event, root, undisturbed):
    reached, stop = EVENTS[event]
    process = start(root)
    wait(process, reached(root))
    process.send_signal(stop)
    assert process.wait(60) == (-stop if stop == signal.SIGKILL else 128 + stop)
    if stop == signal.SIGTERM:
        assert {r.info.status for r in runs_in(root)} <= {"KILLED", "FINISHED"}
        assert parents_in(root)[0].info.status == "KILLED"
    check(root, undisturbed)


@pytest.fixture(scope="module")
def seconds(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return how long an undisturbed run takes as a process."""
    copy = tmp_path_factory.mktemp("timed") / "root"
    shutil.copytree(prepared, copy)
    begin = time.monotonic()
    assert start(copy).wait() == 0, (copy / "screen.log").read_text()
    return time.monotonic() - begin


@pytest.mark.faults
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_run_killed_at_any_moment_goes_on_from_there(moment, root, undisturbed, seconds):
    process = start(root)
    begin = time.monotonic()
    wait(process, lambda: time.monotonic() - begin > seconds * (moment + 0.5) / MOMENTS)
    process.send_signal((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[moment % 3])
    process.wait(60)
    check(root, undisturbed)


@pytest.mark.faults
def test_a_run_whose_workers_are_killed_ends_well(root, undisturbed):
    process = start(root, "execution.workers=2")
    wait(process, first("06_models/zap/arms/*/*/lock.json")(root))
    for path in (root / "test").glob("06_models/zap/arms/*/*/lock.json"):
        pid = int(path.read_text().partition('"pid": ')[2].partition(",")[0])
        os.kill(pid, signal.SIGKILL)
        break
    assert process.wait(180) == 0, (root / "screen.log").read_text()
    pd.testing.assert_frame_equal(pd.read_parquet(root / RECORDS), undisturbed)


@pytest.mark.faults
def test_a_disk_that_is_full_is_one_line_and_room_lets_the_run_go_on(root, undisturbed):
    limited = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"  # a write past the limit is then an error
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "sys.argv[0] = 'relearn'; runpy.run_module('relearn', run_name='__main__')\n"
    )
    words = ["--env", "test", "--pipelines", "zap", "--params"]
    done = subprocess.run(
        [sys.executable, "-c", limited, *words, f"{PARAMS},tracking.enabled=false"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Error: no space left on the disk" in done.stderr
    assert "Traceback" not in done.stderr
    check(root, undisturbed)
