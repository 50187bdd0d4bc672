"""The nodes of lora_ipc on a tiny stream, in one process, and what they promise to a reader."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml
from tiny_lora_ipc import tiny_base, tiny_config, tiny_stream

from relearn.errors import CheckpointError, EvidenceError, ParameterError, StaleInputError
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.pipelines.lora_ipc import findings, nodes, reading
from relearn.pipelines.lora_ipc.study import baseline_by_rule, orders_table
from relearn.pipelines.lora_ipc.training_store import load_trained
from relearn.provenance import Provenance, digest
from relearn.reports.continual_figures import continual_figures
from relearn.training.config import ExecutionConfig, PretrainConfig
from relearn.training_store import TENSORS

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.lora_ipc.config import LoraIpcConfig

ROOT = Path(__file__).resolve().parents[2]
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)
FEW = {
    "trainings": {
        name: name in ("ncm", "ranpac", "lorac", "lorac_ipc")
        for name in tiny_config().trainings.model_dump()
    },
    "evidence__sham_arm": "",
}


def pretrain() -> PretrainConfig:
    text = (ROOT / "conf/base/parameters_pretrain.yml").read_text(encoding="utf-8")
    return PretrainConfig.model_validate(yaml.safe_load(text)["pretrain"])


def base():
    """Return the tiny backbone as the pipeline ``pretrain`` would have left it."""
    told = {"config": digest(pretrain()), "stream": stream().digest}
    return dataclasses.replace(tiny_base(), provenance=told)


def stream() -> Stream:
    """Return the tiny stream with classes on which a backbone is judged."""
    tiny = tiny_stream()
    unseen = {f"selection_{part}": tiny.split(f"transfer_{part}") for part in ("support", "query")}
    return dataclasses.replace(tiny, splits={**tiny.splits, **unseen})


class Road:
    """All nodes of the pipeline, run one after the other."""

    def __init__(self, folder: Path, *, seeds: int = 2, **changes: Any) -> None:
        self.config: LoraIpcConfig = tiny_config(**{**FEW, **changes})
        self.data = {"base": base(), "stream": stream(), "lora_ipc": self.config}
        self.run_on: dict[str, Any] = {
            **self.data,
            "seeds": SeedsConfig(first=0, count=seeds),
            "execution": EXECUTION,
            "storage": StorageConfig(folder=str(folder)),
        }

    def ask(self) -> Road:
        self.base_check = nodes.check_base(
            **self.data,
            execution=EXECUTION,
            pretrain=pretrain(),
            data=None,  # type: ignore[arg-type] # the tiny stream has no provenance
        )
        return self

    def choose(self) -> Road:
        self.selection = nodes.choose_settings(**self.run_on, base_check=self.base_check)
        return self

    def train(self) -> Road:
        self.units = nodes.train_models(**self.run_on, selection=self.selection)
        return self

    def read(self) -> Road:
        found = reading.collect_results(self.units, self.config)
        self.records, self.costs, self.interventions, self.predictions, self.orders = found
        self.ledger = reading.check_ledger(base(), self.units)
        strong = {**self.base_check, "strong": True, "reason": ""}  # its weights were drawn
        self.tables = {
            "records": self.records,
            "costs": self.costs,
            "interventions": self.interventions,
            "selection": self.selection,
        }
        self.diagnostics = reading.diagnose(**self.tables, base_check=strong, lora_ipc=self.config)
        self.recommendation = reading.recommend(
            self.records, self.costs, self.diagnostics, self.config
        )
        return self


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Road:
    return Road(tmp_path_factory.mktemp("lora_ipc")).ask().choose().train().read()


def test_every_arm_of_every_training_and_seed_is_in_the_index(road):
    arms = {"ncm", "ranpac", "lorac", "lorac_ipc", "lorac_ipc_no_tap", "lorac_ipc_tii"}
    pairs = set(zip(road.units["arm"], road.units["seed"], strict=True))
    assert {(arm, seed) for arm in arms for seed in (0, 1)} <= pairs
    assert set(road.units["arm"]) == set(road.records["arm"])


def test_every_frozen_matrix_is_proven_on_the_stored_modules(road):
    frozen = road.interventions[road.interventions["kind"] == "freeze_matrix"]
    assert road.ledger["rows"] == road.ledger["verified"] == len(frozen) > 0
    assert road.ledger["failed"] == []
    assert road.ledger["orders_equal"]


def test_a_frozen_matrix_that_moved_is_named(road, tmp_path, monkeypatch):
    from relearn.methods.lora_ipc import operate

    whole = operate.adapters_of

    def moved(*given: Any) -> Any:
        adapters = whole(*given)
        name = next(iter(adapters.frozen))
        adapters.matrices[name].history_b.add_(1.0)
        return adapters

    monkeypatch.setattr(operate, "adapters_of", moved)
    mine = road.units[(road.units["arm"] == "lorac_ipc") & (road.units["seed"] == 0)]
    found = reading.check_ledger(base(), mine)
    assert found["verified"] < found["rows"]
    assert "lorac_ipc seed 0: freeze_matrix" in found["failed"][0]


def test_a_second_run_trains_nothing(road):
    again = nodes.train_models(**road.run_on, selection=road.selection)
    assert again["reused"].all()
    assert list(again["digest"]) == list(road.units["digest"])


def test_other_evidence_trains_nothing_and_other_rates_do(road, tmp_path):
    from relearn.pipelines.lora_ipc.units import TrainingJob, training_unit

    def address(**changes: Any) -> dict[str, str]:
        config = tiny_config(**{**FEW, **changes})
        job = TrainingJob(base(), stream(), config, "lorac", 0, EXECUTION, None)
        return dict(training_unit(job).address)

    before = address()
    assert address(evidence__minimum_seeds=7) == before
    assert address(rates__shared=3.0) == before
    assert address(rates__lorac=3.0) != before
    assert address(freeze__share=0.3) != before


def test_records_say_which_parameters_made_them(road):
    made = Provenance.from_json(road.records.attrs["provenance"])
    assert made.config == digest(road.config)


def test_the_orders_table_has_an_interval_around_each_mean(road):
    rows = road.orders[road.orders["metric"] == "final_average_accuracy"]
    assert set(rows["arm"]) == set(road.units["arm"])
    assert (rows["orders"] == 2).all()
    assert ((rows["low"] <= rows["mean"]) & (rows["mean"] <= rows["high"])).all()
    assert (rows["lowest"] <= rows["highest"]).all()


def test_diagnostics_name_the_cheap_alternatives_and_can_be_written(road):
    arms = [row["arm"] for row in road.diagnostics["cheap_alternatives"]]
    assert set(arms) == {"ncm", "ranpac", "lorac"}
    values = [row["final_average_accuracy"] for row in road.diagnostics["cheap_alternatives"]]
    assert values == sorted(values, reverse=True)
    assert -1 <= road.diagnostics["ranking_stability"] <= 1
    for name in ("orders_of_classes", "orthogonality_at_the_end"):
        assert {"lorac", "lorac_ipc"} <= {row["arm"] for row in road.diagnostics[name]}
    assert all(0 <= row["largest_cosine"] <= 1 for row in road.diagnostics[name])
    assert [row["seed"] for row in road.diagnostics["similarity_of_tasks"]] == ["0", "1"]
    (stable,) = road.diagnostics["importance_between_seeds"]
    assert stable["rank_correlation"] == pytest.approx(road.diagnostics["ranking_stability"])
    json.dumps([road.diagnostics, road.recommendation, road.base_check], allow_nan=False)


def test_the_page_of_a_run_tells_every_arm_and_both_controls(road, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import lora_page

    shown = {name: road.tables[name] for name in ("records", "costs", "interventions")}
    output = tmp_path / "07_model_output" / "lora_ipc"
    output.mkdir(parents=True)
    for name, one in shown.items():
        one.to_parquet(output / f"{name}.parquet")
    settings, reporting = tmp_path / "06_models" / "lora_ipc", tmp_path / "08_reporting"
    (reporting / "lora_ipc").mkdir(parents=True)
    settings.mkdir(parents=True)
    road.selection.to_csv(settings / "selection.csv", index=False)
    entry = {"words": "Nothing is claimed.", "asked_digest": "abc"}
    told = {"provenance": {"command": "kedro run"}, "methods": {"lora_ipc": entry}}
    (reporting / "decision.json").write_text(json.dumps(told), encoding="utf-8")
    asked = "name,task,metric,treated,baseline,status,difference,low,high,p_holm,baseline_mean"
    (reporting / "comparison.csv").write_text(f"{asked},treated_mean\n", encoding="utf-8")
    for name, value in (("diagnostics", road.diagnostics), ("ledger_check", road.ledger)):
        (reporting / "lora_ipc" / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    page = tmp_path / "page.md"
    lora_page.main([str(tmp_path), str(page), "A run"])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# A run\n")
    assert all(f"\n| {arm} | " in text for arm in set(road.units["arm"]))
    for heading in ("Orthogonality", "Sensitivity", "Stability", "Drift", "Cost", "The backbone"):
        assert f"\n## {heading}" in text
    assert f"{100 * road.base_check['raw_pixels']:.1f} % on raw pixels" in text
    assert "nan" not in text


def test_the_recommendation_names_both_arms_and_the_interval(road):
    told = road.recommendation
    assert (told["baseline_arm"], told["treated_arm"]) == ("lorac", "lorac_ipc")
    assert told["low"] <= told["difference"] <= told["high"]
    assert told["seeds"] == [0, 1]


def test_every_picture_is_drawn(road):
    drawn = list(continual_figures(road.records, baseline="lorac"))
    titles = " / ".join(title for title, _, _ in drawn)
    for word in ("Accuracy on every task", "first task", "forgetting", "moved", "alike"):
        assert word in titles
    figure = reading.draw_figures(road.records, road.recommendation)
    assert len(figure.axes) == len(drawn)


def test_a_weak_backbone_is_reported_and_nothing_is_claimed(road, tmp_path):
    weak = Road(tmp_path, gate__above_raw_pixels=0.99)
    weak.ask()
    assert not weak.base_check["strong"]
    told = reading.diagnose(**road.tables, base_check=weak.base_check, lora_ipc=weak.config)
    assert "Base too weak" in told["gate"]
    assert told["gate"] in told["findings"]
    claim = reading.recommend(road.records, road.costs, told, weak.config)
    assert "nothing is claimed" in claim["recommendation"]
    assert "difference" not in claim


def test_a_weak_backbone_stops_the_run_where_that_is_asked_for(tmp_path):
    with pytest.raises(EvidenceError, match=r"lora_ipc\.gate: Base too weak"):
        Road(tmp_path, gate__above_raw_pixels=0.99, gate__refuse=True).ask()


def test_tuning_scores_one_training_of_each_family_and_settles_all(tmp_path):
    rate = {"centre": 1.0, "factor": 3.0, "points": 2, "widenings": 0}
    road = Road(tmp_path, seeds=1, tuning__enabled=True, tuning__rate=rate).ask().choose()
    assert set(road.selection["family"]) == {"lorac", "lorac_ipc"}
    chosen = road.selection[road.selection["chosen"]]
    assert list(chosen.groupby("family").size()) == [1, 1]
    from relearn.pipelines.lora_ipc.tuning import settled
    from relearn.pipelines.lora_ipc.units import TrainingJob

    first = TrainingJob(base(), stream(), road.config, "ncm", 0, EXECUTION, None)
    factor = float(chosen.set_index("family").loc["lorac", "rate_factor"])
    assert settled(first, road.selection, "lorac", 1).config.rates.lorac == pytest.approx(factor)
    assert settled(first, road.selection, "ncm", 1).config == road.config
    few = road.selection[road.selection["family"] != "lorac"]
    with pytest.raises(StaleInputError, match="lorac"):
        settled(first, few, "lorac", 1)


def test_the_treated_arm_and_not_its_sham_speaks_for_its_family():
    from relearn.pipelines.lora_ipc.tuning import families_of

    own = {name: name for name in ("joint", "joint_full", "lorac", "lorac_ipc")}
    expected = {"full": "sequential_full", "held": "ewc", "shared": "shared_lora"}
    assert families_of(tiny_config()) == expected | own


def test_a_damaged_model_is_refused(road, tmp_path):
    folder = Path(road.units["path"][road.units["arm"] == "lorac_ipc"].iloc[0]).parent
    for path in folder.glob("trained.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert load_trained(tmp_path).name == "lorac_ipc"
    (tmp_path / TENSORS).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="restore it"):
        load_trained(tmp_path)


def test_an_arm_that_is_not_trained_cannot_be_the_baseline(road):
    with pytest.raises(ParameterError, match=r"lora_ipc\.evidence\.baseline_arm"):
        Road(Path("nowhere"), evidence__baseline_arm="ewc").ask()
    rule = tiny_config(**FEW, evidence__baseline_arm="best_on_validation")
    name, rows = baseline_by_rule(road.records, rule)
    assert name == rows[0]["arm"]
    assert name in ("ncm", "ranpac", "lorac")
    with pytest.raises(EvidenceError, match="validation"):
        baseline_by_rule(road.records[road.records["task"] != "validation"], rule)


def rows_with(values: dict[str, float], metric: str) -> pd.DataFrame:
    rows = [("lora_ipc", arm, 0, "test", 3, metric, value) for arm, value in values.items()]
    return pd.DataFrame(rows, columns=["method", "arm", "seed", "task", "step", "metric", "value"])


def told_of(records: pd.DataFrame, **changes: Any) -> str:
    selection = pd.DataFrame(
        {"family": ["lorac"], "rate_factor": [3.0], "at_border": [True], "chosen": [True]}
    )
    strong = {"strong": True, "reason": ""}
    return " ".join(findings.findings_of(records, selection, strong, tiny_config(**changes)))


def test_a_cheap_arm_above_the_treated_one_is_said_whatever_the_headline():
    values = {"ranpac": 0.9, "ncm": 0.5, "lorac_ipc": 0.8}
    told = told_of(rows_with(values, "final_average_accuracy"))
    assert "ranpac 90.0 %" in told
    assert "ncm" not in told
    assert "border" in told


def test_arms_that_leak_the_task_boundary_are_called_so():
    told = told_of(rows_with({"lorac_ipc_batch_wise": 0.9}, "final_average_accuracy"))
    assert "gives away where a task ends" in told


def test_the_compatible_error_of_the_official_code_is_a_finding():
    told = told_of(rows_with({"lorac_ipc": 0.9}, "forgetting"), lora__k_uses_q_mask=True)
    assert "k_uses_q_mask" in told


def test_rankings_that_agree_have_correlation_one():
    rows = [
        ("lora_ipc", "lorac_ipc", seed, "importance", 1, f"0.{kind}", place * (seed + 1.0))
        for seed in (0, 1)
        for place, kind in enumerate("qkvo")
    ]
    columns = ["method", "arm", "seed", "task", "step", "metric", "value"]
    records = pd.DataFrame(rows, columns=columns)
    assert findings.ranking_stability(records, arm="lorac_ipc") == pytest.approx(1.0)
    one = records[records["seed"] == 0]
    assert findings.ranking_stability(one, arm="lorac_ipc") is None


def test_one_order_has_no_interval():
    records = rows_with({"lorac": 0.5}, "forgetting")
    table = orders_table(records, tiny_config())
    assert table["low"].isna().all()
