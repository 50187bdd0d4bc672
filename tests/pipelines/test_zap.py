"""The nodes of zapping on a tiny stream, in one process, and what they promise to a reader."""

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
from tiny_zap import tiny_base, tiny_config, tiny_stream

from relearn.errors import StaleInputError, TrainingError
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.pipelines.zap import create_pipeline, nodes
from relearn.provenance import Provenance, digest
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from relearn.methods.zap.config import ZapConfig

ROOT = Path(__file__).resolve().parents[2]
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)
TWO_ARMS = {
    "arms__asb": False,
    "arms__asb_zap": False,
    "arms__meta": False,
    "arms__meta_zap": False,
    "arms__iid_shrink_perturb": False,
}


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
        self.zap: ZapConfig = tiny_config(**{**TWO_ARMS, **changes})
        self.common: dict[str, Any] = {
            "base": base(),
            "stream": tiny_stream(),
            "zap": self.zap,
            "seeds": SeedsConfig(first=0, count=seeds),
            "execution": EXECUTION,
            "storage": StorageConfig(folder=str(folder)),
        }

    def run(self) -> Road:
        self.selection = nodes.choose_settings(
            **self.common,
            pretrain=pretrain(),
            data=None,  # type: ignore[arg-type] # the tiny stream has no provenance
        )
        self.units = nodes.train_arms(**self.common, selection=self.selection)
        self.confirmed = nodes.confirm_winner(
            **self.common, selection=self.selection, units=self.units
        )
        found = nodes.collect_results(self.units, self.confirmed, self.zap)
        self.records, self.costs, self.interventions, self.predictions, self.exploration = found
        self.ledger = nodes.check_ledger(self.units, self.confirmed)
        self.diagnostics = nodes.diagnose(self.records, self.selection, self.zap)
        self.recommendation = nodes.recommend(self.records, self.costs, self.exploration, self.zap)
        return self

    def draw(self):
        return nodes.draw_figures(self.records, self.interventions, self.exploration, self.zap)


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    return Road(tmp_path_factory.mktemp("arms")).run()


@pytest.fixture(scope="module", params=["frequency", "initialisation"])
def study(request, tmp_path_factory):
    return Road(tmp_path_factory.mktemp(request.param), compare=request.param).run()


def test_every_arm_is_trained_with_every_seed(arms):
    pairs = list(zip(arms.units["arm"], arms.units["seed"], strict=True))
    assert pairs == [(a, s) for s in (0, 1) for a in ("iid", "iid_zap", "iid_moments")]
    assert not arms.units["reused"].any()
    assert set(zip(arms.records["arm"], arms.records["seed"], strict=True)) == set(pairs)
    assert set(arms.costs["arm"]) == {"iid", "iid_zap", "iid_moments"}


def test_an_arm_study_needs_no_confirmation_and_no_exploration(arms):
    assert len(arms.confirmed) == 0
    assert list(arms.confirmed.columns) == list(arms.units.columns)
    assert len(arms.exploration) == 0


def test_all_interventions_verify_and_orders_are_equal(arms, study):
    for road in (arms, study):
        assert road.ledger["failed"] == []
        assert road.ledger["verified"] == road.ledger["rows"] > 0
        assert road.ledger["orders_equal"] is True


def test_a_tampered_ledger_is_told(tmp_path):
    road = Road(tmp_path, seeds=1).run()
    unit = road.units[road.units["arm"] == "iid_zap"].iloc[0]
    path = Path(unit["path"]) / "rows.json"
    rows = json.loads(path.read_text())
    rows["interventions"][0]["draw_seed"] += 1
    path.write_text(json.dumps(rows))
    found = nodes.check_ledger(road.units, road.confirmed)
    assert found["failed"] == ["iid_zap seed 0: reset_last_layer at step 3"]
    assert found["verified"] == found["rows"] - 1


def test_predictions_score_the_accuracy_that_is_recorded(arms):
    for (arm, seed), rows in arms.predictions.groupby(["arm", "seed"]):
        mine = arms.records[
            (arms.records["arm"] == arm)
            & (arms.records["seed"] == seed)
            & (arms.records["task"] == "few_shot")
            & (arms.records["metric"] == "accuracy")
        ].sort_values("step")
        share = (rows["label"] == rows["predicted"]).mean()
        assert mine["value"].iloc[-1] == pytest.approx(share)


def test_tables_carry_the_digest_of_the_parameters(arms):
    for table in (arms.records, arms.costs, arms.interventions, arms.predictions):
        made = Provenance.from_json(table.attrs["provenance"])
        made.require(config=digest(arms.zap))
        with pytest.raises(StaleInputError, match="--pipeline zap"):
            made.require(config=digest(tiny_config(policy__every=2)))


def test_finished_units_are_not_trained_again(arms, monkeypatch):
    def fails(*args, **kwargs):
        raise AssertionError("a finished unit was trained again")

    monkeypatch.setattr("relearn.methods.zap.train._pretrain", fails)
    again = nodes.train_arms(**arms.common, selection=arms.selection)
    assert again["reused"].all()
    assert list(again["digest"]) == list(arms.units["digest"])


def test_other_arms_switched_on_do_not_redo_a_unit_but_another_knob_does(arms):
    from relearn.pipelines.zap.units import Job, unit_of

    def address(zap, **changes):
        job = Job(base(), tiny_stream(), zap, "iid_zap", 0, EXECUTION, None)
        return unit_of(dataclasses.replace(job, **changes)).address

    here = address(arms.zap)
    assert address(tiny_config()) == here
    assert address(arms.zap, label="other") == here
    assert address(tiny_config(policy__every=2)) != here
    assert address(arms.zap, seed=1) != here
    assert address(arms.zap, scoring=True) != here
    assert address(arms.zap, arm="iid_moments") != here
    other = dataclasses.replace(tiny_stream(), task_of_class=torch.zeros(16, dtype=torch.long))
    assert address(arms.zap, stream=other) != here


def test_the_recommendation_names_difference_interval_and_seeds(arms):
    told = arms.recommendation
    assert (told["baseline_arm"], told["treated_arm"]) == ("iid", "iid_zap")
    assert told["seeds"] == [0, 1]
    assert told["fresh_seeds"] is False
    assert told["low"] <= told["difference"] <= told["high"]
    assert told["recommendation"].startswith(("use iid_zap", "no benefit"))
    json.dumps(told)


def test_a_study_confirms_its_winner_on_fresh_seeds(study):
    told = study.recommendation
    assert told["study"] == study.zap.compare
    assert told["fresh_seeds"] is True
    assert told["seeds"] == [20_000, 20_001]
    assert told["baseline_arm"] == "iid"
    explored = set(study.exploration["arm"])
    assert told["treated_arm"] in explored - {"iid"}
    assert set(study.records["arm"]) == {"iid", told["treated_arm"]}
    assert set(study.exploration["seed"]) == {0, 1}
    assert {v["arm"] for v in told["variants"]} == explored
    scores = [v["selection_score"] for v in told["variants"]]
    assert scores == sorted(scores, reverse=True)
    best = next(v["arm"] for v in told["variants"] if v["arm"] != "iid")
    assert told["treated_arm"] == best
    json.dumps(told)


def test_the_winner_is_the_best_variant_even_where_the_baseline_is_better(study, monkeypatch):
    import pandas as pd

    from relearn.pipelines.zap.study import winner_of

    scores = pd.Series({"iid": 0.9, "first": 0.5, "second": 0.7})
    monkeypatch.setattr("relearn.pipelines.zap.study.selection_scores", lambda records: scores)
    assert winner_of(study.units, study.zap) == "second"


def test_five_figures_are_drawn_for_arms_and_studies(arms, study):
    from matplotlib.figure import Figure

    for road in (arms, study):
        overview = road.draw()
        assert isinstance(overview, Figure)
        assert len(overview.axes) == 5


def test_baselines_alone_make_tables_and_figures_too(tmp_path):
    road = Road(
        tmp_path,
        seeds=1,
        arms__iid_zap=False,
        arms__iid_moments=False,
        arms__asb=True,
        evidence__treated_arm="asb",
        evidence__sham_arm="",
    ).run()
    assert len(road.interventions) == 0
    assert "draw_seed" in road.interventions.columns
    assert road.ledger == {"rows": 0, "verified": 0, "failed": [], "orders_equal": True}
    assert len(road.draw().axes) == 5


def test_tuning_gives_every_arm_the_same_candidates_and_chooses_the_best(tmp_path):
    road = Road(
        tmp_path,
        arms__iid_moments=False,
        evidence__sham_arm="",
        tuning={
            "enabled": True,
            "seeds": 2,
            "rate": {"centre": 1.0, "factor": 3.0, "points": 2, "widenings": 1},
            "shift_pixels": 1,
        },
    )
    table = nodes.choose_settings(**road.common, pretrain=pretrain(), data=None)  # type: ignore[arg-type]
    for _, rows in table.groupby("arm"):
        assert set(rows["shift_pixels"]) == {0, 1}
        assert {1.0, 3.0} <= set(rows["rate_factor"])
        assert rows["chosen"].sum() == 1
        assert rows.loc[rows["chosen"], "score"].iloc[0] == rows["score"].max()
        assert (rows["seeds"] == 2).all()
        assert (rows["seconds"] > 0).all()
    settled = nodes.train_arms(**road.common, selection=table)
    rows = json.loads((Path(settled["path"].iloc[0]) / "rows.json").read_text())
    assert {r["seed"] for r in rows["records"]} == {0}
    tuned = {int(p.name.rpartition("seed")[2]) for p in tmp_path.glob("06_models/zap/tuning/*")}
    assert tuned == {10_000, 10_001}


def test_a_fixed_grid_of_one_is_not_said_to_lie_at_a_border(tmp_path):
    road = Road(tmp_path, tuning__enabled=True, tuning__shift_pixels=0, arms__iid_moments=False,
                evidence__sham_arm="")  # fmt: skip
    table = nodes.choose_settings(**road.common, pretrain=pretrain(), data=None)  # type: ignore[arg-type]
    assert not table["at_border"].any()
    assert table["chosen"].all()


def test_diagnostics_tell_borders_unrecovered_heads_and_parity():
    import pandas as pd

    rows = [
        ("iid", 0, "few_shot_choice", "chosen_zero_head", 1.0),
        ("iid", 0, "few_shot_choice", "rate_at_border_zero_head", 1.0),
        ("iid", 0, "few_shot_choice", "chosen_kaiming_head", 0.0),
        ("iid", 0, "few_shot_choice", "rate_at_border_kaiming_head", 1.0),
        ("iid_zap", 0, "few_shot_choice", "chosen_zero_head", 1.0),
        ("iid_zap", 0, "few_shot_choice", "rate_at_border_zero_head", 0.0),
        ("iid_zap", 0, "zap_shock_summary", "recovered_share", 0.25),
    ]
    records = pd.DataFrame(rows, columns=["arm", "seed", "task", "metric", "value"])
    selection = pd.DataFrame(
        [("iid", 3.0, True, True), ("iid_zap", 1.0, False, True)],
        columns=["arm", "rate_factor", "at_border", "chosen"],
    )
    found = nodes.diagnose(records, selection, tiny_config(transfer__select_on="test"))["findings"]
    assert len(found) == 4
    assert found[0].startswith("iid: the best pre-training rate (x3)")
    assert "iid: in 1 of 1 seeds the chosen few_shot transfer rate" in found[1]
    assert "iid_zap: after 75 % of its resets" in found[2]
    assert "parity" in found[3]


@pytest.mark.parametrize("part", ["config", "stream"])
def test_a_base_of_other_parameters_is_refused(tmp_path, part):
    road = Road(tmp_path)
    told = {**base().provenance, part: "other"}
    road.common["base"] = dataclasses.replace(base(), provenance=told)
    with pytest.raises(StaleInputError, match=r"base: .*--pipeline pretrain"):
        nodes.choose_settings(**road.common, pretrain=pretrain(), data=None)  # type: ignore[arg-type]


def test_a_selection_that_lacks_an_arm_is_refused(arms):
    short = arms.selection[arms.selection["arm"] != "iid_zap"]
    with pytest.raises(StaleInputError, match="no settings for arm 'iid_zap'"):
        nodes.train_arms(**arms.common, selection=short)


def test_one_failing_unit_is_named_and_the_others_are_kept(tmp_path):
    road = Road(tmp_path, seeds=1, train__learning_rate=1e38, train__optimizer="sgd",
                arms__asb=True)  # fmt: skip
    selection = nodes.choose_settings(**road.common, pretrain=pretrain(), data=None)  # type: ignore[arg-type]
    with pytest.raises(TrainingError) as caught:
        nodes.train_arms(**road.common, selection=selection)
    assert "iid.seed0" in str(caught.value)
    assert "asb" not in str(caught.value).split(":")[1]
    finished = {p.parent.parent.name for p in tmp_path.rglob("done.json")}
    assert "asb.seed0" in finished
    assert "iid.seed0" not in finished


def test_the_pipeline_is_wired_whole_and_takes_base_and_stream_alone():
    pipeline = create_pipeline()
    free = {name for name in pipeline.inputs() if not name.startswith("params:")}
    assert free == {"base", "stream"}
    assert all(name.startswith("zap.") for name in pipeline.all_outputs())
    names = {node.name for node in pipeline.nodes}
    assert {"zap.choose_settings", "zap.train_arms", "zap.recommend"} <= names


def test_the_pipeline_imports_without_torch_pandas_or_mlflow():
    code = (
        "import sys, relearn.pipelines.zap; "
        "sys.exit(sum(n in sys.modules for n in ('torch', 'pandas', 'mlflow', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
