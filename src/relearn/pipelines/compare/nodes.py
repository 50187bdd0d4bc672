"""Nodes of the comparison: they unpack tables and parameters and hand them to ``reports``.

Kedro evaluates the annotations of nodes while it starts, so names that would import pandas or
matplotlib stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError, StaleInputError
from relearn.evaluation.config import BEST_ON_VALIDATION
from relearn.methods.forget_relearn.config import ForgetRelearnConfig
from relearn.methods.grow.config import GrowConfig
from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
from relearn.methods.lora_ipc.config import LoraIpcConfig
from relearn.methods.zap.config import ZapConfig
from relearn.parameters import StorageConfig
from relearn.pipelines.compare.gathering import gather
from relearn.provenance import Provenance, digest
from relearn.reports.config import METHODS, CompareConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.evaluation.config import EvidenceConfig
else:
    DataFrame = EvidenceConfig = Figure = Any

logger = logging.getLogger(__name__)


def compare_records(
    compare: CompareConfig,
    *,
    zap: ZapConfig,
    forget_relearn: ForgetRelearnConfig,
    grow: GrowConfig,
    lora_ipc: LoraIpcConfig,
    last_layer_probe: LastLayerProbeConfig,
    results_so_far: Mapping[str, Any] | None = None,
    **tables: Any,
) -> tuple[DataFrame, dict[str, Any]]:
    """Return the table of comparisons and the decision on each method.

    Args:
        compare: How it is computed.
        zap: Parameters of the method, which hold what was said before the run.
        forget_relearn: Parameters of the method, likewise.
        grow: Parameters of the method, likewise.
        lora_ipc: Parameters of the method, likewise.
        last_layer_probe: Parameters of the method, likewise.
        results_so_far: What any method left, which gives way to ``tables``.
        tables: ``<method>_records``, ``<method>_costs``, ``<method>_diagnostics`` and
            ``<method>_recommendation``.

    Raises:
        EvidenceError: No method was run at all, or records cannot be compared.
        StaleInputError: Records were made from other parameters.
    """
    import pandas as pd

    from relearn.pipelines.compare.origin import origin_of_run
    from relearn.reports.summary import decision_document

    tables = gather(results_so_far, tables)
    _require_records(tables)
    configs = _configs(zap, forget_relearn, grow, lora_ipc, last_layer_probe)
    found = {m: _judge_method(m, c, compare, tables) for m, c in configs.items()}
    decision = decision_document(
        {method: entry for method, (_, entry) in found.items()},
        title=compare.title,
        provenance={**origin_of_run(), **_digests(tables)},
    )
    rows = [row for table, _ in found.values() for row in table]
    return pd.DataFrame(rows), decision


def draw_comparison(
    compare: CompareConfig,
    *,
    zap: ZapConfig,
    forget_relearn: ForgetRelearnConfig,
    grow: GrowConfig,
    lora_ipc: LoraIpcConfig,
    last_layer_probe: LastLayerProbeConfig,
    results_so_far: Mapping[str, Any] | None = None,
    **tables: Any,
) -> tuple[Figure, Figure]:
    """Return the paired differences of all methods that were run, and what the arms cost.

    Args:
        compare: Further comparisons.
        zap: Parameters of the method.
        forget_relearn: Parameters of the method.
        grow: Parameters of the method.
        lora_ipc: Parameters of the method.
        last_layer_probe: Parameters of the method.
        results_so_far: What any method left, which gives way to ``tables``.
        tables: ``<method>_records``, ``<method>_costs`` and ``<method>_recommendation``.
    """
    import pandas as pd

    from relearn.reports.comparison import compare_method
    from relearn.reports.costs import cost_table, one_per_training
    from relearn.reports.figures import draw_differences
    from relearn.reports.method_figures import draw_costs

    tables = gather(results_so_far, tables)
    _require_records(tables)
    comparisons, costs, baselines = [], [], []
    configs = _configs(zap, forget_relearn, grow, lora_ipc, last_layer_probe)
    for method, config in configs.items():
        if tables[f"{method}_records"].empty:
            continue
        evidence = _evidence_of(method, config, tables)
        records, spent = tables[f"{method}_records"], tables[f"{method}_costs"]
        comparisons += compare_method(records, method=method, evidence=evidence, config=compare)
        table = cost_table(spent, method=method, baseline=evidence.baseline_arm)
        table = one_per_training(table, named=(evidence.baseline_arm, evidence.treated_arm))
        costs.append(table.assign(arm=f"{method}: " + table["arm"].astype(str)))
        baselines.append(f"{method}: {evidence.baseline_arm}")
    return draw_differences(comparisons), draw_costs(pd.concat(costs), baselines=baselines)


def write_report(
    compare: CompareConfig,
    storage: StorageConfig,
    decision: Mapping[str, Any],
    *,
    data_card: Mapping[str, Any],
    difference_figure: bytes,
    cost_figure: bytes,
    results_so_far: Mapping[str, Any] | None = None,
    **left: Any,
) -> dict[str, Any]:
    """Return the report as HTML and Markdown, with the rows that kedro-viz previews.

    Args:
        compare: Whether a Japanese summary is wanted.
        storage: Only to say where the report lies.
        decision: As written to ``decision.json``.
        data_card: What the images are.
        difference_figure: PNG of the paired differences.
        cost_figure: PNG of the costs.
        results_so_far: What any method left, which gives way to ``left``.
        left: ``<method>_records``, and what a method left beside them: ``_interventions``,
            ``_ledger_check``, ``_recommendation``, ``_diagnostics``.
    """
    from relearn.reports.document import Picture, report_content, write_html, write_markdown
    from relearn.reports.summary import closing_message, methods_of

    left = gather(results_so_far, left)
    methods = methods_of(decision)
    run = {m: e for m, e in methods.items() if e["verdict"] != "not run"}
    parts = {method: _part_of(method, entry, left) for method, entry in run.items()}
    pictures = [
        Picture("Paired differences", "Treated minus baseline, pair by pair.", difference_figure),
        Picture("Training time", "Seconds of training per arm.", cost_figure),
    ]
    content = report_content(
        decision, parts=parts, data_card=data_card, japanese=compare.japanese_summary
    )
    place = Path(storage.folder) / "08_reporting" / "report.html"
    logger.info("the answer\n\n%s\n", closing_message(decision, report=place))
    return {
        "html": write_html(content, pictures),
        "markdown": write_markdown(content),
        "decision": [entry["shown"] for entry in methods.values()],
    }


def _configs(*configs: Any) -> dict[str, Any]:
    """Return method to its parameters, in the order of ``METHODS``."""
    return dict(zip(METHODS, configs, strict=True))


def _judge_method(
    method: str, config: Any, compare: CompareConfig, tables: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows of ``comparison.csv`` and the entry of ``decision.json`` of one method."""
    from relearn.reports.comparison import compare_method
    from relearn.reports.costs import add_money, cost_ratio, cost_table
    from relearn.reports.decision import decide
    from relearn.reports.summary import method_entry

    records, evidence = tables[f"{method}_records"], _evidence_of(method, config, tables)
    _require_fresh(method, records, config)
    comparisons = compare_method(records, method=method, evidence=evidence, config=compare)
    costs = cost_table(tables[f"{method}_costs"], method=method, baseline=evidence.baseline_arm)
    decision = decide(
        comparisons,
        evidence,
        cost_ratio=cost_ratio(costs, arm=evidence.treated_arm),
        gate=_plain(tables, f"{method}_diagnostics").get("gate", ""),
    )
    priced = add_money(costs, price_per_hour=compare.price_per_hour, currency=compare.currency)
    entry = method_entry(decision, evidence, comparisons=comparisons, costs=priced)
    return [comparison.as_row() for comparison in comparisons], entry


def _evidence_of(method: str, config: Any, tables: Mapping[str, Any]) -> EvidenceConfig:
    """Return what was said before the run, with arms that only the run could name.

    A study names its two arms in its recommendation, a rule names the baseline there.
    """
    evidence: EvidenceConfig = config.evidence
    told = _plain(tables, f"{method}_recommendation")
    study = told.get("study", "arms") != "arms"
    by_rule = BEST_ON_VALIDATION in (evidence.baseline_arm, evidence.treated_arm)
    if (not study and not by_rule) or tables[f"{method}_records"].empty:
        return evidence
    if "baseline_arm" not in told:
        raise StaleInputError(
            f"{method}.recommendation: does not name the arms, which {method}.evidence "
            f"(baseline_arm={evidence.baseline_arm}, treated_arm={evidence.treated_arm}) leaves to "
            "it; run "
            f"`kedro run --pipeline {method}` again (same --env and --params)"
        )
    arms = {"baseline_arm": told["baseline_arm"], "treated_arm": told["treated_arm"]}
    return evidence.model_copy(update={**arms, "sham_arm": ""} if study else arms)


def _require_records(tables: Mapping[str, Any]) -> None:
    if all(tables[f"{method}_records"].empty for method in METHODS):
        raise EvidenceError(
            f"compare: no method has records; run one first, such as "
            f"`kedro run --pipeline zap` (methods: {', '.join(METHODS)})"
        )


def _require_fresh(method: str, records: DataFrame, config: Any) -> None:
    """Refuse records that other parameters made, or thresholds changed after the run.

    Raises:
        StaleInputError: Naming the pipeline to run again.
    """
    made = records.attrs.get("provenance")
    if records.empty:
        return
    if made is None:
        raise StaleInputError(
            f"{method}.records: it is not said which parameters made them; "
            f"run `kedro run --pipeline {method}` again (same --env and --params)"
        )
    _provenance(made).require(config=digest(config))


def _provenance(made: Any) -> Provenance:
    return Provenance.from_json(made) if isinstance(made, str) else Provenance(**made)


def _digests(tables: Mapping[str, Any]) -> dict[str, str]:
    """Return which configuration and which inputs made the records of each method."""
    found: dict[str, str] = {}
    for method in METHODS:
        made = tables[f"{method}_records"].attrs.get("provenance")
        if made is not None:
            source = _provenance(made)
            found[f"{method} configuration"] = source.config
            found |= {f"{method} {name}": text for name, text in source.inputs.items()}
    return found


def _plain(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an optional JSON document; empty where it was not written."""
    found = tables.get(name) or {}
    return {} if found.get("missing") else found


def _part_of(method: str, entry: Mapping[str, Any], left: Mapping[str, Any]) -> Any:
    import pandas as pd

    from relearn.reports.document import MethodPart
    from relearn.reports.pictures import method_pictures

    changes = left.get(f"{method}_interventions")
    study = _plain(left, f"{method}_recommendation")
    # Without a study it asks the same as the decision, with fewer guards: one answer is enough.
    recommended = {} if study.get("study", "arms") == "arms" else study
    return MethodPart(
        pictures=method_pictures(
            method,
            left[f"{method}_records"],
            interventions=pd.DataFrame() if changes is None else changes,
            baseline=entry["baseline_arm"],
        ),
        diagnostics=_plain(left, f"{method}_diagnostics"),
        recommendation=recommended,
        ledger=_plain(left, f"{method}_ledger_check"),
    )
