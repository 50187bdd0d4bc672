"""Forgetting and relearning as a user starts it: one whole run, a second one, and refusals."""

from __future__ import annotations

import json
import shutil

import click
import pandas as pd
import pytest
from kedro_runs import run, runs_in
from test_parameters import changed, lines_of

from relearn.tracking.client import STORE

SMALL = {
    "seeds__count": 1,
    "forget_relearn__samples__train_images": 48,
    "forget_relearn__samples__validation_images": 96,
    "forget_relearn__train__epochs": 4,
    "forget_relearn__cycle__warmup_epochs": 0,
}
"""On top of the small run of ``--env test``: twelve classes, one seed, two forgettings."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory, empty_store):
    """Return a storage root in which the road of forget_relearn has been run; only read it."""
    root = tmp_path_factory.mktemp("forget_relearn")
    shutil.copy(empty_store, root / STORE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELEARN_DATA", str(root))
        run("forget_relearn_pilot", **SMALL)
    return root


@pytest.fixture
def here(whole, monkeypatch):
    monkeypatch.setenv("RELEARN_DATA", str(whole))
    return whole


def refusal(*names, **changes):
    """Return the one line that a refused run shows."""
    with pytest.raises(click.ClickException) as caught:
        run(*names, **{**SMALL, **changes})
    assert "Traceback" not in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message


def read(root, name):
    return pd.read_parquet(root / "test/07_model_output/forget_relearn" / f"{name}.parquet")


def document(root, name):
    path = root / "test/08_reporting" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def units(root):
    return {p: p.stat().st_mtime_ns for p in (root / "test/06_models").rglob("done.json")}


def test_the_road_ends_in_a_decision_on_this_method_alone(whole):
    methods = document(whole, "decision")["methods"]
    assert methods["zap"]["verdict"] == "not run"
    told = methods["forget_relearn"]
    assert told["verdict"] != "not run"
    named = document(whole, "forget_relearn/recommendation")
    assert told["baseline_arm"] == named["baseline_arm"] != "best_on_validation"
    asked = {row["name"]: row for row in told["comparisons"]}
    assert {"headline", "cured", "clean_kept", "auto_attack", "sham"} <= set(asked)
    assert "no auto_attack" in asked["auto_attack"]["difference"]
    assert "share_zero" in asked["sham"]["difference"]


def test_everything_a_reader_needs_lies_on_disk(whole):
    reporting = whole / "test/08_reporting"
    for name in ("overview.png", "before_after.png", "changed_samples.csv"):
        assert (reporting / "forget_relearn" / name).stat().st_size > 0
    forecast = whole / "test/06_models/forget_relearn/forecast.json"
    assert json.loads(forecast.read_text(encoding="utf-8"))["text"]
    check = document(whole, "forget_relearn/ledger_check")
    assert check["failed"] == []
    assert check["rows"] > 0
    assert "forget_relearn" in (reporting / "report.html").read_text(encoding="utf-8")


def test_trainings_and_arms_are_child_runs_of_their_own(whole):
    mine = [r for r in runs_in(whole) if r.data.tags.get("relearn.method") == "forget_relearn"]
    names = {r.data.tags["relearn.arm"] for r in mine}
    assert {"training.pgd_at", "training.forget_relearn", "forget_relearn", "pgd_at"} <= names
    assert {r.info.status for r in mine} == {"FINISHED"}
    (curves,) = (r for r in mine if r.data.tags["relearn.arm"] == "training.forget_relearn")
    assert "student_validation_robust_accuracy" in curves.data.metrics


def test_a_rerun_reuses_every_unit_and_gives_the_same_tables(here):
    before, records = units(here), read(here, "records")
    run("forget_relearn", **SMALL)
    assert units(here) == before
    pd.testing.assert_frame_equal(read(here, "records"), records)


def test_compare_refuses_records_of_other_parameters(here):
    line = refusal("compare", forget_relearn__judging__steps=3)
    assert line.startswith("forget_relearn.records: made from other parameters")
    assert "kedro run --pipeline forget_relearn" in line


def test_a_judged_model_goes_into_the_registry(here):
    before = {
        "promote__method": "forget_relearn",
        "promote__arm": "forget_relearn",
        "promote__require_decision": "any",
        "promote__reason": "to see that it can be",
    }
    run("promote", **SMALL, **before, promote__minimum_steps_after_intervention=1)
    row = document(here, "promotion")
    assert (row["model"], row["version"]) == ("relearn-forget-relearn", "1")
    assert row["steps_since_intervention"] >= 1
    line = refusal("promote", **before, promote__minimum_steps_after_intervention=1000)
    assert "forget_relearn.cycle.relearn_epochs" in line


IN_PARAMETERS = [
    ({"forget__fraction": 1.5}, "forget.fraction: got 1.5, expected less than or equal to 1"),
    ({"forget__fraction": -0.1}, "forget.fraction: got -0.1, expected greater than or equal"),
    ({"attack__epsilon": 0.0}, "attack.epsilon: got 0, expected above 0"),
    ({"attack__epsilon": 8.0}, "attack.epsilon: got 8, expected above 0 and at most 1"),
    ({"judging__masking__huge_epsilon": 2.0}, "judging.masking.huge_epsilon: got 2.0, expected"),
    ({"cycle__warmup_epochs": 999}, "cycle.warmup_epochs: got 999, expected at most"),
    ({"cycle__every_epochs": 1}, "cycle.every_epochs: got 1, expected at least relearn_epochs=5"),
    (
        {"cycle__trigger": "list", "cycle__at_epochs": "90 92"},
        "cycle.at_epochs: 90 and 92 are closer than relearn_epochs=5",
    ),
    (
        {"cycle__trigger": "list", "cycle__at_epochs": "148"},
        "cycle.at_epochs: 148 leaves 2 of train.epochs=150",
    ),
    ({"train__batch_size": 1}, "train.batch_size: got 1, expected 2 or more"),
    (
        {"judging__auto_attack": {"version": "reduced", "images": 7}},
        "judging.auto_attack.images: got 7, expected 50 or more",
    ),
    ({"tuning__schedules__cosin": True}, "tuning.schedules.cosin: unknown, did you mean cosine?"),
]


@pytest.mark.parametrize(("changes", "line"), IN_PARAMETERS, ids=[x for _, x in IN_PARAMETERS])
def test_a_fault_in_the_parameters_is_one_line(changes, line):
    tree = changed(**{f"forget_relearn__{name}": value for name, value in changes.items()})
    (told,) = lines_of(tree)
    assert told.startswith(f"forget_relearn.{line}")


BEFORE_TRAINING = [
    ({"cycle__warmup_epochs": 99}, "cycle.warmup_epochs: got 99, expected at most"),
    ({"evidence__sham_arm": "share_zer"}, "evidence.sham_arm: 'share_zer'"),
    ({"forget__layers": "lat+head"}, "forget.layers: 'lat' is not known, did you mean late?"),
    ({"forget__layers": "early+head"}, "forget.layers: 'early+head' would forget the early layers"),
    ({"samples__train_images": 4000}, "samples.train_images: "),
    (
        {"judging__auto_attack__version": "reduced", "samples__train_images": 108},
        "judging.auto_attack.images: there are 36 test images, expected 50 or more",
    ),
]


@pytest.mark.parametrize(("changes", "line"), BEFORE_TRAINING, ids=[x for _, x in BEFORE_TRAINING])
def test_what_cannot_be_run_is_one_line_and_trains_nothing(here, changes, line):
    before = units(here)
    told = {f"forget_relearn__{name}": value for name, value in changes.items()}
    assert refusal("forget_relearn", **told).startswith(f"forget_relearn.{line}")
    assert units(here) == before
