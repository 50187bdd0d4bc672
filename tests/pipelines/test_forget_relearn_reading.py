"""The choice of settings, the store of trainings, and the sentences a reader must know."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import product

import pandas as pd
import pytest
import torch
from test_forget_relearn import EXECUTION, Road
from tiny_forget_relearn import tiny_base, tiny_config, tiny_stream

from relearn.errors import CheckpointError, EvidenceError
from relearn.methods.forget_relearn.run import train_one
from relearn.pipelines.forget_relearn import findings, nodes, study
from relearn.pipelines.forget_relearn.training_store import load_trained, save_trained
from relearn.pipelines.forget_relearn.tuning import settled, tune
from relearn.pipelines.forget_relearn.units import TrainingJob, training_unit
from relearn.training_store import TENSORS, TOLD

COLUMNS = ["method", "arm", "seed", "task", "step", "metric", "value"]


def table(*rows):
    """Return records from rows of arm, seed, task, metric and value."""
    whole = [("forget_relearn", a, s, t, 0, m, v) for a, s, t, m, v in rows]
    return pd.DataFrame(whole, columns=COLUMNS)


@pytest.fixture(scope="module")
def trained():
    config = tiny_config(train__epochs=4, cycle__warmup_epochs=0)
    return train_one(tiny_base(), tiny_stream(), config, training="forget_relearn", seed=0)


@pytest.fixture
def store(trained, tmp_path):
    save_trained(trained, tmp_path)
    return tmp_path


def test_a_training_comes_back_from_disk_as_it_was(trained, store):
    again = load_trained(store)
    for name in ("name", "seed", "epochs", "notes", "costs", "order_digest", "steps", "settings"):
        assert getattr(again, name) == getattr(trained, name)
    assert again.architecture == trained.architecture
    assert again.interventions == trained.interventions
    assert json.dumps(again.curves) == json.dumps(trained.curves)
    assert again.models.keys() == trained.models.keys()
    for kind, weights in trained.models.items():
        assert all(torch.equal(v, again.models[kind][n]) for n, v in weights.items())
    assert again.pictures.keys() == trained.pictures.keys()


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 1
    path.write_bytes(bytes(whole))


def forge(path):
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


@pytest.mark.parametrize(
    ("name", "damage"),
    [(TOLD, cut), (TENSORS, cut), (TENSORS, flip), (TOLD, forge), (TOLD, lambda p: p.unlink())],
)
def test_a_damaged_training_is_one_clear_line(store, name, damage):
    damage(store / name)
    with pytest.raises(CheckpointError, match="--pipeline forget_relearn") as caught:
        load_trained(store)
    assert "\n" not in str(caught.value)


RATE = {"centre": 1.0, "factor": 3.0, "points": 2, "widenings": 1}
TUNING = {
    "enabled": True,
    "seeds": 2,
    "schedules": {"constant": True, "cosine": False, "step": False, "step_once": True},
    "rate": RATE,
}


def first(**changes):
    config = tiny_config(trainings__awp=False, **changes)
    return TrainingJob(tiny_base(), tiny_stream(), config, "pgd_at", 0, EXECUTION, None)


def score_by(monkeypatch, law):
    """Let candidates be scored by a law of (training, schedule, rate) in place of training."""

    def scored(base, stream, config, *, training, seed, **_):
        assert seed in (10_000, 10_001)
        rate = config.train.learning_rate / 0.1
        return law(training, config.train.schedule, rate), {"total_seconds": 1.5}

    module = import_module("relearn.methods.forget_relearn.train")
    monkeypatch.setattr(module, "score_settings", scored)


def test_every_training_is_offered_the_same_and_takes_its_own_best(tmp_path, monkeypatch):
    def law(training, schedule, rate):
        return (schedule == ("constant" if training == "pgd_at" else "step_once")) - abs(rate - 1)

    score_by(monkeypatch, law)
    found = tune(first(tuning=TUNING), tmp_path)
    for name, rows in found.groupby("training"):
        tried = set(zip(rows["schedule"], rows["rate_factor"], strict=True))
        assert set(product(("constant", "step_once"), (1.0, 3.0))) <= tried
        (chosen,) = rows[rows["chosen"]].itertuples()
        assert chosen.schedule == ("constant" if name == "pgd_at" else "step_once")
        assert chosen.rate_factor == 1.0
        assert chosen.score == rows["score"].max()
        assert not chosen.at_border  # the grid was widened below
    assert (found["seconds"] == 3.0).all()
    job = settled(first(tuning=TUNING), found, "forget_relearn", 7)
    assert (job.config.train.schedule, job.training, job.seed) == (
        "step_once",
        "forget_relearn",
        7,
    )


def test_a_rate_at_the_border_of_a_grid_is_told(tmp_path, monkeypatch):
    score_by(monkeypatch, lambda training, schedule, rate: rate)
    found = tune(first(tuning=TUNING), tmp_path)
    assert found.loc[found["chosen"], "at_border"].all()
    told = findings.findings_of(table(), found, tiny_config(judging__auto_attack__version="none"))
    assert told[0].startswith("pgd_at: the best rate (x9, schedule constant) lies at the border")


def test_a_fixed_grid_of_one_is_not_said_to_lie_at_a_border(tmp_path, monkeypatch):
    score_by(monkeypatch, lambda training, schedule, rate: rate)
    one = {**TUNING, "rate": {**RATE, "points": 1, "widenings": 0}}
    assert not tune(first(tuning=one), tmp_path)["at_border"].any()


def test_without_tuning_every_training_takes_what_the_parameters_say(tmp_path):
    found = tune(first(), tmp_path)
    assert list(found["training"]) == ["pgd_at", "forget_relearn"]
    assert found["chosen"].all()
    assert set(found["schedule"]) == {"step_once"}
    assert set(found["rate_factor"]) == {1.0}


def test_candidates_are_really_trained_and_scored_on_validation(tmp_path):
    short = {"train__epochs": 4, "cycle__warmup_epochs": 0}
    tuning = {**TUNING, "seeds": 1, "rate": {**RATE, "points": 1, "widenings": 0}}
    road = Road(tmp_path, seeds=1, tuning=tuning, **short)
    found = nodes.choose_settings(**road.run_in, forecast={})
    assert found["score"].between(0, 1).all()
    assert (found["seconds"] > 0).all()
    folders = {p.name for p in (tmp_path / "06_models/forget_relearn/tuning").iterdir()}
    assert "pgd_at.constant.rate_x1.seed10000" in folders


def test_addresses_depend_on_what_decides_a_training_and_on_nothing_else():
    def address(**changes):
        return training_unit(first(**changes)).address

    assert address(judging__steps=9) == address()
    assert address(roll_back__to_cycle=1) == address()
    assert address(trainings__share_zero=True) == address()
    assert address(study__confirm_seeds=9) == address()
    assert address(attack__steps=9) != address()
    assert address(samples__label_noise=0.3) != address()
    assert address(monitor__every_epochs=1) != address()


def test_the_baseline_by_rule_needs_validation_records():
    records = table(("pgd_at", 0, "validation", "robust_accuracy", 0.9))
    with pytest.raises(EvidenceError, match=r"trainings\.pgd_at=true"):
        study.baseline_by_rule(records, tiny_config())


def test_the_baseline_by_rule_is_the_best_mean_over_seeds():
    scores = {"pgd_at_stopped": (0.5, 0.3), "pgd_at_ema": (0.42, 0.4), "pgd_at": (0.9, 0.9)}
    rows = [
        (arm, seed, "validation", "robust_accuracy", value)
        for arm, values in scores.items()
        for seed, value in enumerate(values)
    ]
    arm, candidates = study.baseline_by_rule(table(*rows), tiny_config())
    assert arm == "pgd_at_ema"
    assert [row["arm"] for row in candidates] == ["pgd_at_ema", "pgd_at_stopped"]


def test_the_winner_is_the_best_variant_even_where_the_baseline_is_better():
    config = tiny_config(compare="layers")
    scores = {"pgd_at_stopped": 0.9, "layers_early": 0.4, "layers_late": 0.6, "layers_all": 0.5}
    rows = [(arm, 0, "validation", "robust_accuracy", v) for arm, v in scores.items()]
    assert study.winner_of(table(*rows), config) == "layers_late"


def test_findings_tell_overfitting_recoveries_roll_backs_and_the_reduced_cascade():
    rows = [
        ("pgd_at", 0, "alarm", "robust_overfitting_epoch", 90.0),
        ("pgd_at_stopped", 0, "alarm", "robust_overfitting_epoch", 90.0),
        ("pgd_at", 1, "alarm", "robust_overfitting_epoch", -1.0),
        ("pgd_at", 0, "alarm", "catastrophic_overfitting_epoch", 30.0),
        ("forget_relearn", 0, "recovery", "recovered", 0.0),
        ("forget_relearn", 1, "recovery", "recovered", 1.0),
        ("forget_relearn_stopped", 0, "recovery", "recovered", 0.0),
        ("forget_relearn", 0, "recovery", "rolled_back", 1.0),
        ("forget_relearn", 0, "test", "bf16_difference", -0.012),
    ]
    selection = pd.DataFrame({"chosen": [True], "at_border": [False]})
    config = tiny_config(judging__auto_attack={"version": "reduced", "images": 0})
    told = findings.findings_of(table(*rows), selection, config)
    assert len(told) == 6
    assert "robust overfitting in 1 of 2 seeds (alarm at epoch 90" in told[0]
    assert "catastrophic overfitting" in told[1]
    assert told[2].startswith("forget_relearn: 1 of 2 forgettings did not recover")
    assert "1 of 1 forgettings were rolled back" in told[3]
    assert "reduced version" in told[4]
    assert "1.2 points" in told[5]


def test_no_overfitting_at_all_is_told_too():
    records = table(("pgd_at", 0, "alarm", "robust_overfitting_epoch", -1.0))
    selection = pd.DataFrame({"chosen": [True], "at_border": [False]})
    (told,) = findings.findings_of(records, selection, tiny_config())
    assert "no robust overfitting was seen" in told


def masking(value, seed=0):
    return [
        ("pgd_at", seed, "masking", "black_box", value),
        ("pgd_at", seed, "masking", "black_box_allowed", 0.1),
    ]


def test_a_check_fails_by_its_mean_over_seeds_and_not_by_one_unlucky_seed():
    assert findings.masked_gradients(table(*masking(0.2), *masking(-0.1, 1))) == []
    failed = findings.masked_gradients(table(*masking(0.2), *masking(0.1, 1)))
    assert failed == ["pgd_at black_box +0.150 (allowed 0.100)"]
    assert findings.masked_gradients(table()) == []
