"""The automatic choice: what may be searched, a study that survives kills, and a mere proposal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro_runs import PROJECT, run, runs_in
from pydantic import ValidationError
from tiny_forget_relearn import tiny_base, tiny_config, tiny_stream

from relearn.errors import ParameterError, TrainingError
from relearn.methods.forget_relearn.config import ForgetRelearnConfig
from relearn.methods.forget_relearn.search_config import ForgetRelearnSearchConfig
from relearn.methods.forget_relearn.search_space import (
    CHOICES,
    block_of,
    label_of,
    rounded,
    search_space,
    with_choice,
)
from relearn.pipelines.forget_relearn.units import TrainingJob, training_unit
from relearn.pipelines.forget_relearn_search import proposal, study, trial_unit
from relearn.pipelines.forget_relearn_search.proposal import propose
from relearn.pipelines.forget_relearn_search.study import SEARCH_SEEDS, search_table
from relearn.reports.search_figure import draw_search
from relearn.training.config import ExecutionConfig

CONF = PROJECT / "conf"
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)
_TINY = {
    "trials": 6,
    "random_trials": 3,
    "seeds": 2,
    "relearn_epochs": {"shortest": 1, "longest": 3},
    "warmup": {"smallest": 0.3, "largest": 0.5},
}


def told(**changes):
    text = (CONF / "base/parameters_forget_relearn_search.yml").read_text(encoding="utf-8")
    plain = yaml.safe_load(text)["forget_relearn_search"] | _TINY | changes
    return ForgetRelearnSearchConfig.model_validate(plain)


def job(**changes):
    config = tiny_config(**changes)
    stream = tiny_stream()
    return TrainingJob(tiny_base(), stream, config, "forget_relearn", 0, EXECUTION, None)


def score_of(config: ForgetRelearnConfig) -> float:
    """Return a made-up score with its best at share 0.1, relearning 3 and the head alone."""
    from math import log

    miss = abs(log(config.forget.fraction / 0.1)) / 10 + abs(config.cycle.relearn_epochs - 3) / 20
    return 0.6 - miss + (0.1 if config.forget.layers == "head" else 0.0)


@pytest.fixture
def made_up(monkeypatch):
    """Replace training by ``score_of``; the list holds (label, seed) of every unit that ran."""
    ran: list[tuple[str, int]] = []

    def run_trial(unit: TrainingJob, folder: Path) -> None:
        ran.append((unit.label, unit.seed))
        written = {"score": score_of(unit.config) + unit.seed % 10 / 1000, "seconds": {}}
        written["seconds"]["total_seconds"] = 10.0
        (folder / "score.json").write_text(json.dumps(written), encoding="utf-8")

    monkeypatch.setattr(trial_unit, "run_trial", run_trial)
    return ran


def table(folder: Path, first: TrainingJob | None = None, **changes):
    first, search = first or job(), told(**changes)
    return search_table(first, search, search_space(first.config, search), folder)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"trials": 1}, "got 1, expected 2 or more"),
        ({"seconds": 0.0}, "got 0, expected above 0"),
        ({"layers": "  "}, "layers: is empty"),
        ({"fraction": {"smallest": 0.5, "largest": 0.1}}, r"smallest: got 0\.5, expected at most"),
        ({"relearn_epochs": {"shortest": 4, "longest": 2}}, "shortest: got 4, expected at most"),
        ({"warmup": {"smallest": 0.5, "largest": 0.4}}, r"smallest: got 0\.5, expected at most"),
        ({"trigger": dict.fromkeys(("interval", "plateau", "robust_gap"), False)}, "none is"),
    ],
)
def test_what_leaves_nothing_to_try_is_refused_in_one_line(changes, line):
    with pytest.raises(ValidationError, match=line) as caught:
        told(**changes)
    assert caught.value.error_count() == 1


def test_a_search_with_one_value_for_each_choice_is_refused():
    with pytest.raises(ValidationError, match="nothing is left to search"):
        told(
            layers="head",
            fraction={"smallest": 0.1, "largest": 0.1},
            relearn_epochs={"shortest": 2, "longest": 2},
            warmup={"smallest": 0.4, "largest": 0.4},
            trigger={"interval": True, "plateau": False, "robust_gap": False},
        )


@pytest.mark.parametrize(
    ("present", "changes", "line"),
    [
        ({}, {"fraction": {"smallest": 0.2, "largest": 0.5}}, r"fraction: .*0\.2 to 0\.5.*=0\.1"),
        ({}, {"layers": "head late"}, r"layers: .*forget\.layers=late\+head"),
        ({"cycle__trigger": "list", "cycle__at_epochs": "2"}, {}, r"trigger: .*trigger=list"),
        ({}, {"warmup": {"smallest": 0.5, "largest": 0.5}}, r"warmup: .*warmup_epochs=2"),
        ({"forget__fractions__head": 0.3}, {}, r"fractions\.head: got 0\.3, expected null"),
        ({}, {"relearn_epochs": {"shortest": 1, "longest": 5}}, r"warmup\.largest: .*epochs=6"),
    ],
)
def test_the_present_setting_must_lie_inside_what_is_searched(present, changes, line):
    with pytest.raises(ParameterError, match=line):
        search_space(tiny_config(**present), told(**changes))


def test_every_corner_of_the_space_is_a_valid_configuration():
    config, search = tiny_config(), told()
    space = search_space(config, search)
    for layers in space.layers:
        for trigger in space.trigger:
            for place in (0, 1):
                numbers = {
                    name: getattr(space, name)[place]
                    for name in ("fraction", "relearn_epochs", "warmup_epochs")
                }
                made = with_choice(config, {"layers": layers, "trigger": trigger, **numbers})
                ForgetRelearnConfig.model_validate(made.model_dump())
                assert made.forget.layers == layers
                assert made.cycle.relearn_epochs == numbers["relearn_epochs"]


def test_the_present_choice_trains_as_the_method_would():
    first = job(cycle__every_epochs=3)
    space = search_space(first.config, told())
    same = with_choice(first.config, space.present)
    assert same.cycle == first.config.cycle
    assert same.forget == first.config.forget
    # the address is that of the method's own training: other arms do not count
    mine = TrainingJob(first.base, first.stream, same, "forget_relearn", 0, EXECUTION, None)
    assert training_unit(mine).address == training_unit(first).address


def test_the_pause_and_the_consolidated_share_of_relearning_are_kept():
    config = tiny_config(train__epochs=12, cycle__every_epochs=3)
    space = search_space(tiny_config(), told()).present
    block = block_of(config, {**space, "relearn_epochs": 4})
    assert block["cycle"]["every_epochs"] - block["cycle"]["relearn_epochs"] == 1
    assert block["cycle"]["consolidate_epochs"] == 2


def test_labels_tell_choices_apart_and_can_name_a_folder():
    present = search_space(tiny_config(), told()).present
    one, other = (
        rounded({**present, "fraction": 0.123456}),
        rounded({**present, "fraction": 0.1235}),
    )
    assert one == other
    assert label_of(one) == "late-head.share0.1235.relearn2.warmup2.interval"


def test_the_present_setting_is_the_first_trial_and_better_ones_are_found(made_up, tmp_path):
    found = table(tmp_path, trials=20, prune=False)
    assert list(found.columns) == list(study.COLUMNS)
    assert found["number"].tolist() == list(range(20))
    assert found["present"].tolist() == [True] + [False] * 19
    assert found["score"][0] == pytest.approx(score_of(tiny_config()) + 0.0005)
    assert found["score"].max() > found["score"][0] + 0.03
    assert {seed for _, seed in made_up} == {SEARCH_SEEDS, SEARCH_SEEDS + 1}
    assert found["seconds"].tolist() == [20.0] * 20


def test_one_seed_gives_one_study_on_any_number_of_workers(made_up, tmp_path):
    one, two = (table(tmp_path / name) for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two)
    other = table(tmp_path / "other", seed=1)
    assert other["fraction"].tolist() != one["fraction"].tolist()


@pytest.mark.parametrize("kill_at", [1, 2, 5, 8])
def test_a_killed_study_goes_on_as_if_it_had_not_been(kill_at, made_up, tmp_path, monkeypatch):
    whole = table(tmp_path / "whole")
    units = len(made_up)
    made_up.clear()
    calm = trial_unit.run_trial

    def killed(unit, folder):
        if len(made_up) == kill_at:
            raise KeyboardInterrupt
        calm(unit, folder)

    monkeypatch.setattr(trial_unit, "run_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        table(tmp_path / "cut")
    monkeypatch.setattr(trial_unit, "run_trial", calm)

    resumed = table(tmp_path / "cut")

    pd.testing.assert_frame_equal(resumed, whole)
    assert len(made_up) == units  # nothing finished was trained again


def test_a_finished_study_trains_nothing_and_a_larger_budget_goes_on(made_up, tmp_path):
    first = table(tmp_path)
    trained = len(made_up)
    again, more = table(tmp_path), table(tmp_path, trials=8)
    pd.testing.assert_frame_equal(again, first)
    pd.testing.assert_frame_equal(more.head(6), first)
    assert len(more) == 8
    assert len(made_up) > trained


def test_other_knobs_begin_another_study(made_up, tmp_path):
    table(tmp_path, trials=2)
    table(tmp_path, job(attack__steps=3), trials=2)
    assert len(list(tmp_path.glob("study-*.jsonl"))) == 2


def test_spent_seconds_end_the_study(made_up, tmp_path):
    found = table(tmp_path, trials=20, seconds=35.0, prune=False)
    assert len(found) == 2  # two trials of two seeds of ten seconds each are drawn together
    assert (
        propose(found, job().config, told(), search_space(job().config, told()))["stopped_by"]
        == "seconds"
    )


def test_what_lies_below_the_median_gets_no_further_seed(made_up, tmp_path):
    found = table(tmp_path, trials=14)
    pruned = found[found["state"] == "pruned"]
    assert len(pruned) > 0
    assert (pruned["seeds"] == 1).all()
    assert (found[found["state"] == "complete"]["seeds"] == 2).all()
    first = found["scores"].map(lambda text: float(text.split()[0]))
    for number in pruned["number"]:
        before = (found["number"] < number) & (found["state"] == "complete")
        assert first[number] < first[before].median()


def test_a_setting_that_fails_is_told_and_the_study_goes_on(made_up, tmp_path, monkeypatch):
    calm = trial_unit.run_trial

    def fragile(unit, folder):
        if unit.config.forget.layers == "head":
            raise TrainingError("the loss became nan")
        calm(unit, folder)

    monkeypatch.setattr(trial_unit, "run_trial", fragile)
    found = table(tmp_path, trials=12, prune=False)
    failed = found[found["state"] == "fail"]
    assert set(failed["layers"]) == {"head"}
    assert set(failed["reason"]) == {"the loss became nan"}
    assert failed["score"].isna().all()
    assert len(found) == 12


def test_the_present_setting_must_train(made_up, tmp_path, monkeypatch):
    def broken(unit, folder):
        raise TrainingError("the loss became nan")

    monkeypatch.setattr(trial_unit, "run_trial", broken)
    with pytest.raises(TrainingError, match="the present setting fails"):
        table(tmp_path)


def test_the_proposal_can_be_pasted_and_says_that_it_must_be_confirmed(made_up, tmp_path):
    first, search = job(), told(trials=20, prune=False)
    found = search_table(first, search, search_space(first.config, search), tmp_path)
    made = propose(found, first.config, search, search_space(first.config, search))

    pasted = yaml.safe_load(made["yaml"])["forget_relearn"]
    plain = first.config.model_dump()
    for block, values in pasted.items():
        plain[block] |= values
    config = ForgetRelearnConfig.model_validate(plain)
    # the scores of the two seeds are 0 and 0.001 above the made-up one
    assert score_of(config) == pytest.approx(found["score"].max() - 0.0005)
    assert made["gain"] == pytest.approx(found["score"].max() - found["score"][0])
    assert made["applied"] is False
    assert "fresh seeds" in made["warning"]
    assert made["present"]["trial"] == 0
    assert made["trials"] == 20
    assert made["seconds"] == 400.0
    assert sum(made["importance"].values()) == pytest.approx(1.0)
    # the made-up score knows nothing of the warm-up and the trigger
    least = sorted(made["importance"], key=made["importance"].get)[:3]
    assert {"warmup_epochs", "trigger"} <= set(least)
    json.dumps(made)


def test_equal_scores_keep_the_present_setting_and_tell_no_importance():
    config, search = tiny_config(), told(trials=2)
    space = search_space(config, search)
    rows = [
        {"number": k, "state": "complete", "present": k == 0, "score": 0.5, "scores": "0.5"}
        | {"seeds": 1, "seconds": 1.0, **space.present, "fraction": 0.1 * (k + 1), "reason": ""}
        for k in range(2)
    ]
    made = proposal.propose(pd.DataFrame(rows), config, search, space)
    assert made["keeps_present"]
    assert made["gain"] == 0.0
    assert made["importance"] == {}


def test_the_figure_shows_every_scored_trial_in_every_panel(made_up, tmp_path):
    found = table(tmp_path, trials=12)
    figure = draw_search(found, choices=CHOICES)
    drawn = [axis for axis in figure.axes if axis.collections]
    assert len(drawn) == 1 + len(CHOICES)
    for axis in drawn:
        assert sum(len(points.get_offsets()) for points in axis.collections) == 12


def test_no_other_pipeline_reads_the_proposal():
    from relearn.pipeline_registry import register_pipelines

    for name, pipeline in register_pipelines().items():
        assert "forget_relearn_search.proposal" not in pipeline.inputs() | (
            pipeline.all_inputs() if name != "forget_relearn_search" else set()
        )


def test_the_search_of_the_test_profile_runs_and_leaves_the_parameters_alone(storage):
    before = {path: path.read_bytes() for path in CONF.rglob("*.yml")}

    run("prepare_data", "pretrain")
    few = {f"forget_relearn__samples__{name}_images": 48 for name in ("train", "validation")}
    run("forget_relearn_search", **few)

    assert {path: path.read_bytes() for path in CONF.rglob("*.yml")} == before
    folder = storage / "test" / "08_reporting" / "forget_relearn_search"
    made = json.loads((folder / "proposal.json").read_text(encoding="utf-8"))
    trials = pd.read_csv(folder / "trials.csv")
    assert made["trials"] == len(trials) == 3
    assert (folder / "scores.png").stat().st_size > 1000
    children = [
        r for r in runs_in(storage) if r.data.tags.get("relearn.arm", "").startswith("search.")
    ]
    assert len(children) == 3
    assert all("search_score" in child.data.metrics for child in children)


def test_the_pipeline_module_imports_neither_torch_nor_optuna():
    import subprocess

    code = (
        "import sys, relearn.pipelines.forget_relearn_search,"
        "relearn.methods.forget_relearn.search_config;"
        "print([m for m in ('torch', 'pandas', 'mlflow', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
