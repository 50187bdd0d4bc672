"""The nodes of growing on a tiny stream, in one process, and what they promise to a reader."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml
from tiny_grow import tiny_base, tiny_config, tiny_stream

from relearn.errors import EvidenceError, StaleInputError, TrainingError
from relearn.methods.grow.faults import FunctionChangedError
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.pipelines.grow import findings, nodes, reading, tables
from relearn.pipelines.grow.findings import findings_of
from relearn.pipelines.grow.study import baseline_by_rule
from relearn.pipelines.grow.teacher_store import BESIDE, load_teacher
from relearn.provenance import Provenance, digest
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from relearn.methods.grow.config import GrowConfig

ROOT = Path(__file__).resolve().parents[2]
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)
FEW = {"arms__scratch": False, "arms__random_pad": False, "arms__distilled": False}


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
        self.grow: GrowConfig = tiny_config(**{**FEW, **changes})
        self.root: dict[str, Any] = {
            "base": base(),
            "stream": tiny_stream(),
            "grow": self.grow,
            "seeds": SeedsConfig(first=0, count=seeds),
            "execution": EXECUTION,
            "storage": StorageConfig(folder=str(folder)),
        }

    def teach(self) -> Road:
        self.teachers = nodes.train_teachers(
            **self.root,
            pretrain=pretrain(),
            data=None,  # type: ignore[arg-type] # the tiny stream has no provenance
        )
        return self

    def prepare(self) -> Road:
        given = {"stream": tiny_stream(), "teachers": self.teachers, "grow": self.grow}
        self.headroom = nodes.check_headroom(**given, execution=EXECUTION)
        self.plan, self.forecast = nodes.plan_growth(**given, headroom=self.headroom)
        self.verification = nodes.verify_growth(**given, forecast=self.forecast)
        return self

    def run(self) -> Road:
        self.teach().prepare()
        self.selection = nodes.choose_settings(**self.root, verification=self.verification)
        self.units = nodes.train_arms(**self.root, teachers=self.teachers, selection=self.selection)
        found = reading.collect_results(self.units, self.grow)
        self.records, self.costs, self.interventions, self.predictions = found
        self.ledger = reading.check_ledger(self.units, self.teachers)
        self.diagnostics = reading.diagnose(
            self.records, self.costs, self.selection, self.headroom, grow=self.grow
        )
        self.recommendation = reading.recommend(
            self.records, self.costs, self.diagnostics, self.grow
        )
        return self


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Road:
    return Road(tmp_path_factory.mktemp("grow")).run()


def test_every_arm_and_seed_has_its_unit_and_every_growth_verifies(road):
    arms = {"scratch_total", "teacher_continued", "grown"}
    assert set(zip(road.units["arm"], road.units["seed"], strict=True)) == {
        (arm, seed) for arm in arms for seed in (0, 1)
    }
    assert road.ledger == {"rows": 2, "verified": 2, "failed": [], "orders_equal": True}


def test_the_plan_says_what_grows_and_the_forecast_what_it_costs(road):
    grows = road.plan[road.plan["change"] == "grows"]
    assert set(zip(grows["before"], grows["after"], strict=True)) == {(6, 12)}
    assert road.forecast["after"]["parameters"] > road.forecast["before"]["parameters"]
    assert set(road.forecast["epochs"]) == set(road.units["arm"])
    spent = road.costs[road.costs["metric"] == "train_flops"].groupby("arm")["value"].first()
    assert spent.to_dict() == pytest.approx(road.forecast["train_flops"])


def test_the_gate_is_reported_for_every_seed(road):
    assert road.verification["passed"]
    assert set(road.verification["seeds"]) == {"0", "1"}
    json.dumps(road.verification)


def test_a_second_run_trains_nothing(road):
    again = nodes.train_arms(**road.root, teachers=road.teachers, selection=road.selection)
    assert again["reused"].all()
    assert list(again["digest"]) == list(road.units["digest"])


def test_teachers_of_other_parameters_are_refused(road, tmp_path):
    other = Road(tmp_path, teacher__train__epochs=2)
    with pytest.raises(StaleInputError, match=r"grow\.teachers"):
        nodes.train_arms(**other.root, teachers=road.teachers, selection=road.selection)


def test_settings_that_do_not_know_an_arm_are_refused(road):
    few = road.selection[road.selection["arm"] != "grown"]
    with pytest.raises(StaleInputError, match="grown"):
        nodes.train_arms(**road.root, teachers=road.teachers, selection=few)


def test_the_tables_are_tied_to_the_parameters(road):
    made = Provenance.from_json(road.records.attrs["provenance"])
    assert made.config == digest(road.grow)


def test_the_recommendation_names_the_baseline_that_its_rule_picked(road):
    told = road.recommendation
    assert told["baseline_arm"] in {"scratch_total", "teacher_continued"}
    assert [row["chosen"] for row in told["baseline_candidates"]] == [True, False]
    assert {"difference", "speed_up", "break_even"} <= set(told)
    json.dumps(told)


def test_the_picture_is_drawn(road):
    figure = reading.draw_figures(road.records, road.recommendation)
    assert figure.get_size_inches()[1] > 8


def test_a_damaged_teacher_is_refused(road, tmp_path):
    from relearn.errors import CheckpointError

    folder = Path(road.teachers["path"].iloc[0])
    for name in ("checkpoint.safetensors", BESIDE):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert load_teacher(tmp_path).told["epochs"] == 3
    (tmp_path / BESIDE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="delete the folder"):
        load_teacher(tmp_path)


def test_a_failed_gate_stops_the_run_before_any_arm(road, tmp_path, monkeypatch):
    from relearn.methods.grow import growing

    def too_large(report, gate, *, exact):
        return ["float64 difference 1"]

    monkeypatch.setattr(growing, "faults_of", too_large)
    other = Road(tmp_path, seeds=1).teach()
    with pytest.raises(FunctionChangedError, match="nothing was trained"):
        other.prepare()
    assert not (tmp_path / "06_models" / "grow" / "arms").exists()


def test_advice_against_growing_can_stop_the_run(road, tmp_path):
    headroom = {**road.grow.growth.headroom.model_dump(), "smallest_error": 0.99, "stop": True}
    grow = tiny_config(**FEW, growth__headroom=headroom)
    with pytest.raises(EvidenceError, match=r"grow\.growth\.headroom: do not grow"):
        nodes.check_headroom(
            stream=tiny_stream(), teachers=road.teachers, grow=grow, execution=EXECUTION
        )


def test_a_unit_that_fails_is_named(tmp_path):
    road = Road(tmp_path, seeds=1, teacher__train__learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"teacher\.seed0"):
        road.teach()


def test_rates_are_chosen_on_seeds_that_are_not_reported(tmp_path):
    tuning = {"enabled": True, "seeds": 1}
    tuning["rate"] = {"centre": 1.0, "factor": 3.0, "points": 2, "widenings": 0}
    road = Road(tmp_path, seeds=1, tuning=tuning).teach().prepare()
    selection = nodes.choose_settings(**road.root, verification=road.verification)
    assert selection.groupby("arm")["rate_factor"].count().to_dict() == dict.fromkeys(
        ("grown", "scratch_total", "teacher_continued"), 2
    )
    assert selection.groupby("arm")["chosen"].sum().eq(1).all()
    folders = {p.name for p in (tmp_path / "06_models" / "grow" / "teachers").iterdir()}
    assert folders == {"teacher.seed0", "teacher.seed10000"}


def made_up(curves: dict[str, list[float]], *, teacher: float = 0.0) -> tuple[Any, Any]:
    """Return records and costs of arms with given curves, 100 FLOPs a step, two seeds."""
    rows, costs = [], []
    for arm, values in curves.items():
        for seed in (0, 1):
            for step, value in enumerate(values):
                rows.append(("grow", arm, seed, "curve", step, "validation_accuracy", value))
                rows.append(("grow", arm, seed, "curve", step, "flops", 100.0 * step))
            inherited = 0.0 if arm.startswith("scratch") else teacher
            spent = 100.0 * (len(values) - 1)
            costs.append(("grow", arm, seed, "cost", 0, "train_flops", spent + inherited))
            costs.append(("grow", arm, seed, "cost", 0, "student_train_flops", spent))
    columns = ["method", "arm", "seed", "task", "step", "metric", "value"]
    return tuple(pd.DataFrame(part, columns=columns) for part in (rows, costs))


def reached(curves: dict[str, list[float]], *, teacher: float = 0.0):
    records, costs = made_up(curves, teacher=teacher)
    config = tiny_config(evaluation__sustained=2)
    rows = tables.reach_rows(records, costs, config)
    return pd.concat([records, rows]), costs, config


def test_the_net_from_scratch_reaches_what_it_held_at_its_end():
    records, costs, config = reached(
        {"scratch": [0.1, 0.2, 0.3, 0.5, 0.6], "grown": [0.2, 0.5, 0.6, 0.6, 0.6]}, teacher=150.0
    )
    wide = records[records["task"] == tables.TASK].pivot_table(
        index="arm", columns="metric", values="value"
    )
    assert wide.loc["scratch", ["target", "reached", "steps"]].tolist() == [0.5, 1.0, 3.0]
    assert wide.loc["grown", ["steps", "flops", "total_flops"]].tolist() == [1.0, 100.0, 250.0]
    told = tables.speed_up(records, config)
    assert told["teacher_sunk"]["factor"] == pytest.approx(3.0)
    assert told["teacher_included"]["factor"] == pytest.approx(300 / 250)
    assert tables.break_even(records, costs, config)["candidates"] == math.floor(150 / 200) + 1


def test_a_run_that_did_not_get_there_is_counted_as_cut_off():
    records, costs, config = reached(
        {"scratch": [0.1, 0.5, 0.6, 0.6], "grown": [0.2, 0.3, 0.3, 0.3]}
    )
    told = tables.speed_up(records, config)
    assert (told["pairs"], told["censored"], told["upper_bound"]) == (2, 2, True)
    # scratch held 0.6 from step 2 on, grown had not by step 3
    assert told["teacher_sunk"]["factor"] == pytest.approx(2 / 3)
    assert tables.break_even(records, costs, config)["candidates"] is None
    selection = pd.DataFrame({"arm": ["grown"], "rate_factor": [3.0], "at_border": [True]})
    headroom = {"grow": False, "reasons": ["it is full"]}
    found = findings_of(records, selection.assign(chosen=True), headroom, config)
    assert any("not reached in 2 of 2 seeds" in line for line in found)
    assert any("border" in line for line in found)
    assert any("do not grow" in line for line in found)


def test_a_teacher_as_good_as_the_end_of_scratch_costs_nothing_and_no_factor_is_made_up():
    records, _, config = reached(
        {"scratch": [0.1, 0.3, 0.5, 0.5], "grown": [0.5, 0.6, 0.6, 0.6]}, teacher=100.0
    )
    told = tables.speed_up(records, config)
    assert told["teacher_sunk"] == {"share": 0.0, "factor": None, "low": None, "high": None}
    assert told["teacher_included"]["factor"] == pytest.approx(2.0)
    said = findings.speed_of(told, {})
    assert "at once" in said[0]
    assert "2.00 times fewer" in said[0]


def test_speed_and_break_even_are_said_in_words():
    records, costs, config = reached(
        {"scratch": [0.1, 0.2, 0.3, 0.5, 0.6], "grown": [0.2, 0.5, 0.6, 0.6, 0.6]}, teacher=150.0
    )
    found = tables.break_even(records, costs, config)
    said = findings.speed_of(tables.speed_up(records, config), found)
    assert "3.00 times fewer FLOPs" in said[0]
    assert "1.20 times fewer" in said[0]
    assert "From 1 design on" in said[1]
    slower = {"share": 1.25, "factor": 0.8, "low": 0.5, "high": 2.0}
    told = {**tables.speed_up(records, config), "teacher_included": slower}
    assert "1.25 times as many FLOPs, 0.50 to 2.00 with the" in findings.speed_of(told, {})[0]
    never = findings.speed_of({}, {**found, "candidates": None})
    assert "no number of designs" in never[0]


def test_the_report_says_what_triggered_growth_and_what_was_advised_before():
    records, _ = made_up({"grown": [0.1, 0.2]})
    selection = pd.DataFrame({"arm": ["grown"], "rate_factor": [1.0], "at_border": [False]})
    headroom: dict[str, Any] = {"grow": True, "reasons": ["there is room for a larger net"]}
    headroom["teachers"] = [
        {"seed": 0, "epochs": 3, "plateau_epoch": 3},
        {"seed": 1, "epochs": 4, "plateau_epoch": -1},
    ]
    said = {
        when: " ".join(
            findings_of(
                records,
                selection.assign(chosen=True),
                headroom,
                tiny_config(growth__trigger__when=when),
            )
        )
        for when in ("trained", "plateau", "more_data")
    }
    assert all("grow, because there is room" in text for text in said.values())
    assert "seed 0 epoch 3, seed 1 nowhere in 4 epochs" in said["plateau"]
    assert "had seen 50 % of the training images" in said["more_data"]
    assert "triggered" not in said["trained"]


def test_a_grown_net_is_exported_and_answers_as_it_did(road):
    import torch

    from relearn.arm_store import CHECKPOINT
    from relearn.models.checkpoint import build, load_checkpoint
    from relearn.pipelines.promote.export import example_of, export_program, inference_module

    rows = road.units[road.units["arm"] == "grown"]
    checkpoint = load_checkpoint(Path(rows["path"].iloc[0]) / CHECKPOINT)
    module, example = inference_module("grow", checkpoint), example_of(checkpoint)
    exported = export_program(module, example).module()
    with torch.no_grad():
        found, expected = exported(example), module(example)
    torch.testing.assert_close(found, expected)
    assert sum(p.numel() for p in build(checkpoint).parameters()) == int(
        road.forecast["after"]["parameters"]
    )


def test_without_a_net_from_scratch_there_is_no_speed_up():
    records, costs, config = reached({"grown": [0.1, 0.2, 0.3]})
    assert tables.speed_up(records, config) == {}
    assert tables.break_even(records, costs, config) == {}
    never, *_ = reached({"scratch": [0.1, 0.1, 0.1], "grown": [0.1, 0.2, 0.3]})
    assert tables.speed_up(never, config) == {}


def test_a_rule_without_candidates_is_refused():
    records, _ = made_up({"grown": [0.1, 0.2]})
    with pytest.raises(EvidenceError, match="scratch_total"):
        baseline_by_rule(records, tiny_config())
