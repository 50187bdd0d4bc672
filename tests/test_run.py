"""The whole pilot in one process: what a rerun reuses, what is equal, and what lies on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from kedro_runs import PROJECT, parents_in, run, runs_in

from relearn.tracking.client import absolute_address, open_client

PILOT_UNITS = 5  # base, and two arms with two seeds each


@pytest.fixture
def here(pilot, monkeypatch):
    monkeypatch.setenv("RELEARN_DATA", str(pilot))
    return pilot


def table(root, name):
    return pd.read_parquet(root / "test/07_model_output/zap" / f"{name}.parquet")


def markers(root):
    return {p: p.stat().st_mtime_ns for p in (root / "test").rglob("done.json")}


def test_the_pilot_leaves_a_report_and_a_decision(pilot):
    reporting = pilot / "test/08_reporting"
    assert "zap" in (reporting / "report.html").read_text()
    assert (reporting / "report.md").exists()
    assert (reporting / "decision.json").exists()


def test_each_arm_and_seed_is_a_finished_child_run_with_curves(pilot):
    (parent,) = parents_in(pilot)[-1:]
    children = [r for r in runs_in(pilot) if r.data.tags.get("relearn.method") == "zap"]
    assert parent.info.status == "FINISHED"
    assert {(r.data.tags["relearn.arm"], r.data.tags["relearn.seed"]) for r in children} == {
        (arm, seed) for arm in ("iid", "iid_zap") for seed in ("0", "1")
    }
    assert {r.info.status for r in children} == {"FINISHED"}
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}
    assert all(r.data.metrics for r in children)
    assert all("zap.train.learning_rate" in r.data.params for r in children)


def test_report_figures_and_checkpoints_are_artifacts(pilot):
    client = open_client(absolute_address("", pilot))
    parent = parents_in(pilot)[-1].info.run_id
    kept = {a.path for f in ("reports", "figures") for a in client.list_artifacts(parent, f)}
    assert {"reports/report.html", "reports/decision.json", "figures/difference.png"} <= kept
    child = next(r for r in runs_in(pilot) if r.data.tags.get("relearn.arm") == "iid_zap")
    (checkpoint,) = client.list_artifacts(child.info.run_id, "checkpoints")
    assert checkpoint.path == "checkpoints/checkpoint.safetensors"


def test_nothing_on_disk_is_a_pickle_and_nothing_is_half_written(pilot):
    files = [p for p in pilot.rglob("*") if p.is_file()]
    allowed = {".safetensors", ".json", ".csv", ".parquet", ".png", ".html", ".md", ".db", ".npz"}
    assert len(files) > 30
    assert {p.suffix for p in files} <= allowed | {".yml", ".txt"}
    assert not [p for p in files if p.name.startswith(".writing") or p.name == "lock.json"]
    assert not [p for p in files if p.read_bytes()[:2] == b"\x80\x04"]


def test_a_rerun_reuses_every_unit_and_gives_the_same_tables(here):
    before, records = markers(here), table(here, "records")
    run()
    assert len(before) == PILOT_UNITS
    assert markers(here) == before
    pd.testing.assert_frame_equal(table(here, "records"), records)
    units = pd.read_csv(here / "test/06_models/zap/units.csv")
    assert units["reused"].all()


def test_equal_seeds_give_equal_records_in_another_place(pilot, storage):
    run("prepare_data", "pretrain", "zap")
    for name in ("records", "interventions", "predictions"):
        pd.testing.assert_frame_equal(table(storage, name), table(pilot, name), check_exact=True)


def test_one_more_seed_trains_that_seed_alone(here):
    before = markers(here)
    run("zap", seeds__count=3)
    after = markers(here)
    assert {p: t for p, t in after.items() if p in before} == before
    assert len(after) == len(before) + 2


def test_another_profile_never_touches_the_first(here):
    before = {p: p.stat().st_mtime_ns for p in (here / "test").rglob("*")}
    run("prepare_data", profile="mine")
    assert (here / "mine/05_model_input/stream.safetensors").exists()
    assert {p: p.stat().st_mtime_ns for p in (here / "test").rglob("*")} == before


IMPORTS = """
import sys
from kedro.framework.startup import bootstrap_project
from kedro.framework.session import KedroSession
from kedro.framework.project import pipelines, settings
bootstrap_project({project!r})
assert len(pipelines) >= 7
with settings.SESSION_CLASS.create({project!r}) as session:
    catalog = session.load_context().catalog
    for pipeline in pipelines.values():
        for name in pipeline.datasets():
            catalog.get(name)
heavy = {{"torch", "torchvision", "mlflow", "matplotlib", "lightning_fabric", "timm"}}
print(sorted(heavy & set(sys.modules)))  # pandas is imported by Kedro's own MemoryDataset
"""


def command(*words, **environment):
    """Run a command of the project as a process of its own."""
    told = {**os.environ, "DO_NOT_TRACK": "1", **environment}
    return subprocess.run(
        [sys.executable, *words], cwd=PROJECT, capture_output=True, text=True, env=told, check=False
    )


def test_registry_and_catalog_import_nothing_heavy():
    done = command("-c", IMPORTS.format(project=str(PROJECT)))
    assert done.stdout.strip() == "[]", done.stderr


def test_the_command_line_ends_a_misspelt_parameter_in_one_line(storage):
    done = command("-m", "relearn", "--env", "test", "--params", "tran.epochs=3,seeds.count=x")
    assert done.returncode == 1
    shown = done.stderr.strip().splitlines()
    assert shown[-2].startswith("Error: seeds.count: got 'x', expected a valid integer")
    assert shown[-1].startswith("tran: unknown, did you mean")
    assert "Traceback" not in done.stdout + done.stderr


def test_the_command_line_is_quiet_about_what_is_not_ours(storage):
    done = command("-m", "relearn", "--env", "test", "--pipeline", "pretrain")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "kedro run --pipeline prepare_data` first" in done.stderr


def test_the_command_line_lists_the_named_pipelines():
    done = command("-m", "kedro", "registry", "list")
    assert {
        "__default__",
        "add_classes",
        "compare",
        "prepare_data",
        "pretrain",
        "promote",
        "zap",
    } <= {line.removeprefix("- ").strip() for line in done.stdout.splitlines()}


def test_telemetry_is_off_and_the_project_file_is_left_alone():
    assert (PROJECT / ".telemetry").read_text() == "consent: false\n"
    assert "kedro_telemetry" not in Path(PROJECT / "pyproject.toml").read_text()
