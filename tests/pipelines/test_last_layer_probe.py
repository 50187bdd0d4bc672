"""The nodes of the probe on a tiny stream, in one process, and what they promise to a reader."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml
from tiny_probe import tiny_base, tiny_config, tiny_stream

from relearn.errors import EvidenceError, StaleInputError
from relearn.evaluation.config import BEST_ON_VALIDATION
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.pipelines.last_layer_probe import nodes, reading
from relearn.pipelines.last_layer_probe.findings import sentences_on_hints
from relearn.pipelines.last_layer_probe.tables import (
    rank_correlations,
    sensitivity_table,
    width_laws,
)
from relearn.pipelines.last_layer_probe.verdict_study import regret_of
from relearn.provenance import Provenance, digest
from relearn.reports.probe_figures import draw_depth, probe_figures
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig

ROOT = Path(__file__).resolve().parents[2]
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)


def pretrain() -> PretrainConfig:
    text = (ROOT / "conf/base/parameters_pretrain.yml").read_text(encoding="utf-8")
    return PretrainConfig.model_validate(yaml.safe_load(text)["pretrain"])


def base():
    """Return the tiny base checkpoint as the pipeline ``pretrain`` would have left it."""
    told = {"config": digest(pretrain()), "stream": tiny_stream().digest}
    return dataclasses.replace(tiny_base(), provenance=told)


class Road:
    """All nodes of the pipeline, run one after the other."""

    def __init__(self, folder: Path, *, seeds: int = 2, **changes: Any) -> None:
        self.config: LastLayerProbeConfig = tiny_config(**changes)
        self.storage = StorageConfig(folder=str(folder))
        self.seeds = SeedsConfig(first=0, count=seeds)
        self.root = {"base": base(), "stream": tiny_stream(), "last_layer_probe": self.config}
        self.machine = {"seeds": self.seeds, "execution": EXECUTION, "storage": self.storage}

    def run(self) -> Road:
        self.before = nodes.look_first(
            **self.root,  # type: ignore[arg-type]
            pretrain=pretrain(),
            data=None,  # type: ignore[arg-type] # the tiny stream has no provenance
            seeds=self.seeds,
        )
        given: dict[str, Any] = {**self.root, **self.machine}
        self.selection = nodes.choose_settings(**given, before=self.before)
        self.units = nodes.run_arms(**given, selection=self.selection)
        found = reading.collect_results(self.units, self.selection, self.config)
        self.records, self.costs, self.interventions, self.predictions = found
        self.ledger = reading.check_ledger(self.units, base())
        self.recommendation = reading.recommend(
            records=self.records,
            costs=self.costs,
            predictions=self.predictions,
            before=self.before,
            last_layer_probe=self.config,
        )
        self.recheck = self.check_again()
        self.diagnostics = reading.diagnose(
            records=self.records,
            selection=self.selection,
            recommendation=self.recommendation,
            recheck=self.recheck,
            before=self.before,
            last_layer_probe=self.config,
        )
        return self

    def check_again(self) -> dict[str, Any]:
        return reading.recheck_bodies(
            units=self.units,
            records=self.records,
            stream=tiny_stream(),
            last_layer_probe=self.config,
            storage=self.storage,
        )


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Road:
    return Road(tmp_path_factory.mktemp("probe"), sensitivity__enabled=True).run()


def test_every_arm_and_seed_has_its_unit_and_every_frozen_body_is_made_again(road):
    arms = set(road.units["arm"])
    assert {"linear", "kernel_fc1", "random_fc1_64", "full", "noise_body"} <= arms
    assert len(road.units) == 2 * len(arms)
    assert road.ledger["failed"] == []
    assert road.ledger["rows"] == road.ledger["verified"] == 2 * 3
    assert road.ledger["orders_equal"]


def test_a_second_run_computes_nothing_and_other_thresholds_neither(road):
    given: dict[str, Any] = {**road.root, **road.machine}
    assert nodes.run_arms(**given, selection=road.selection)["reused"].all()
    verdict = {**road.config.verdict.model_dump(), "target": 0.5}
    changed = {**given, "last_layer_probe": tiny_config(sensitivity__enabled=True, verdict=verdict)}
    assert nodes.run_arms(**changed, selection=road.selection)["reused"].all()


def test_settings_that_do_not_know_the_trained_arm_are_refused(road):
    given: dict[str, Any] = {**road.root, **road.machine}
    with pytest.raises(StaleInputError, match="full"):
        nodes.run_arms(**given, selection=road.selection.iloc[:0])


def test_the_tables_are_tied_to_the_parameters(road):
    made = Provenance.from_json(road.records.attrs["provenance"])
    assert made.config == digest(road.config)


def test_the_recommendation_names_verdict_ladder_costs_and_next_step(road):
    told = road.recommendation
    json.dumps(told)
    assert told["verdict"] in {"PASS", "PROMISING", "WEAK", "FAIL"}
    assert told["treated_arm"] in {"random_fc1_8", "random_fc1_64", "kernel_fc1"}
    assert told["rungs"]["linear"] == "linear"
    assert next(g["below"] for g in told["gaps"]) == "linear"
    assert {"next_step", "learning_curve", "savings", "projected_seconds", "thresholds"} <= set(
        told
    )


def test_the_controls_end_in_fail_and_a_control_that_does_not_stops_the_run(road):
    controls = road.recommendation["controls"]
    assert {"noise_body", "kernel_fc1.permuted_labels"} == set(controls)
    assert reading.check_controls(road.recommendation, b"", road.config)["passed"]
    leaky = {"controls": {"noise_body": {"verdict": "PASS"}}}
    with pytest.raises(EvidenceError, match="noise_body PASS"):
        reading.check_controls(leaky, b"", road.config)
    told = {**road.config.verdict.model_dump(), "stop_on_controls": False}
    assert not reading.check_controls(leaky, b"", tiny_config(verdict=told))["passed"]


def test_bodies_are_new_at_first_and_unchanged_afterwards(road):
    assert {told["status"] for told in road.recheck.values()} == {"new"}
    assert {told["status"] for told in road.check_again().values()} == {"unchanged"}
    assert "random_fc1_64" in road.recheck
    assert "linear" not in road.recheck


def test_another_gain_is_found_and_checked_again(road, tmp_path):
    one = Road(
        tmp_path,
        seeds=1,
        arms__full=False,
        arms__kernel=False,
        arms__controls=False,
        evidence__sham_arm="",
    ).run()
    two = Road(
        tmp_path,
        seeds=1,
        arms__full=False,
        arms__kernel=False,
        arms__controls=False,
        evidence__sham_arm="",
        bodies__gain=2.0,
    ).run()
    assert one.recheck["random_fc1_64"]["status"] == "new"
    assert two.recheck["random_fc1_64"]["changed"] == ["initialisation"]
    assert any("changed since the last run" in line for line in two.diagnostics["findings"])


def test_findings_name_gaps_and_the_width_law(road):
    text = " ".join(road.diagnostics["findings"])
    assert "slope" in text
    assert "over linear" in text
    assert width_laws(road.records)[0]["slope"] < 0
    assert {row["arm"] for row in sensitivity_table(road.records)} == {"linear", "kernel_fc1"}
    json.dumps(road.diagnostics)


def hinted(arms, hint, *, seeds=(0,)):
    """Return records in which the arms have a hint and an accuracy, one of each a seed."""
    rows = [
        {"arm": arm, "seed": seed, "step": 0, "task": task, "metric": metric, "value": value}
        for arm, found in arms.items()
        for seed in seeds
        for task, metric, value in (
            ("hint", hint, found[0] + seed * found[2]),
            ("test", "accuracy", found[1] + seed * found[3]),
        )
    ]
    return pd.DataFrame(rows)


def test_hints_are_ranked_against_the_accuracy_over_arms_without_the_body_of_noise():
    arms = {f"random_{k}": (k, -k, 0, 0) for k in range(5)} | {"noise_body": (-9, -9, 0, 0)}
    told = rank_correlations(hinted(arms, "log_me"))
    assert told == {"log_me": {"over": "arms", "pairs": 5, "rank_correlation": pytest.approx(-1)}}
    few = {arm: arms[arm] for arm in list(arms)[:3]}
    assert rank_correlations(hinted(few, "log_me")) == {}


def test_a_hint_of_one_arm_is_ranked_over_seeds():
    records = hinted({"frozen": (0.0, 0.0, 0.1, 0.2)}, "leep", seeds=range(4))
    told = rank_correlations(records)
    assert told == {"leep": {"over": "seeds", "pairs": 4, "rank_correlation": pytest.approx(1)}}
    assert rank_correlations(records[records["seed"] < 3]) == {}
    (sentence,) = sentences_on_hints(records)
    assert "rank the seeds" in sentence
    assert "leep +1.00" in sentence


def test_depth_and_first_weights_are_told_before_training(road):
    [row] = road.before["depth"]
    assert row["skeleton"].startswith("fc1 (relu")
    assert row["curve"][0] == 0.0
    assert row["curve"][1] == pytest.approx(0.3183, abs=1e-4)
    assert row["regime"] == "critical"
    assert road.before["initialisation"]
    json.dumps(road.before)


def test_pictures_are_drawn(road):
    figure = reading.draw_figures(road.records, road.recommendation, road.before, road.config)
    assert figure.get_size_inches()[1] > 10
    titles = [title for title, _, _ in probe_figures(road.records, baseline="linear")]
    assert titles == ["The ladder", "Learning curve", "Width law", "Penalty paths"]
    assert draw_depth([]) is not None


@pytest.mark.parametrize(
    ("study", "baseline", "treated"),
    [
        ("activations", "random_relu", "random_erf"),
        ("skeletons", "random_fc", "random_conv"),
        ("initialisation", "random_gain_1", None),
    ],
)
def test_a_study_sets_its_own_arms_against_each_other(tmp_path, study, baseline, treated):
    road = Road(
        tmp_path, seeds=2, compare=study, initialisation__gains="2", initialisation__betas="0.3"
    ).run()
    told = road.recommendation
    assert told["study"] == study
    assert told["baseline_arm"] == baseline
    assert treated is None or told["treated_arm"] == treated
    assert told["controls"] == {}
    json.dumps(told)


def test_the_study_of_verdicts_holds_each_case_against_full_training(tmp_path):
    road = Road(tmp_path, seeds=2, compare="verdicts", study__largest_regret=0.01).run()
    regret = road.recommendation["regret"]
    assert len(regret["cases"]) >= 12
    assert regret["seconds_saved"] <= regret["full_training_everywhere"]
    assert all(case["regret"] >= 0 for case in regret["cases"])
    assert {c["images"] for c in regret["cases"]} >= {"plain", "noisy_labels", "permuted_labels"}
    assert all(told["verdict"] == "FAIL" for told in road.recommendation["controls"].values())
    assert any("cases" in line for line in road.diagnostics["findings"])


class Told:
    """A reading of made-up records: one body beside linear and full, with luck on validation."""

    def __init__(self, verdict: str, head: float, luck: float) -> None:
        from relearn.methods.last_layer_probe.arms import Arm

        self.word = verdict
        self.arms = {
            "linear": Arm("linear", "linear"),
            "noise_body": Arm("noise_body", "noise"),
            "full": Arm("full", "full"),
        }
        self.test = {"linear": {0: 0.5}, "noise_body": {0: head}, "full": {0: 0.8}}
        self.validation = {"linear": 0.5, "noise_body": luck, "full": 0.8}

    def verdict(self, arm):
        del arm
        return SimpleNamespace(verdict=self.word)


@pytest.mark.parametrize(
    ("verdict", "head", "luck", "shipped", "regret", "saved"),
    [
        ("FAIL", 0.3, 0.9, "linear", 0.3, 7.0),  # though its head is ahead on validation images
        ("WEAK", 0.6, 0.9, "noise_body", 0.2, 7.0),
        ("WEAK", 0.6, 0.4, "linear", 0.3, 7.0),
        ("PROMISING", 0.7, 0.7, "full", 0.0, 0.0),
        ("PROMISING", 0.7, 0.9, "noise_body", 0.1, 0.0),  # trained in full for nothing
        ("PASS", 0.9, 0.1, "noise_body", 0.0, 7.0),
    ],
)
def test_each_verdict_ships_what_it_says(verdict, head, luck, shipped, regret, saved):
    reading_of = Told(verdict, head, luck)
    found = regret_of(reading_of, {"full": {"train_seconds": 7.0}})  # type: ignore[arg-type]
    (case,) = found["cases"]
    assert case["shipped"] == shipped
    assert case["regret"] == pytest.approx(regret)
    assert found["seconds_saved"] == saved


def test_the_rule_for_the_treated_arm_is_the_default():
    assert tiny_config().evidence.treated_arm == BEST_ON_VALIDATION
