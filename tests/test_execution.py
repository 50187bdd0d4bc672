"""Units: each runs once, a dead worker's is run again, finished ones never, others go on."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from unit_jobs import Job, run_unit

from relearn.arm_store import save_score
from relearn.errors import LockedError, StaleInputError, TrainingError
from relearn.execution import (
    Unit,
    address_of,
    chosen_row,
    code_digest,
    map_units,
    require_all,
    run_all,
    scores_of,
)
from relearn.execution.unit_folder import LOCK, MARKER, UnitFolder
from relearn.execution.units import Outcome
from relearn.process import Identity, this_process
from relearn.training.config import ExecutionConfig

ADDRESS = {"configuration": "c", "data": "d", "code": "k", "torch": "t"}
TESTS = Path(__file__).parent


def units(*jobs, **address):
    return [Unit(job.name, {**ADDRESS, **address}, job) for job in jobs]


def mapped(folder, *jobs, workers=1, threads=1, **address):
    todo = units(*jobs, **address)
    return map_units(run_unit, todo, folder=folder, workers=workers, threads=threads)


def runs_of(shared, name):
    return len(list(shared.glob(f"{name}.*")))


@pytest.mark.parametrize("workers", [1, 2])
def test_outcomes_come_in_the_order_of_the_units(workers, tmp_path):
    jobs = [Job("slow", seconds=0.3), Job("quick"), Job("last")]
    found = mapped(tmp_path, *jobs, workers=workers)
    assert [o.key for o in found] == ["slow", "quick", "last"]
    assert all(o.ok and not o.reused for o in found)
    assert [(o.path / "result.txt").read_text() for o in found] == ["slow", "quick", "last"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_unit_that_raises_does_not_stop_the_others(workers, tmp_path):
    jobs = [Job("a"), Job("bad", "raise"), Job("wrong", "fault"), Job("z")]
    found = {o.key: o for o in mapped(tmp_path, *jobs, workers=workers)}
    assert [o.ok for o in found.values()] == [True, False, False, True]
    assert found["bad"].reason == "ValueError: bad cannot"
    assert found["wrong"].reason == "data.source: is wrong"
    assert "Traceback" in (found["bad"].path / "failure.txt").read_text()


def test_failures_are_named_together_after_the_others_have_finished(tmp_path):
    found = mapped(tmp_path, Job("a", "raise"), Job("b"), Job("c", "fault"))
    with pytest.raises(TrainingError, match=r"zap: 2 unit\(s\) failed \(a, c\): ValueError"):
        require_all(found, what="zap")
    require_all(found[1:2], what="zap")


def test_of_many_failures_a_few_are_named():
    many = [Outcome(f"u{n}", False, "no memory", Path("u"), reused=False) for n in range(6)]
    with pytest.raises(TrainingError, match=r"6 unit.*\(u0, u1, u2, u3 and 2 more\): no"):
        require_all(many, what="zap")


def test_a_run_of_all_is_done_as_the_execution_says_and_names_its_pipeline(tmp_path):
    execution = ExecutionConfig(
        device="cpu", precision="fp32", devices=1, workers=2, threads=1, backend="loky"
    )
    at = {"folder": tmp_path, "describe": "zap: arms"}
    found = run_all(run_unit, units(Job("a"), Job("b")), execution, **at)
    assert [(o.key, o.ok) for o in found] == [("a", True), ("b", True)]
    with pytest.raises(TrainingError, match=r"^zap: 1 unit\(s\) failed \(c\): ValueError"):
        run_all(run_unit, units(Job("c", "raise")), execution, **at)


def test_scores_are_grouped_by_candidate(tmp_path):
    outcomes = []
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_score(folder, score=number / 10, seconds={"train": number})
        outcomes.append(Outcome(str(number), True, "", folder, reused=False))
    found = scores_of(outcomes, each=2, seconds=lambda spent: spent["train"])
    assert found == [[(0.0, 0.0), (0.1, 1.0)], [(0.2, 2.0), (0.3, 3.0)]]


def test_the_chosen_row_is_found_or_the_pipeline_to_run_is_named():
    table = pd.DataFrame({"arm": ["a", "a", "b"], "rate": [1, 2, 3], "chosen": [False, True, True]})
    assert chosen_row(table, pipeline="zap", column="arm", name="a")["rate"] == 2
    with pytest.raises(StaleInputError, match=r"zap.selection: .* arm 'c'; run `kedro run --pip"):
        chosen_row(table, pipeline="zap", column="arm", name="c")


@pytest.mark.parametrize("workers", [1, 2])
def test_finished_units_are_not_run_again(workers, tmp_path):
    shared = tmp_path / "shared"
    jobs = [Job("a", shared=shared), Job("b", "raise", shared=shared)]
    mapped(tmp_path / "units", *jobs, workers=workers)
    found = mapped(tmp_path / "units", *jobs, workers=workers)
    assert [o.reused for o in found] == [True, False]
    assert (runs_of(shared, "a"), runs_of(shared, "b")) == (1, 2)


def test_a_unit_that_failed_before_can_finish_later(tmp_path):
    shared = tmp_path / "shared"
    failed = mapped(tmp_path / "u", Job("a", "raise", shared=shared))
    mended = mapped(tmp_path / "u", Job("a", shared=shared))
    assert (failed[0].ok, mended[0].ok) == (False, True)
    assert not (mended[0].path / "failure.txt").exists()


@pytest.mark.parametrize("damage", ["changed", "removed", "marker"])
def test_a_damaged_unit_is_told_and_done_again(damage, tmp_path, caplog):
    shared = tmp_path / "shared"
    (before,) = mapped(tmp_path / "u", Job("a", shared=shared))
    result = before.path / "result.txt"
    if damage == "changed":
        result.write_text("forged")
    if damage == "removed":
        result.unlink()
    if damage == "marker":
        (before.path / MARKER).write_text("{ha")
    with caplog.at_level(logging.INFO, logger="relearn"):
        (after,) = mapped(tmp_path / "u", Job("a", shared=shared))
    assert after.ok
    assert not after.reused
    assert result.read_text() == "a"
    assert "a: damaged" in caplog.text


@pytest.mark.parametrize("part", ["configuration", "data", "code", "torch"])
def test_the_log_says_which_part_of_the_address_changed(part, tmp_path, caplog):
    mapped(tmp_path, Job("a"))
    with caplog.at_level(logging.INFO, logger="relearn"):
        (after,) = mapped(tmp_path, Job("a"), **{part: "other"})
    assert not after.reused
    assert f"a: done again because {part} changed" in caplog.text
    (back,) = mapped(tmp_path, Job("a"))
    assert back.reused  # what was finished at the first address is still there


def test_resume_points_and_litter_are_no_results(tmp_path):
    (outcome,) = mapped(tmp_path, Job("a", "leave_litter"))
    assert sorted(p.name for p in outcome.path.iterdir()) == [MARKER, "result.txt"]
    assert list(json.loads((outcome.path / MARKER).read_text())["files"]) == ["result.txt"]


def test_a_killed_worker_costs_its_unit_one_more_run_and_the_others_nothing(tmp_path):
    shared = tmp_path / "shared"
    jobs = [Job("dies", "die_once", shared), *(Job(f"u{i}", shared=shared) for i in range(4))]
    found = mapped(tmp_path / "u", *jobs, workers=2)
    assert all(o.ok for o in found)
    assert runs_of(shared, "dies") == 2


def test_a_unit_that_kills_its_worker_twice_fails_alone(tmp_path):
    jobs = [Job("deadly", "die"), *(Job(f"u{i}", seconds=0.1) for i in range(3))]
    found = mapped(tmp_path, *jobs, workers=2)
    assert [o.ok for o in found] == [False, True, True, True]
    assert "died twice" in found[0].reason


def test_workers_take_the_threads_they_are_given(tmp_path):
    found = mapped(tmp_path, Job("a", "threads"), Job("b", "threads"), workers=2, threads=3)
    assert [(o.path / "threads.txt").read_text() for o in found] == ["3", "3"]


def test_one_worker_needs_no_other_process(tmp_path):
    shared = tmp_path / "shared"
    mapped(tmp_path / "u", Job("a", shared=shared))
    (call,) = shared.glob("a.*")
    assert call.name.endswith(f".{os.getpid()}")


def test_equal_keys_are_refused(tmp_path):
    with pytest.raises(ValueError, match="keys"):
        mapped(tmp_path, Job("a"), Job("a", "raise"))


def test_ray_that_is_not_installed_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.util.joblib", None)
    with pytest.raises(TrainingError, match=r"execution\.backend: ray is not installed"):
        map_units(run_unit, units(Job("a")), folder=tmp_path, workers=2, threads=1, backend="ray")


def lock_of(tmp_path, identity):
    place = UnitFolder.of(tmp_path, "a", ADDRESS)
    place.path.mkdir(parents=True, exist_ok=True)
    (place.path / LOCK).write_text(json.dumps(identity.as_row()))
    return place


def test_a_living_holder_is_refused(tmp_path):
    other = subprocess.Popen(["sleep", "60"])
    try:
        start = Path(f"/proc/{other.pid}/stat")
        told = start.read_text().rpartition(")")[2].split()[19] if start.exists() else ""
        lock_of(tmp_path, Identity(other.pid, this_process().host, told))
        with pytest.raises(LockedError, match=f"process {other.pid}"):
            mapped(tmp_path, Job("a"))
    finally:
        other.kill()
        other.wait()


def test_a_holder_on_another_machine_is_refused(tmp_path):
    lock_of(tmp_path, Identity(1, "another-machine", "1"))
    with pytest.raises(LockedError, match="another-machine"):
        mapped(tmp_path, Job("a"))


@pytest.mark.parametrize("cut_short", [False, True])
def test_the_lock_of_a_dead_process_is_taken_over(cut_short, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    place = lock_of(tmp_path, Identity(gone.pid, this_process().host, "1"))
    if cut_short:
        (place.path / LOCK).write_text('{"pid": 12')
    (outcome,) = mapped(tmp_path, Job("a"))
    assert outcome.ok
    assert not (place.path / LOCK).exists()


def test_a_process_killed_after_its_unit_was_whole_leaves_no_lock_behind(tmp_path):
    mapped(tmp_path, Job("a"))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    place = lock_of(tmp_path, Identity(gone.pid, this_process().host, "1"))
    (outcome,) = mapped(tmp_path, Job("a"))
    assert outcome.reused
    assert not (place.path / LOCK).exists()


def test_a_number_that_another_process_has_got_is_not_taken_for_the_holder():
    mine = this_process()
    assert not mine.is_surely_dead()
    if mine.start:
        assert Identity(mine.pid, mine.host, "1").is_surely_dead()


def test_workers_end_when_their_parent_is_killed(tmp_path):
    code = (
        "from pathlib import Path; from unit_jobs import Job, hold_forever\n"
        "from relearn.execution import Unit, map_units\n"
        f"units = [Unit(n, {{'a': n}}, Job(n)) for n in 'ab']\n"
        f"map_units(hold_forever, units, folder=Path({str(tmp_path)!r}), workers=2, threads=1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    begun = wait_for(lambda: list(tmp_path.glob("*/*/begun.txt")), count=2)
    workers = [int(path.read_text()) for path in begun]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: [w for w in workers if not alive(w)], count=2)


def wait_for(look, count, seconds=60):
    """Return what ``look`` finds as soon as it finds ``count``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if len(found) >= count and all(not isinstance(f, Path) or f.read_text() for f in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def alive(pid):
    return not Identity(pid, this_process().host, "").is_surely_dead()


def test_the_address_changes_with_each_part_and_with_nothing_else():
    told = {"config": "c", "data": "d", "floors": ("data", "models")}
    first = address_of(**told)
    assert first == address_of(**told)
    assert set(first) == {"configuration", "data", "code", "torch"}
    assert address_of(**{**told, "floors": ("models", "data")}) == first
    for part, value in (("config", "x"), ("data", "x"), ("floors", ("data",))):
        other = address_of(**{**told, part: value})
        assert len([k for k in first if other[k] != first[k]]) == 1


def test_the_code_digest_covers_files_of_the_package_and_names_unknown_ones():
    assert code_digest(["data"]) != code_digest(["models"])
    assert code_digest(["errors"]) != code_digest(["strict"])
    with pytest.raises(FileNotFoundError, match=r"relearn\.nothing"):
        code_digest(["nothing"])


@pytest.mark.full
def test_ray_runs_units_like_the_workers_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    )
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        jobs = [Job("a"), Job("bad", "raise"), Job("deadly", "die"), Job("z")]
        found = map_units(
            run_unit, units(*jobs), folder=tmp_path, workers=2, threads=1, backend="ray"
        )
        assert [o.ok for o in found] == [True, False, False, True]
        assert found[1].reason == "ValueError: bad cannot"
        assert "died twice" in found[2].reason
    finally:
        ray.shutdown()
