"""Roll-out: what is refused, how aliases move, what is exported, and how it answers."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from relearn.arm_store import CHECKPOINT
from relearn.errors import CheckpointError, DataError, ParameterError, TrackingError
from relearn.models.checkpoint import (
    Architecture,
    Checkpoint,
    build_fresh,
    capture,
    save_checkpoint,
)
from relearn.pipelines.promote.export import example_of, export_program, inference_module
from relearn.pipelines.promote.nodes import roll_out
from relearn.pipelines.promote.pipeline import METHODS
from relearn.pipelines.promote.rules import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    choose_unit,
    class_names_of,
    model_name,
    moved_aliases,
    require_arm,
    require_decision,
    require_settled,
)
from relearn.pipelines.promote.serve import Served, answer, load_served, main, open_server
from relearn.reports.config import PromoteConfig
from relearn.tracking import RunHandle, alias_version, publish_run
from relearn.tracking.client import open_client

NAMES = ("alpha", "beta", "gamma", "delta")


def promote(**changes):
    fields = {
        "action": "register",
        "method": "zap",
        "arm": "iid_zap",
        "seed": 0,
        "model_name": "",
        "require_decision": "adopt",
        "reason": "",
        "minimum_steps_after_intervention": 50,
    }
    return PromoteConfig(**{**fields, **changes})


def decision(verdict="adopt"):
    entry = {"verdict": verdict, "treated_arm": "iid_zap"}
    return {"methods": {"zap": entry, "grow": {"verdict": "not run"}}}


def checkpoint(**provenance):
    architecture = Architecture(
        name="convnet3",
        in_channels=1,
        image_size=28,
        classes=len(NAMES),
        options={"width": 4},
        mean=(0.4,),
        std=(0.3,),
    )
    told = {"steps_since_intervention": 80, "class_names": list(NAMES), **provenance}
    return capture(build_fresh(architecture, seed=0), architecture, told)


def test_another_verdict_than_adopt_is_refused_with_the_way_to_override():
    with pytest.raises(ParameterError, match=r"'hold'.*promote\.require_decision=any"):
        require_decision(promote(), decision("hold"))


def test_an_override_needs_a_reason_and_then_passes():
    with pytest.raises(ParameterError, match=r"promote\.reason"):
        require_decision(promote(require_decision="any"), decision("hold"))
    stated = promote(require_decision="any", reason="pilot for one shop")
    assert require_decision(stated, decision("hold")) == "hold"


def test_an_unknown_method_gets_a_near_miss():
    with pytest.raises(ParameterError, match="did you mean zap"):
        require_decision(promote(method="zapp"), decision())


def test_only_the_arm_that_was_decided_upon_passes():
    require_arm(promote(), decision())
    with pytest.raises(ParameterError, match=r"promote\.arm"):
        require_arm(promote(arm="iid"), decision())


def test_arm_and_seed_must_be_among_the_units():
    units = pd.DataFrame({"arm": ["iid", "iid_zap"], "seed": [0, 0], "path": ["a", "b"]})
    assert choose_unit(promote(), units) == "b"
    with pytest.raises(ParameterError, match="did you mean iid_zap"):
        choose_unit(promote(arm="iid_zp"), units)
    with pytest.raises(ParameterError, match="seeds there: 0"):
        choose_unit(promote(seed=7), units)


def test_a_net_changed_too_recently_is_never_exported():
    assert require_settled(checkpoint(), 80) == 80
    with pytest.raises(CheckpointError, match=r"80 steps old, 81 are asked"):
        require_settled(checkpoint(), 81)


def test_a_checkpoint_that_does_not_tell_its_age_is_refused():
    silent = checkpoint()
    provenance = {"class_names": list(NAMES)}
    with pytest.raises(CheckpointError, match="does not say"):
        require_settled(Checkpoint(silent.architecture, silent.weights, provenance), 0)


def test_class_names_must_fit_the_outputs():
    assert class_names_of(checkpoint()) == NAMES
    for names in ([], [*NAMES, "one too many"]):
        with pytest.raises(CheckpointError, match="class names"):
            class_names_of(checkpoint(class_names=names))


def test_the_model_is_named_after_the_method_unless_told():
    assert model_name(promote(method="forget_relearn")) == "relearn-forget-relearn"
    assert model_name(promote(model_name="till")) == "till"


def play(actions):
    """Return the aliases after a history of actions; impossible ones change nothing."""
    now, versions = {}, 0
    for action in actions:
        versions += action == "register"
        try:
            now = {**now, **moved_aliases(action, now, new=str(versions))}
        except ParameterError:
            assert action != "register"
    return now


ACTIONS = st.lists(st.sampled_from(["register", "champion", "roll_back"]), max_size=12)


@given(ACTIONS)
def test_champion_and_previous_are_never_the_same_version(actions):
    now = play(actions)
    assert now.get(CHAMPION) is None or now.get(CHAMPION) != now.get(PREVIOUS)


@given(ACTIONS)
def test_rolling_back_twice_is_where_it_began(actions):
    now = play([*actions, "register", "champion", "register", "champion"])
    assert play([*actions, *["register", "champion"] * 2, "roll_back", "roll_back"]) == now


def test_the_champion_before_is_kept_as_previous():
    now = play(["register", "champion", "register", "champion"])
    assert now == {CHALLENGER: "2", CHAMPION: "2", PREVIOUS: "1"}
    assert play(["register", "champion", "register", "champion", "roll_back"])[CHAMPION] == "1"


@pytest.mark.parametrize("action", ["champion", "roll_back"])
def test_there_must_be_a_version_to_move_to(action):
    with pytest.raises(ParameterError, match="there is none"):
        moved_aliases(action, {})


@pytest.mark.parametrize("method", METHODS)
def test_the_exported_program_equals_the_net_for_any_batch_size(method):
    point = checkpoint()
    module, example = inference_module(method, point), example_of(point)
    program = export_program(module, example).module()
    images = torch.randint(0, 256, (7, 1, 28, 28), generator=torch.Generator().manual_seed(1))
    images = images.to(torch.uint8)
    net = build_fresh(point.architecture, seed=0).eval()
    with torch.no_grad():
        by_hand = net((images.float() / 255 - 0.4) / 0.3).softmax(1)
    torch.testing.assert_close(program(images), by_hand, atol=1e-4, rtol=1e-4)


def test_a_module_that_gives_no_probabilities_is_not_exported():
    class Logits(torch.nn.Module):
        def forward(self, images):
            return images.float().flatten(1)[:, :4]

    with pytest.raises(CheckpointError, match="no probabilities"):
        export_program(Logits(), example_of(checkpoint()))


def test_a_method_that_does_not_exist_cannot_be_rolled_out():
    with pytest.raises(ParameterError, match=r"promote\.method"):
        inference_module("lora", checkpoint())


def brightest_quarter(images):
    """Return certainty about the quarter of the image that is brightest."""
    halves = images.reshape(len(images), 1, 2, 14, 2, 14).mean(axis=(1, 3, 5))
    scores = halves.reshape(len(images), 4)
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture
def served():
    return Served("relearn-zap", "3", NAMES, 1, 28, brightest_quarter)


def picture(corner):
    """Return a grey picture of 40 pixels with one bright corner."""
    pixels = np.full((40, 40), 10, np.uint8)
    row, column = divmod(corner, 2)
    pixels[row * 20 : row * 20 + 20, column * 20 : column * 20 + 20] = 250
    return pixels


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("corner", range(4))
def test_a_picture_of_any_size_is_answered_with_names_and_probabilities(served, corner):
    found = answer(served, png(picture(corner)), "image/png")["predictions"]
    assert len(found) == 1
    assert found[0]["class"] == NAMES[corner]
    assert sum(entry["probability"] for entry in found[0]["top"]) == pytest.approx(1, abs=1e-4)


def test_arrays_are_answered_one_prediction_an_image(served):
    images = np.zeros((2, 1, 28, 28), int)
    images[0, :, :14, 14:] = images[1, :, 14:, :14] = 255
    body = json.dumps({"inputs": images.tolist()}).encode()
    found = answer(served, body, "application/json")["predictions"]
    assert [entry["class"] for entry in found] == ["beta", "gamma"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"no picture", "image/png"),
        (b"{", "application/json"),
        (b'{"images": []}', "application/json"),
        (b'{"inputs": [[1, 2], [3]]}', "application/json"),
        (b'{"inputs": []}', "application/json"),
        (json.dumps({"inputs": np.zeros((1, 3, 28, 28), int).tolist()}).encode(), ""),
        (json.dumps({"inputs": np.full((1, 1, 28, 28), 256).tolist()}).encode(), ""),
        (json.dumps({"inputs": np.zeros((1, 1, 28, 28)).tolist()}).encode(), ""),
    ],
)
def test_a_request_that_fits_not_is_refused_in_one_line(served, body, kind):
    with pytest.raises(DataError, match="request:") as caught:
        answer(served, body, kind)
    assert "\n" not in str(caught.value)


def ask(port, path, data=None, kind="application/json"):
    address = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(address, data=data, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 -- our own
        return json.loads(reply.read())


def test_the_server_answers_on_localhost_only_and_refuses_nonsense_with_400(served):
    server = open_server(served, 0)
    host, port = server.server_address[:2]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert host == "127.0.0.1"
        assert ask(port, "/ping") == {"model": "relearn-zap", "version": "3"}
        found = ask(port, "/invocations", png(picture(3)), "image/png")
        assert found["predictions"][0]["class"] == "delta"
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(port, "/invocations", b"nonsense", "image/png")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask(port, "/secret")
        with pytest.raises(DataError, match=f"PORT={port}"):
            open_server(served, port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@pytest.fixture
def registry(tmp_path):
    """Publish the handle of an open run on a store of its own; return the handle."""
    client = open_client(f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}")
    experiment = client.create_experiment("test", artifact_location=(tmp_path / "art").as_uri())
    run = client.create_run(experiment)
    address = f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}"
    handle = RunHandle(address, experiment, run.info.run_id, str(tmp_path / "spool"))
    publish_run(handle)
    yield handle
    publish_run(None)


@pytest.fixture
def units(tmp_path):
    """Return an index of two units, of which seed 1 was reset a moment ago."""
    rows = []
    for seed, steps in ((0, 80), (1, 3)):
        folder = tmp_path / f"seed{seed}"
        save_checkpoint(checkpoint(steps_since_intervention=steps, seed=seed), folder / CHECKPOINT)
        rows.append({"arm": "iid_zap", "seed": seed, "path": str(folder)})
    return pd.DataFrame(rows)


def test_a_unit_goes_into_the_registry_serves_and_rolls_back(registry, units, tmp_path):
    first = roll_out(promote(), decision(), zap_units=units)
    assert (first["version"], first["aliases_after"][CHALLENGER]) == ("1", "1")
    roll_out(promote(action="champion"), decision(), zap_units=units)
    roll_out(promote(minimum_steps_after_intervention=10), decision(), zap_units=units)
    second = roll_out(promote(action="champion"), decision(), zap_units=units)
    assert second["aliases_after"] == {CHALLENGER: "2", CHAMPION: "2", PREVIOUS: "1"}
    back = roll_out(promote(action="roll_back"), decision("hold"), zap_units=units)
    assert back["aliases_after"] == {CHALLENGER: "2", CHAMPION: "1", PREVIOUS: "2"}
    json.dumps(back, allow_nan=False)

    served = load_served(registry.address, "relearn-zap", "champion")
    assert (served.version, served.class_names) == ("1", NAMES)
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), dtype=np.uint8)
    with torch.no_grad():
        expected = inference_module("zap", checkpoint(seed=0))(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(served.predict(images), expected, atol=1e-4)


def test_another_method_is_rolled_out_by_its_name(registry, units):
    mine = promote(method="forget_relearn", arm="stable")
    told = {"methods": {"forget_relearn": {"verdict": "adopt", "treated_arm": "stable"}}}
    index = units.assign(arm="stable")
    row = roll_out(mine, told, zap_units=units, forget_relearn_units=index)
    assert (row["model"], row["version"]) == ("relearn-forget-relearn", "1")


def test_a_method_that_was_not_run_has_nothing_to_roll_out(registry):
    forced = promote(require_decision="any", reason="to see")
    with pytest.raises(ParameterError, match=r"promote\.method: zap has no trained units"):
        roll_out(forced, decision(), zap_units=pd.DataFrame())


def test_a_net_that_was_just_reset_leaves_no_version(registry, units):
    with pytest.raises(CheckpointError, match="3 steps old, 50 are asked"):
        roll_out(promote(seed=1), decision(), zap_units=units)
    assert alias_version(registry, "relearn-zap", CHALLENGER) is None


def test_a_changed_file_in_the_registry_is_not_served(registry, units, tmp_path):
    roll_out(promote(), decision(), zap_units=units)
    (changed,) = (tmp_path / "art").rglob("relearn.json")
    changed.write_text(changed.read_text().replace("alpha", "omega"))
    with pytest.raises(CheckpointError, match="not those that were registered"):
        load_served(registry.address, "relearn-zap", CHALLENGER)


def test_without_an_open_run_nothing_is_rolled_out(units):
    with pytest.raises(TrackingError, match=r"tracking\.enabled: true"):
        roll_out(promote(), decision(), zap_units=units)


def test_serving_a_model_that_is_not_there_is_one_line(registry, capsys):
    assert main(["relearn-nothing", "--address", registry.address]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.full
def test_the_serving_command_answers_a_picture(registry, units, tmp_path):
    roll_out(promote(), decision(), zap_units=units)
    command = [sys.executable, "-m", "relearn.pipelines.promote.serve", "relearn-zap"]
    command += ["--alias", CHALLENGER, "--port", "0", "--address", registry.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            port = int(re.search(r":(\d+)/invocations", line).group(1))
            found = ask(port, "/invocations", png(picture(0)), "image/png")
        finally:
            process.terminate()
    assert found["version"] == "1"
    assert found["predictions"][0]["class"] in NAMES
