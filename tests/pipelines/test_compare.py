"""The compare pipeline: from the tables that methods leave to decision and report."""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from relearn.errors import EvidenceError, StaleInputError
from relearn.methods.forget_relearn.config import ForgetRelearnConfig
from relearn.methods.grow.config import GrowConfig
from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
from relearn.methods.lora_ipc.config import LoraIpcConfig
from relearn.methods.zap.config import ZapConfig
from relearn.parameters import StorageConfig
from relearn.pipelines.compare import create_pipeline
from relearn.pipelines.compare.nodes import compare_records
from relearn.pipelines.compare.pipeline import LEFT_BESIDE
from relearn.provenance import Provenance, digest
from relearn.reports.config import METHODS, CompareConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "reports"))
from made_up import zap_costs, zap_records

BASE = Path(__file__).parents[2] / "conf" / "base"


def read_parameters(name):
    return yaml.safe_load((BASE / f"parameters_{name}.yml").read_text(encoding="utf-8"))[name]


@pytest.fixture
def zap():
    return ZapConfig(**read_parameters("zap"))


@pytest.fixture
def others():
    return {
        "forget_relearn": ForgetRelearnConfig(**read_parameters("forget_relearn")),
        "grow": GrowConfig(**read_parameters("grow")),
        "lora_ipc": LoraIpcConfig(**read_parameters("lora_ipc")),
        "last_layer_probe": LastLayerProbeConfig(**read_parameters("last_layer_probe")),
    }


@pytest.fixture
def compare():
    return CompareConfig(**read_parameters("compare"))


def tied(table, config, method="zap"):
    made = Provenance(f"{method}.records", method, config=digest(config))
    table.attrs["provenance"] = made.to_json()
    return table


def empty():
    table = pd.DataFrame()
    table.attrs["missing"] = True
    return table


def tables(records, costs=None, **left):
    found = {f"{m}_{kind}": empty() for m in METHODS for kind in ("records", "costs")}
    found |= {"zap_records": records, "zap_costs": zap_costs() if costs is None else costs}
    return {**found, "zap_recommendation": {}, "zap_diagnostics": {}, **left}


def test_the_pipeline_writes_comparison_decision_figures_and_report(zap, others, compare):
    inputs = {
        "params:compare": compare,
        "params:zap": zap,
        **{f"params:{method}": config for method, config in others.items()},
        "params:storage": StorageConfig(folder="data/test"),
        "data_card": {"source": "glyphs", "images": 6000},
        "zap.records": tied(zap_records(), zap),
        "zap.costs": zap_costs(),
        "zap.interventions": pd.DataFrame({"arm": ["iid_zap"], "seed": [0], "step": [90]}),
        "zap.ledger_check": {"rows": 9, "verified": 9, "failed": [], "orders_equal": True},
        "zap.recommendation": {"study": "arms", "recommendation": "use iid_zap"},
        "zap.diagnostics": {"findings": ["iid_zap: the rate lies at a border."]},
    }
    for method in METHODS[1:]:
        inputs |= {f"{method}.records": empty(), f"{method}.costs": empty()}
    for method, left in product(others, LEFT_BESIDE):
        inputs[f"{method}.{left}"] = empty() if left == "interventions" else {"missing": True}
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in inputs.items()})
    outputs = ("comparison", "decision", "report")
    for name in (*outputs, "difference_figure", "cost_figure"):
        # the figure datasets of the catalog give back the bytes of a PNG
        catalog[name] = _PngDataset() if name.endswith("figure") else _KeptDataset()
    SequentialRunner().run(create_pipeline(), catalog)
    comparison, decision, report = (catalog[name].load() for name in outputs)
    assert decision["methods"]["zap"]["verdict"] == "adopt"
    assert comparison["name"].tolist()[0] == "headline"
    assert "the rate lies at a border" in report["html"]
    assert "adopt" in report["markdown"]
    assert "use iid_zap" not in report["html"]  # one answer to one question
    assert [row["decision"] for row in report["decision"]] == ["adopt"] + ["not run"] * 4
    json.dumps(decision, allow_nan=False)


class _KeptDataset(MemoryDataset):
    """Keeps its data after the run, as a file would."""

    def _release(self):
        """Keep them."""


class _PngDataset(_KeptDataset):
    """A figure on the way in, the bytes of its PNG on the way out."""

    def save(self, data):
        from relearn.reports.pictures import png_of

        super().save(png_of(data))


def test_the_road_of_one_method_reads_all_the_others_as_one_entry():
    inputs = create_pipeline("grow").inputs()

    assert {name.partition(".")[0] for name in inputs if "." in name} == {"grow"}
    assert "results_so_far" in inputs
    assert "results_so_far" not in create_pipeline().inputs()


def test_earlier_results_of_another_method_stand_in_the_comparison(zap, others, compare):
    grown = {"grow_records": empty(), "grow_costs": empty()}
    so_far = tables(tied(zap_records(), zap))

    _, decision = compare_records(compare, zap=zap, **others, results_so_far=so_far, **grown)

    assert decision["methods"]["zap"]["verdict"] == "adopt"
    assert decision["methods"]["grow"]["verdict"] == "not run"


def test_results_of_the_run_stand_before_earlier_ones(zap, others, compare):
    changed = zap.model_copy(update={"head": "other"})
    so_far = tables(tied(zap_records(), changed))  # alone, these would be refused
    fresh = tables(tied(zap_records(), zap))

    _, decision = compare_records(compare, zap=zap, **others, results_so_far=so_far, **fresh)

    assert decision["methods"]["zap"]["verdict"] == "adopt"


def test_nothing_run_at_all_is_one_clear_error(zap, others, compare):
    with pytest.raises(EvidenceError, match="kedro run --pipeline zap"):
        compare_records(compare, zap=zap, **others, **tables(empty(), empty()))


def test_records_of_other_parameters_are_refused_with_the_remedy(zap, others, compare):
    changed = zap.model_copy(update={"head": "other"})
    with pytest.raises(StaleInputError, match=r"zap\.records.*kedro run --pipeline zap"):
        compare_records(compare, zap=zap, **others, **tables(tied(zap_records(), changed)))


def test_thresholds_changed_after_the_run_are_refused(zap, others, compare):
    easier = zap.evidence.model_copy(update={"smallest_difference": 0.0})
    changed = zap.model_copy(update={"evidence": easier})
    with pytest.raises(StaleInputError):
        compare_records(compare, zap=changed, **others, **tables(tied(zap_records(), zap)))


def test_records_that_say_not_what_made_them_are_refused(zap, others, compare):
    with pytest.raises(StaleInputError, match=r"zap\.records"):
        compare_records(compare, zap=zap, **others, **tables(zap_records()))


def test_a_gate_of_the_method_reads_not_measured(zap, others, compare):
    given = tables(
        tied(zap_records(), zap), zap_diagnostics={"gate": "The head never recovers here."}
    )
    _, decision = compare_records(compare, zap=zap, **others, **given)
    entry = decision["methods"]["zap"]
    assert entry["verdict"] == "not measured"
    assert "never recovers" in entry["words"]
    assert entry["shown"]["difference"] == "-"


def test_a_study_is_judged_on_the_arms_that_it_names(zap, others, compare):
    records = zap_records().replace({"arm": {"iid_zap": "every_2"}})
    study = {"study": "frequency", "baseline_arm": "iid", "treated_arm": "every_2"}
    given = tables(tied(records, zap), zap_recommendation=study)
    table, decision = compare_records(compare, zap=zap, **others, **given)
    assert decision["methods"]["zap"]["treated_arm"] == "every_2"
    assert table["treated"][0] == "every_2"


def robust_records(arms, seeds=3):
    """Return test and validation accuracies of forget_relearn, arm to its mean."""
    rows = [
        ("forget_relearn", arm, seed, task, 9, metric, value + seed / 100)
        for arm, value in arms.items()
        for seed in range(seeds)
        for task, metric in (("test", "robust_accuracy"), ("test", "clean_accuracy"))
    ]
    columns = ["method", "arm", "seed", "task", "step", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


ROBUST = {"pgd_at": 0.4, "pgd_at_stopped": 0.45, "pgd_at_ema": 0.46, "forget_relearn": 0.5}


def other_tables(records, named, **left):
    found = tables(empty(), empty())
    found |= {"forget_relearn_records": records, "forget_relearn_recommendation": named}
    return {**found, "forget_relearn_diagnostics": {}, **left}


def test_a_rule_takes_the_baseline_that_the_recommendation_names(zap, others, compare):
    records = tied(robust_records(ROBUST), others["forget_relearn"], "forget_relearn")
    named = {"study": "arms", "baseline_arm": "pgd_at_ema", "treated_arm": "forget_relearn"}
    table, decision = compare_records(compare, zap=zap, **others, **other_tables(records, named))
    entry = decision["methods"]["forget_relearn"]
    assert (entry["baseline_arm"], entry["baseline_mean"]) == ("pgd_at_ema", pytest.approx(0.47))
    assert decision["methods"]["zap"]["verdict"] == "not run"
    mine = table[table["method"] == "forget_relearn"].set_index("name")
    assert mine.loc[["cured", "clean_kept"], "status"].tolist() == ["measured"] * 2
    assert mine.loc[["auto_attack", "sham"], "status"].tolist() == ["not measured"] * 2


def test_a_rule_whose_arm_nobody_named_is_refused(zap, others, compare):
    records = tied(robust_records(ROBUST), others["forget_relearn"], "forget_relearn")
    with pytest.raises(StaleInputError, match=r"forget_relearn\.recommendation: .*--pipeline"):
        compare_records(compare, zap=zap, **others, **other_tables(records, {"missing": True}))


def test_the_sham_of_the_evidence_is_asked_about_once(zap, others, compare):
    sham = others["forget_relearn"].evidence.model_copy(update={"sham_arm": "share_zero"})
    config = others["forget_relearn"].model_copy(update={"evidence": sham})
    records = tied(robust_records({**ROBUST, "share_zero": 0.41}), config, "forget_relearn")
    named = {"study": "arms", "baseline_arm": "pgd_at_stopped", "treated_arm": "forget_relearn"}
    table, _ = compare_records(
        compare,
        zap=zap,
        **{**others, "forget_relearn": config},
        **other_tables(records, named),
    )
    mine = table[(table["method"] == "forget_relearn") & (table["status"] == "measured")]
    assert "treated over sham" in set(mine["name"])
    assert "sham" not in set(mine["name"])


def test_questions_about_a_method_that_was_not_run_leave_the_others_as_they_were(
    zap, others, compare
):
    records = tied(zap_records(), zap)
    alone = {n: s for n, s in compare.secondary.items() if s.method == "zap"}
    reports = [
        compare_records(asked, zap=zap, **others, **tables(records))[1]["methods"]["zap"]
        for asked in (compare, compare.model_copy(update={"secondary": alone}))
    ]
    assert reports[0] == reports[1]


def test_missing_costs_hold_the_adoption(zap, others, compare):
    given = tables(tied(zap_records(), zap), empty())
    _, decision = compare_records(compare, zap=zap, **others, **given)
    assert decision["methods"]["zap"]["reasons"] == ["cost unknown"]


def test_the_pipeline_module_imports_neither_torch_nor_matplotlib():
    import subprocess

    code = (
        "import sys, relearn.pipelines.compare, relearn.reports.config;"
        "print([m for m in ('torch', 'matplotlib', 'mlflow', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
