"""The nodes of forgetting and relearning on a tiny stream, and what they promise to a reader."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from tiny_forget_relearn import tiny_base, tiny_config, tiny_stream

from relearn.arm_store import CHECKPOINT
from relearn.errors import EvidenceError, StaleInputError
from relearn.methods.forget_relearn.arms import trainings_of
from relearn.models.checkpoint import load_checkpoint
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.pipelines.forget_relearn import create_pipeline, nodes, reading, tuning
from relearn.pipelines.forget_relearn.training_store import load_trained
from relearn.provenance import Provenance, digest
from relearn.reports.config import CompareConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig

ROOT = Path(__file__).resolve().parents[2]
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)
SHORT: dict[str, Any] = {
    "trainings__awp": False,
    "train__epochs": 4,
    "cycle__warmup_epochs": 0,
    "judging__transfer": True,
}
"""Two trainings, with two forgettings in the second."""

STUDY: dict[str, Any] = {
    "study": {
        "fractions": {"smallest": 0.1, "factor": 2.0, "count": 2},
        "lengths": {"shortest": 2, "factor": 2, "count": 1},
        "confirm_seeds": 2,
    }
}


def block(kind, name):
    text = (ROOT / f"conf/base/parameters_{name}.yml").read_text(encoding="utf-8")
    return kind.model_validate(yaml.safe_load(text)[name])


def base():
    """Return the tiny base checkpoint as the pipeline ``pretrain`` would have left it."""
    made = digest(block(PretrainConfig, "pretrain"))
    told = {"config": made, "stream": tiny_stream().digest}
    return dataclasses.replace(tiny_base(), provenance=told)


class Road:
    """All nodes of the pipeline, run one after the other."""

    def __init__(self, folder: Path, *, seeds: int = 2, **changes: Any) -> None:
        self.config: ForgetRelearnConfig = tiny_config(**{**SHORT, **changes})
        self.common: dict[str, Any] = {
            "base": base(),
            "stream": tiny_stream(),
            "forget_relearn": self.config,
            "seeds": SeedsConfig(first=0, count=seeds),
            "execution": EXECUTION,
        }
        self.run_in: dict[str, Any] = {**self.common, "storage": StorageConfig(folder=str(folder))}
        self.forecast = {"wall_seconds": 1.0, "cpu_seconds": 1.0, "extra_percent": 0.0}

    def estimate(self):
        pretrain, compare = block(PretrainConfig, "pretrain"), block(CompareConfig, "compare")
        return nodes.estimate_cost(
            **self.common,
            pretrain=pretrain,
            data=None,  # type: ignore[arg-type] # the tiny stream has no provenance
            compare=compare,
        )

    def train(self) -> Road:
        self.selection = nodes.choose_settings(**self.run_in, forecast=self.forecast)
        self.trained = nodes.train_models(**self.run_in, selection=self.selection)
        return self

    def judge(self) -> Road:
        given = {**self.run_in, "selection": self.selection}
        self.units = nodes.judge_arms(**given, trained_units=self.trained)
        self.confirmed = nodes.confirm_winner(**given, units=self.units)
        found = reading.collect_results(self.units, self.confirmed, self.config)
        self.records, self.costs, self.interventions, self.predictions, self.exploration = found
        return self

    def read(self) -> Road:
        self.ledger = reading.check_ledger(self.units, self.confirmed)
        tables = (self.records, self.costs)
        self.diagnostics = reading.diagnose(
            *tables, self.selection, self.forecast, forget_relearn=self.config
        )
        self.recommendation = reading.recommend(
            *tables, self.exploration, {"masked": []}, forget_relearn=self.config
        )
        return self

    def run(self) -> Road:
        return self.train().judge().read()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("arms")


@pytest.fixture(scope="module")
def arms(place):
    return Road(place).run()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Road(tmp_path_factory.mktemp("study"), compare="fraction_length", **STUDY).run()


def test_every_training_is_run_once_a_seed_and_every_model_it_delivers_is_judged(arms):
    trainings = trainings_of(arms.config)
    assert list(trainings) == ["pgd_at", "forget_relearn"]
    pairs = list(zip(arms.trained["training"], arms.trained["seed"], strict=True))
    assert pairs == [(name, seed) for seed in (0, 1) for name in trainings]
    judged = list(zip(arms.units["arm"], arms.units["seed"], strict=True))
    delivered = [arm for training in trainings.values() for arm in training.deliveries]
    assert judged == [(arm, seed) for seed in (0, 1) for arm in delivered]
    assert set(arms.records["arm"]) == set(delivered)


def test_plain_trainings_come_first_in_one_queue_and_lend_their_warm_up(tmp_path, monkeypatch):
    queues = []
    train_all = tuning.train_all

    def noted(jobs, folder, describe):
        queues.append(jobs)
        return train_all(jobs, folder, describe)

    monkeypatch.setattr(tuning, "train_all", noted)
    on = {"judging__transfer": False, "cycle__warmup_epochs": 2, "train__epochs": 6}
    road = Road(tmp_path, **on).train()

    [jobs] = queues[-1:]
    assert [(job.training, job.seed) for job in jobs] == [
        ("pgd_at", 0),
        ("pgd_at", 1),
        ("forget_relearn", 0),
        ("forget_relearn", 1),
    ]
    for job in jobs[2:]:
        mine = (road.trained["training"] == "pgd_at") & (road.trained["seed"] == job.seed)
        assert [job.warmup] == list(road.trained[mine]["path"])
        assert (Path(job.warmup) / "warmup.safetensors").is_file()
    names = list(zip(road.trained["training"], road.trained["seed"], strict=True))
    assert names == [(name, seed) for seed in (0, 1) for name in ("pgd_at", "forget_relearn")]
    for (name, seed), path in zip(names, road.trained["path"], strict=True):
        found = load_trained(Path(path))
        assert (found.name, found.seed) == (name, seed)


def test_the_transfer_attack_is_tried_on_all_arms_but_the_one_that_lends_it(arms):
    tried = set(arms.records[arms.records["task"] == "transfer"]["arm"])
    assert tried == set(arms.units["arm"]) - {"pgd_at"}


def test_all_forgettings_verify_and_orders_are_equal(arms, study):
    for road in (arms, study):
        assert road.ledger["failed"] == []
        assert road.ledger["verified"] == road.ledger["rows"] > 0
        assert road.ledger["by_mask_alone"] == 0
        assert road.ledger["orders_equal"] is True


def test_a_tampered_ledger_is_told(arms):
    unit = arms.units[arms.units["arm"] == "forget_relearn"].iloc[:1]
    path = Path(unit["path"].iloc[0]) / "rows.json"
    kept = path.read_text(encoding="utf-8")
    rows = json.loads(kept)
    rows["interventions"][0]["draw_seed"] += 1
    path.write_text(json.dumps(rows), encoding="utf-8")
    found = reading.check_ledger(unit, arms.confirmed)
    path.write_text(kept, encoding="utf-8")
    assert len(found["failed"]) == 1
    assert found["failed"][0].startswith("forget_relearn seed 0: forget_weights of ")


def test_tables_carry_the_digest_of_the_parameters(arms):
    for table in (arms.records, arms.costs, arms.interventions, arms.predictions):
        made = Provenance.from_json(table.attrs["provenance"])
        made.require(config=digest(arms.config))
        with pytest.raises(StaleInputError, match="--pipeline forget_relearn"):
            made.require(config=digest(tiny_config()))


def test_predictions_score_the_accuracies_that_are_recorded(arms):
    tests = arms.records[arms.records["task"] == "test"].set_index(["arm", "seed", "metric"])
    for (arm, seed), rows in arms.predictions.groupby(["arm", "seed"]):
        right = rows["label"] == rows["predicted"]
        assert tests.loc[(arm, seed, "clean_accuracy"), "value"] == pytest.approx(right.mean())
        robust = (right & (rows["label"] == rows["attacked"])).mean()
        assert tests.loc[(arm, seed, "robust_accuracy"), "value"] == pytest.approx(robust)


def test_a_second_run_reuses_everything_and_gives_equal_tables(arms, place, monkeypatch):
    import pandas as pd

    forbid(monkeypatch, "run.train_one", "arm_result.judge")
    again = Road(place).train().judge()
    assert again.trained["reused"].all()
    assert again.units["reused"].all()
    for name in ("records", "interventions", "predictions"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(arms, name))


def forbid(monkeypatch, *names):
    def fails(*args, **kwargs):
        raise AssertionError("done again")

    for name in names:
        monkeypatch.setattr(f"relearn.methods.forget_relearn.{name}", fails)


def test_other_judging_settings_train_nothing_again(arms, place, monkeypatch):
    forbid(monkeypatch, "run.train_one")
    again = Road(place, seeds=1, judging__steps=3).train().judge()
    assert again.trained["reused"].all()
    assert not again.units["reused"].any()


def test_going_back_to_a_cycle_trains_nothing_and_delivers_the_kept_state(arms, place, monkeypatch):
    forbid(monkeypatch, "run.train_one")
    again = Road(place, seeds=1, roll_back__to_cycle=1).train().judge()
    assert again.trained["reused"].all()
    row = again.trained[again.trained["training"] == "forget_relearn"].iloc[0]
    kept = load_trained(Path(row["path"])).models["cycle1.stable"]
    unit = again.units[again.units["arm"] == "forget_relearn"].iloc[0]
    delivered = load_checkpoint(Path(unit["path"]) / CHECKPOINT).weights
    assert set(delivered) == set(kept)
    assert all(torch.equal(value, kept[name]) for name, value in delivered.items())


def test_what_a_plain_training_has_no_use_for_changes_neither_its_address_nor_its_weights(
    arms, place, tmp_path
):
    changes = {
        "forget__fraction": 0.3,
        "cycle__consolidate_epochs": 2,
        "roll_back__keep_cycles": 1,
        "consolidate__memory_epochs": 5.0,
        "awp__gamma": 0.02,
    }
    here = Road(place, **changes).train()
    reused = here.trained.groupby("training")["reused"].all()
    assert reused["pgd_at"]
    assert not reused["forget_relearn"]
    anew = Road(tmp_path, seeds=1, trainings__forget_relearn=False, evidence__treated_arm="pgd_at",
                **changes).train()  # fmt: skip
    one, two = (
        load_trained(Path(road.trained["path"].iloc[0])).models["last"] for road in (arms, anew)
    )
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_the_baseline_is_the_best_candidate_on_validation(arms):
    told = arms.recommendation
    candidates = told["baseline_candidates"]
    assert {row["arm"] for row in candidates} == {
        "pgd_at_stopped",
        "pgd_at_ema",
        "pgd_at_ema_stopped",
    }
    scores = [row["validation_robust_accuracy"] for row in candidates]
    assert scores == sorted(scores, reverse=True)
    assert [row["arm"] for row in candidates if row["chosen"]] == [told["baseline_arm"]]
    assert (told["study"], told["treated_arm"]) == ("arms", "forget_relearn")
    assert told["seeds"] == [0, 1]
    json.dumps(told)


def test_a_baseline_that_is_named_is_the_baseline(arms):
    config = arms.config
    evidence = config.evidence.model_copy(update={"baseline_arm": "pgd_at"})
    named = config.model_copy(update={"evidence": evidence})
    tables = (arms.records, arms.costs, arms.exploration, {"masked": []})
    assert reading.recommend(*tables, forget_relearn=named)["baseline_arm"] == "pgd_at"


def test_masked_gradients_fail_the_run_in_one_line_after_the_records_are_there(arms):
    records = arms.records.copy()
    rows = (records["task"] == "masking") & (records["arm"] == "forget_relearn")
    records.loc[rows & (records["metric"] == "more_steps"), "value"] = 0.5
    records.loc[rows & (records["metric"] == "more_steps_allowed"), "value"] = 0.1
    told = reading.diagnose(
        records, arms.costs, arms.selection, arms.forecast, forget_relearn=arms.config
    )
    assert told["gate"].startswith("The gradients are masked: ")
    with pytest.raises(EvidenceError, match=r"forget_relearn more_steps \+0.500") as caught:
        reading.recommend(records, arms.costs, arms.exploration, told, forget_relearn=arms.config)
    assert "\n" not in str(caught.value)


def test_diagnostics_put_best_beside_last_and_true_beside_forecast_cost(arms):
    rows = {row["training"]: row for row in arms.diagnostics["best_last"]}
    assert set(rows) == {"pgd_at", "forget_relearn"}
    for row in rows.values():
        assert row["robust_difference"] == pytest.approx(row["robust_best"] - row["robust_last"])
    spending = arms.diagnostics["spending"]
    assert spending["seconds"] > spending["judge_seconds"] > 0
    assert spending["forecast_seconds"] == 1.0
    assert spending["extra_percent"]["pgd_at"] == 0.0
    assert spending["train_seconds"]["forget_relearn"] > 0
    json.dumps(arms.diagnostics)


def test_an_arm_study_needs_no_confirmation_and_no_exploration(arms):
    assert len(arms.confirmed) == 0
    assert list(arms.confirmed.columns) == list(arms.units.columns)
    assert len(arms.exploration) == 0


def test_a_study_confirms_its_winner_on_fresh_seeds(study):
    from relearn.pipelines.forget_relearn.study import study_table, validation_scores

    told = study.recommendation
    assert (told["study"], told["fresh_seeds"]) == ("fraction_length", True)
    assert told["seeds"] == [20_000, 20_001]
    variants = {"share_0.1_length_2", "share_0.2_length_2"}
    assert told["treated_arm"] in variants
    assert set(study.records["arm"]) == {told["baseline_arm"], told["treated_arm"]}
    assert set(study.exploration["seed"]) == {0, 1}
    assert {row["arm"] for row in told["variants"]} == set(study.exploration["arm"]) > variants
    scores = validation_scores(study.exploration)
    assert told["treated_arm"] == next(arm for arm in scores.index if arm in variants)
    text = study_table(told)
    assert told["treated_arm"] in text
    assert "2 fresh seeds" in text
    json.dumps(told)


def test_figures_are_drawn_for_arms_and_studies(arms, study):
    from matplotlib.figure import Figure

    for road in (arms, study):
        tables = (road.records, road.interventions, road.exploration, road.config)
        assert isinstance(reading.draw_figures(*tables), Figure)
        drawn, changed = reading.draw_before_after(road.units, road.confirmed, road.config)
        assert isinstance(drawn, Figure)
        assert {"cycle", "change", "index"} <= set(changed.columns)


def test_the_cost_is_told_before_anything_is_trained(tmp_path, caplog):
    road = Road(tmp_path)
    with caplog.at_level("INFO"):
        told = road.estimate()
    json.dumps(told)
    assert {"wall_seconds", "cpu_seconds", "extra_percent", "text"} <= set(told)
    assert told["text"] in caplog.text
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["config", "stream"])
def test_a_base_of_other_parameters_is_refused(tmp_path, part):
    road = Road(tmp_path)
    told = {**base().provenance, part: "other"}
    road.common["base"] = dataclasses.replace(base(), provenance=told)
    with pytest.raises(StaleInputError, match=r"base: .*--pipeline pretrain"):
        road.estimate()


def test_a_selection_that_lacks_a_training_is_refused(arms):
    short = arms.selection[arms.selection["training"] != "forget_relearn"]
    with pytest.raises(StaleInputError, match="no settings for training 'forget_relearn'"):
        nodes.train_models(**arms.run_in, selection=short)


@pytest.mark.parametrize(
    "changes", [{"attack__steps": 3}, {"forget__fraction": 0.4}, {"compare": "layers"}]
)
def test_trainings_of_other_parameters_are_not_judged(arms, place, changes):
    other = Road(place, **changes)
    selection = nodes.choose_settings(**other.run_in, forecast=other.forecast)
    with pytest.raises(StaleInputError, match=r"forget_relearn\.trained_units: .*--pipeline"):
        nodes.judge_arms(**other.run_in, selection=selection, trained_units=arms.trained)


def test_the_pipeline_is_wired_whole_and_takes_base_and_stream_alone():
    pipeline = create_pipeline()
    free = {name for name in pipeline.inputs() if not name.startswith("params:")}
    assert free == {"base", "stream"}
    assert all(name.startswith("forget_relearn.") for name in pipeline.all_outputs())
    order = [node.name.removeprefix("forget_relearn.") for node in pipeline.nodes]
    assert order[:4] == ["estimate_cost", "choose_settings", "train_models", "judge_arms"]
    assert order.index("collect_results") < order.index("diagnose") < order.index("recommend")


def test_the_pipeline_imports_without_torch_pandas_or_mlflow():
    code = (
        "import sys, relearn.pipelines.forget_relearn; "
        "sys.exit(sum(n in sys.modules for n in ('torch', 'pandas', 'mlflow', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
