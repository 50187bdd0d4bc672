"""One run: what it records, how it ends, and what a user reads when it cannot go on."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import click
import pytest
from dead_store import free_port
from kedro.framework.project import pipelines, settings
from kedro.runner import ParallelRunner
from kedro_runs import PROJECT, parents_in, run, runs_in

from relearn.errors import DataError
from relearn.faults import line_of
from relearn.tracking.client import absolute_address, open_client


@pytest.fixture
def break_reading(monkeypatch):
    """Return a function that makes the first node do something else."""

    def put(act):
        def read(*_, **__):
            return act()

        monkeypatch.setattr("relearn.data.sources.read_images", read)

    return put


def raising(error):
    def act():
        raise error

    return act


def refusal(*names, **changes):
    """Return the one line that a refused run shows."""
    with pytest.raises(click.ClickException) as caught:
        run(*names, **changes)
    assert "Traceback" not in caught.value.message
    return caught.value.message


def artifacts(storage, run_id, folder=None):
    client = open_client(absolute_address("", storage))
    return {a.path for a in client.list_artifacts(run_id, folder)}


def test_a_run_that_ends_well_records_everything(storage):
    run("prepare_data", tracking__experiment="relearn")
    (found,) = runs_in(storage)
    assert found.info.status == "FINISHED"
    tags, params = found.data.tags, found.data.params
    assert (tags["kedro.env"], tags["kedro.pipelines"]) == ("test", "prepare_data")
    assert '"classes": 24' in tags["kedro.runtime_params"]
    assert tags["relearn.command"]
    assert tags["mlflow.user"]
    if (PROJECT / ".git").exists():
        assert len(tags["mlflow.source.git.commit"]) == 40
        assert tags["git.dirty"] in ("true", "false")
    assert params["data.glyphs.classes"] == "24"
    assert params["zap.policy.every"]
    inputs = {i.dataset.name: i.dataset.digest for i in found.inputs.dataset_inputs}
    assert set(inputs) == {"images", "stream"}
    assert tags["data.stream"].startswith(inputs["stream"])
    assert "environment.json" in artifacts(storage, found.info.run_id)
    assert "reports/data_card.json" in artifacts(storage, found.info.run_id, "reports")
    assert "figures/sample_grid.png" in artifacts(storage, found.info.run_id, "figures")
    assert found.data.metrics["progress"] == 1.0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tran__epochs": 3}, "tran: unknown, did you mean"),
        ({"zap__metod__every": 3}, "zap.metod: unknown"),
        ({"seeds__count": "many"}, "seeds.count: got 'many', expected a valid integer"),
        ({"storage__folder": "elsewhere"}, "storage: cannot be set by --params"),
    ],
)
def test_faults_in_parameters_are_one_line_and_open_no_run(changes, line, storage):
    assert line in refusal("prepare_data", **changes)
    assert runs_in(storage) == []
    assert sorted(p.name for p in storage.iterdir()) == ["mlflow.db"]


def test_parameters_of_pipelines_not_asked_for_are_checked_too(storage):
    assert "promote.action: got 'push'" in refusal("prepare_data", promote__action="push")


def test_a_fault_that_a_user_can_mend_is_shown_alone_and_kept_with_its_traceback(
    storage, break_reading
):
    break_reading(raising(DataError("data.source_path: /x holds no image; name another folder")))
    message = refusal("prepare_data")
    assert message == "data.source_path: /x holds no image; name another folder"
    (found,) = runs_in(storage)
    assert found.info.status == "FAILED"
    assert found.data.tags["relearn.reason"] == message
    assert "traceback.txt" in artifacts(storage, found.info.run_id)


def test_a_fault_nobody_expected_names_its_traceback(storage, break_reading):
    break_reading(raising(ZeroDivisionError("by zero\nsecond line")))
    message = refusal("prepare_data")
    assert message.startswith("ZeroDivisionError: by zero (traceback: ")
    assert "\n" not in message
    kept = Path(message.partition("(traceback: ")[2].rstrip(")"))
    assert "second line" in kept.read_text()
    assert runs_in(storage)[0].info.status == "FAILED"


def test_a_full_disk_is_named_and_leaves_nothing_half_written(storage, break_reading, monkeypatch):
    monkeypatch.setattr("relearn.atomic.os.fsync", raising_full)
    message = refusal("prepare_data")
    assert message.startswith("no space left on the disk")
    assert "RELEARN_DATA" in message
    assert runs_in(storage)[0].info.status == "FAILED"
    assert [p for p in (storage / "test").rglob("*") if p.is_file()] == []


def raising_full(_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/disk/x"),
        RuntimeError("database or disk is full"),
        DataError("zap: 1 unit(s) failed (a): OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_full_disk_is_recognised_through_other_libraries_and_workers(error):
    outer = ValueError("outer")
    outer.__cause__ = error
    assert line_of(outer).startswith("no space left on the disk")


def test_an_interrupt_ends_the_run_killed(storage, break_reading):
    break_reading(raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run("prepare_data")
    assert runs_in(storage)[0].info.status == "KILLED"


def test_sigterm_ends_the_run_killed_and_the_old_handler_comes_back(storage, break_reading):
    before = signal.getsignal(signal.SIGTERM)

    def stop():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    break_reading(stop)
    with pytest.raises(SystemExit) as caught:
        run("prepare_data")
    assert caught.value.code == 128 + signal.SIGTERM
    assert runs_in(storage)[0].info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_another_thread_leaves_signals_alone(storage):
    before = signal.getsignal(signal.SIGTERM)
    worker = threading.Thread(target=run, args=("prepare_data",))
    worker.start()
    worker.join()
    assert signal.getsignal(signal.SIGTERM) is before
    assert runs_in(storage)[0].info.status == "FINISHED"


def test_a_missing_input_names_the_pipeline_to_run_first_and_opens_no_run(storage):
    message = refusal("pretrain")
    assert message.startswith("stream: ")
    assert "run `kedro run --pipeline prepare_data` first" in message
    assert runs_in(storage) == []


def test_a_damaged_input_names_the_pipeline_to_run_again_and_fails_the_run(storage):
    run("prepare_data")
    (path,) = (storage / "test").rglob("stream.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    message = refusal("pretrain")
    assert str(path) in message
    assert "run `kedro run --pipeline prepare_data` again" in message
    assert parents_in(storage)[0].info.status == "FAILED"


def test_files_of_other_parameters_are_refused_and_name_the_pipeline(storage):
    run("prepare_data")
    message = refusal("pretrain", data__split__seed=1)
    assert message.startswith("stream: made from other parameters")
    assert "kedro run --pipeline prepare_data" in message


def test_without_tracking_nothing_is_recorded(storage):
    run("prepare_data", tracking__enabled=False)
    assert runs_in(storage) == []
    assert (storage / "test/05_model_input/stream.safetensors").exists()


def test_an_address_that_does_not_answer_is_refused_before_any_work(storage):
    begin = time.monotonic()
    message = refusal("prepare_data", tracking__address=f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - begin < 10
    assert message.startswith("tracking.address: http://127.0.0.1")
    assert not (storage / "test").exists()


def test_checkpoints_can_stay_where_they_are(storage):
    run("prepare_data", "pretrain", tracking__upload_checkpoints=False)
    (parent,) = parents_in(storage)
    assert artifacts(storage, parent.info.run_id, "checkpoints") == set()
    assert "sha256:" in parent.data.tags["checkpoint.base.safetensors"]


def test_processes_for_nodes_are_refused_with_what_to_do_instead(storage):
    assert "execution.workers=<n>" in refusal("prepare_data", runner=ParallelRunner())


def test_an_unknown_pipeline_is_one_line_with_the_near_miss(storage):
    message = refusal("prepare_dat")
    assert "prepare_dat" in message
    assert "prepare_data" in message


def test_every_pipeline_says_who_makes_its_files():
    from kedro.config import OmegaConfigLoader
    from kedro.framework.project import configure_project
    from kedro.io import CatalogConfigResolver

    configure_project("relearn")
    loader = OmegaConfigLoader(str(PROJECT / "conf"), **settings.CONFIG_LOADER_ARGS)
    resolver = CatalogConfigResolver(loader["catalog"])
    checked = 0
    roads = {"__default__", *(name for name in pipelines if name.endswith("_pilot"))}  # of several
    for name, pipeline in pipelines.items():
        for output in pipeline.all_outputs() if name not in roads else ():
            assert resolver.resolve_pattern(output)["metadata"]["made_by"] == name, output
            checked += 1
    assert checked > 30


def test_kedro_mlflow_would_not_track_a_second_time():
    assert {"kedro-mlflow", "kedro_mlflow"} <= set(settings.DISABLE_HOOKS_FOR_PLUGINS)
