"""Runs in MLflow: statuses, curves, what is spooled, and models that are loaded without running."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dead_store import Server, free_port

from relearn.errors import CheckpointError, TrackingError
from relearn.process import Identity, this_process
from relearn.tracking import (
    TrackingConfig,
    alias_version,
    arm_run,
    current_run,
    load_model,
    publish_run,
    register_model,
    set_alias,
)
from relearn.tracking.client import (
    STORE,
    absolute_address,
    experiment_id,
    open_client,
    without_password,
)
from relearn.tracking.models import load_exported
from relearn.tracking.parent import (
    close_dead_runs,
    close_parent,
    environment_fingerprint,
    open_parent,
    open_store,
)
from relearn.tracking.spool import send_spool
from relearn.tracking.writer import RunWriter

CONFIG = {"policy": {"every": 1}, "rate": 0.003}
SETTINGS = TrackingConfig(
    enabled=True, address="", experiment="trial", upload_checkpoints=True, timeout_seconds=1
)


@pytest.fixture
def store(storage):
    return open_store(SETTINGS, storage)


@pytest.fixture
def parent(store):
    writer = open_parent(store, name="parent", tags={"kedro.env": "test"})
    yield writer
    close_parent(writer, "FINISHED")


def run_of(handle, run_id):
    return open_client(handle.address).get_run(run_id)


def children(handle):
    asked = f"tags.`mlflow.parentRunId` = '{handle.run_id}'"
    return open_client(handle.address).search_runs([handle.experiment_id], asked)


def curve(handle, run_id, metric):
    return [
        (p.step, p.value) for p in open_client(handle.address).get_metric_history(run_id, metric)
    ]


def unreachable(handle):
    return replace(handle, address=f"http://127.0.0.1:{free_port()}", timeout_seconds=1)


def test_without_a_handle_rows_stay_in_memory_and_mlflow_is_not_touched():
    with arm_run(None, "zap", "iid", seed=0, config=CONFIG) as run:
        run.log(3, {"loss": 0.5})
        run.artifact(Path("nowhere"), "checkpoints")
    assert run.rows == [(3, {"loss": 0.5})]
    assert run.run_id == ""


def test_a_child_run_hangs_below_its_parent_with_parameters_and_curve(parent):
    with arm_run(parent.handle, "zap", "iid_zap", seed=2, config=CONFIG) as run:
        for step in range(5):
            run.log(step, {"loss": 1 / (step + 1)})
    found = run_of(parent.handle, run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["mlflow.parentRunId"] == parent.handle.run_id
    assert found.data.params["zap.policy.every"] == "1"
    assert (found.data.params["arm"], found.data.params["seed"]) == ("iid_zap", "2")
    assert curve(parent.handle, run.run_id, "loss") == [(s, 1 / (s + 1)) for s in range(5)]


def test_a_unit_that_raises_ends_failed_with_reason_and_traceback(parent):
    with (
        contextlib.suppress(ValueError),
        arm_run(parent.handle, "zap", "iid", seed=0, config=CONFIG) as run,
    ):
        run.log(0, {"loss": 1.0})
        raise ValueError("broken\nsecond line")
    with pytest.raises(ValueError, match="broken"), arm_run(None, "zap", "iid", seed=0, config={}):
        raise ValueError("broken")
    found = run_of(parent.handle, run.run_id)
    assert found.info.status == "FAILED"
    assert found.data.tags["relearn.reason"] == "broken"
    assert curve(parent.handle, run.run_id, "loss") == [(0, 1.0)]
    names = [a.path for a in open_client(parent.handle.address).list_artifacts(run.run_id)]
    assert names == ["traceback.txt"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_killed_and_goes_on_upwards(stop, parent):
    with pytest.raises(stop), arm_run(parent.handle, "zap", "iid", seed=0, config=CONFIG) as run:
        raise stop
    assert run_of(parent.handle, run.run_id).info.status == "KILLED"


def test_a_killed_unit_takes_its_run_up_again_and_a_finished_one_does_not(parent):
    with (
        contextlib.suppress(KeyboardInterrupt),
        arm_run(parent.handle, "zap", "iid", seed=0, config=CONFIG) as first,
    ):
        first.log(0, {"loss": 1.0})
        raise KeyboardInterrupt
    with arm_run(parent.handle, "zap", "iid", seed=0, config=CONFIG) as again:
        again.log(1, {"loss": 0.5})
    with arm_run(parent.handle, "zap", "iid", seed=0, config=CONFIG) as third:
        pass
    assert again.run_id == first.run_id
    assert third.run_id != first.run_id
    assert run_of(parent.handle, first.run_id).info.status == "FINISHED"
    assert curve(parent.handle, first.run_id, "loss") == [(0, 1.0), (1, 0.5)]


def test_another_configuration_never_continues_a_killed_run(parent):
    with (
        pytest.raises(KeyboardInterrupt),
        arm_run(parent.handle, "zap", "iid", seed=0, config=CONFIG) as first,
    ):
        raise KeyboardInterrupt
    with arm_run(parent.handle, "zap", "iid", seed=0, config={"rate": 1.0}) as other:
        pass
    assert other.run_id != first.run_id


def test_checkpoints_are_uploaded_or_named_with_their_digest(parent, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"weights")
    for upload in (True, False):
        handle = replace(parent.handle, upload_checkpoints=upload)
        with arm_run(handle, "zap", f"upload {upload}", seed=0, config=CONFIG) as run:
            run.artifact(path, "checkpoints")
        kept = open_client(handle.address).list_artifacts(run.run_id, "checkpoints")
        assert [a.path for a in kept] == (["checkpoints/checkpoint.safetensors"] if upload else [])
        tags = run_of(handle, run.run_id).data.tags
        assert ("checkpoint.checkpoint.safetensors" in tags) == (not upload)


def test_artifacts_lie_under_the_storage_root(parent, storage):
    uri = run_of(parent.handle, parent.run_id).info.artifact_uri
    assert uri.startswith((storage / "mlartifacts").as_uri())


def test_logging_a_point_costs_less_than_a_millisecond(parent):
    with arm_run(parent.handle, "zap", "quick", seed=0, config=CONFIG) as run:
        begin = time.process_time()
        for step in range(2000):
            run.log(step, {"loss": 0.1, "accuracy": 0.9})
        spent = time.process_time() - begin
    assert spent < 2.0
    assert len(curve(parent.handle, run.run_id, "loss")) == 2000


def test_a_lost_store_costs_one_wait_and_no_row(parent, caplog):
    gone = unreachable(parent.handle)
    writer = RunWriter(gone, "x")
    with caplog.at_level(logging.WARNING, logger="relearn"):
        for step in range(500):
            writer.log(step, {"loss": 1.0})
            if step % 50 == 0:
                writer.flush()
        writer.end("FINISHED")
    assert caplog.text.count("tracking lost") == 1
    events = spooled(gone)
    rows = [row for event in events if event["event"] == "metrics" for row in event["rows"]]
    assert [row[3] for row in rows] == list(range(500))
    assert events[-1]["status"] == "FINISHED"


def spooled(handle):
    (path,) = Path(handle.spool).glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_spooled_is_sent_later_and_only_once(parent):
    handle = parent.handle
    gone = unreachable(handle)
    with arm_run(gone, "zap", "iid", seed=0, config=CONFIG) as run:
        run.log(0, {"loss": 1.0})
        run.log(1, {"loss": 0.5})
    assert run.run_id == ""
    redirect(gone, handle.address)
    client = open_client(handle.address)
    assert send_spool(Path(handle.spool), handle.address, client) == 1
    assert send_spool(Path(handle.spool), handle.address, client) == 0
    (child,) = children(handle)
    assert child.info.status == "FINISHED"
    assert child.data.params["arm"] == "iid"
    assert curve(handle, child.info.run_id, "loss") == [(0, 1.0), (1, 0.5)]


def redirect(handle, address):
    """Let the spooled events be meant for another address, as if the server had come back."""
    (path,) = Path(handle.spool).glob("*.jsonl")
    path.write_text(path.read_text().replace(handle.address, address))


def test_a_spool_of_a_writer_that_was_killed_is_sent_and_the_run_ends_killed(parent):
    handle, gone = parent.handle, unreachable(parent.handle)
    RunWriter(gone, parent.run_id).params({"a": 1})
    redirect(gone, handle.address)
    (path,) = Path(handle.spool).glob("*.jsonl")
    lines = path.read_text().splitlines()
    dead = Identity(2**22 + 1, this_process().host, "1").as_row()
    opening = {**json.loads(lines[0]), "writer": dead}
    path.write_text("\n".join([json.dumps(opening), *lines[1:], '{"event": "metr']))
    assert send_spool(Path(handle.spool), handle.address, open_client(handle.address)) == 1
    found = run_of(handle, parent.run_id)
    assert (found.info.status, found.data.params["a"]) == ("KILLED", "1")


def test_a_spool_of_a_living_writer_is_left_alone(parent):
    gone = unreachable(parent.handle)
    RunWriter(gone, "x").params({"a": 1})
    redirect(gone, parent.handle.address)
    (path,) = Path(gone.spool).glob("*.jsonl")
    parent_of_all = Identity(1, this_process().host, "").as_row()
    opening, *rest = path.read_text().splitlines()
    told = {**json.loads(opening), "writer": parent_of_all}
    path.write_text("\n".join([json.dumps(told), *rest]) + "\n")
    assert (
        send_spool(Path(gone.spool), parent.handle.address, open_client(parent.handle.address)) == 0
    )
    assert path.exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "http://10.255.255.1:5000"])
def test_an_address_that_does_not_answer_is_refused_within_ten_seconds(address, storage):
    config = SETTINGS.model_copy(
        update={"address": address.format(port=free_port()), "timeout_seconds": 5}
    )
    begin = time.monotonic()
    with pytest.raises(TrackingError, match=r"tracking\.address: http.*tracking\.enabled=false"):
        open_store(config, storage)
    assert time.monotonic() - begin < 10


def test_a_store_that_is_no_store_is_refused_in_one_line(tmp_path):
    (tmp_path / STORE).write_text("this is not SQLite " * 100)
    with pytest.raises(TrackingError, match=r"tracking\.address") as caught:
        open_store(SETTINGS, tmp_path)
    assert "\n" not in str(caught.value)


def test_passwords_are_not_shown():
    assert without_password("https://me:secret@host:1/x") == "https://host:1/x"
    assert absolute_address("", Path("/abs")) == "sqlite:////abs/mlflow.db"


def test_runs_of_dead_processes_are_closed_and_those_of_living_ones_not(store):
    living = open_parent(store, name="living", tags={})
    dead = open_parent(store, name="dead", tags={})
    dead.tags({"relearn.pid": str(2**22 + 1), "relearn.start": "1"})
    elsewhere = open_parent(store, name="elsewhere", tags={})
    elsewhere.tags({"relearn.host": "another-machine", "relearn.pid": "1"})
    assert close_dead_runs(store.client(), store.experiment_id) == 1
    statuses = [run_of(w.handle, w.run_id).info.status for w in (living, dead, elsewhere)]
    assert statuses == ["RUNNING", "KILLED", "RUNNING"]


def test_children_that_a_killed_worker_left_open_end_with_the_parent(store):
    parent = open_parent(store, name="p", tags={})
    child = arm_run(parent.handle, "zap", "iid", seed=0, config=CONFIG)
    child.__enter__()
    close_parent(parent, "FAILED")
    assert [run.info.status for run in children(parent.handle)] == ["KILLED"]


def test_the_data_of_a_run_is_an_input_and_a_tag(parent):
    parent.data("stream", "a" * 64, "/abs/stream.safetensors")
    found = run_of(parent.handle, parent.run_id)
    assert found.data.tags["data.stream"] == "a" * 64
    (entry,) = found.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("stream", "a" * 32)


def test_the_environment_names_python_machine_and_packages():
    told = json.loads(environment_fingerprint())
    assert told["torch"] == torch.__version__.split("+")[0]
    assert told["packages"]["kedro"]
    assert told["processor"]["cores"] == os.cpu_count()


def test_the_current_run_is_what_was_published(parent):
    assert current_run() is None
    publish_run(parent.handle)
    assert current_run() == pickle.loads(pickle.dumps(parent.handle))  # noqa: S301 - our own bytes
    publish_run(None)
    assert current_run() is None


def test_tracking_imports_mlflow_only_when_it_is_used():
    code = "import relearn.tracking, sys; print({'mlflow', 'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


class Net(torch.nn.Module):
    """uint8 images to probabilities of three classes."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(16, 3)

    def forward(self, images):
        return self.head(images.float().flatten(1) / 255).softmax(1)


EXAMPLE = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
NAMES = ("a", "b", "c")


@pytest.fixture
def registered(parent):
    torch.manual_seed(0)
    net = Net().eval()
    told = {"method": "zap", "seed": 0}
    version = register_model(
        parent.handle, "till", module=net, example=EXAMPLE, class_names=NAMES, facts=told
    )
    set_alias(parent.handle, "till", "champion", version)
    return net, version


def test_a_registered_model_comes_back_with_names_and_facts(registered, parent):
    net, version = registered
    found = load_model(parent.handle.address, "till", alias="champion")
    images = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(found.module(images), net(images))
    assert (found.version, found.class_names, found.image_shape) == (version, NAMES, (1, 4, 4))
    assert found.facts == {"method": "zap", "seed": 0}


def test_aliases_move_and_go(registered, parent):
    _, version = registered
    assert alias_version(parent.handle, "till", "champion") == version
    assert alias_version(parent.handle, "till", "previous") is None
    assert alias_version(parent.handle, "no such model", "champion") is None
    set_alias(parent.handle, "till", "champion", None)
    assert alias_version(parent.handle, "till", "champion") is None
    with pytest.raises(TrackingError, match="no version has this alias"):
        load_model(parent.handle.address, "till", alias="champion")


def test_files_other_than_those_registered_are_not_loaded(registered, parent, storage):
    (archive,) = (storage / "mlartifacts").rglob("model.pt2")
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="not those that were registered"):
        load_model(parent.handle.address, "till", alias="champion")


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (os.system, (f"touch {self.proof}",))


def test_an_archive_that_holds_a_pickle_is_refused_and_runs_nothing(
    registered, storage, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")  # somebody's shell says so
    (archive,) = (storage / "mlartifacts").rglob("model.pt2")
    proof, crafted = tmp_path / "proof", tmp_path / "crafted.pt2"
    bomb = pickle.dumps(Bomb(proof))
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(crafted, "w") as new:
        for entry in old.infolist():
            harmless = not entry.filename.endswith(("sample_inputs/model.pt", ".pt"))
            new.writestr(entry, old.read(entry) if harmless else bomb)
    with contextlib.suppress(Exception):
        torch.export.load(crafted)
    assert proof.exists()  # the file is dangerous: loaded the plain way, it ran its command
    proof.unlink()
    archive.write_bytes(crafted.read_bytes())
    with pytest.raises(CheckpointError, match="refused"):
        load_exported(archive.parents[1])
    assert not proof.exists()


@pytest.mark.faults
def test_a_server_that_dies_in_mid_run_loses_nothing(tmp_path, empty_store):
    import shutil

    shutil.copy(empty_store, tmp_path / STORE)
    server = Server(tmp_path / STORE, free_port())
    server.start()
    try:
        config = SETTINGS.model_copy(update={"address": server.address, "timeout_seconds": 2})
        store = open_store(config, tmp_path)
        parent = open_parent(store, name="p", tags={})
        with arm_run(parent.handle, "zap", "iid", seed=0, config=CONFIG) as run:
            run.log(0, {"loss": 1.0})
            server.kill()
            begin = time.monotonic()
            run.log(1, {"loss": 0.5})
        close_parent(parent, "FINISHED")
        assert time.monotonic() - begin < 30
        server.start()
        open_store(config, tmp_path)
        (child,) = children(parent.handle)
        assert child.info.status == "FINISHED"
        assert curve(parent.handle, child.info.run_id, "loss") == [(0, 1.0), (1, 0.5)]
        assert run_of(parent.handle, parent.run_id).info.status == "FINISHED"
    finally:
        server.kill()


def test_a_new_experiment_opens_on_its_training_runs(tmp_path):
    client = open_client(f"sqlite:///{(tmp_path / 'store.db').as_posix()}")
    made = experiment_id(client, "new", tmp_path / "artifacts")
    assert client.get_experiment(made).tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment_id(client, "new", tmp_path / "artifacts") == made
