"""The map of zapping: what each condition sees, what it costs, and what is written about it."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from pydantic import ValidationError
from tiny_zap import tiny_base, tiny_config, tiny_stream

from relearn.data.images import Split, Stream
from relearn.errors import ParameterError
from relearn.methods.zap import map_stream
from relearn.methods.zap.map_config import ZapMapConfig
from relearn.methods.zap.map_stream import Condition, conditions, config_of, reduced_stream
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.pipelines.zap.units import Job, unit_of
from relearn.pipelines.zap_map import cells, nodes
from relearn.reports.map_figure import draw_map
from relearn.training.config import ExecutionConfig

CONF = Path(__file__).parents[2] / "conf"
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)
LARGE = Condition("many", "many", "random")


def sizes(**changes):
    text = (CONF / "base/parameters_zap_map.yml").read_text(encoding="utf-8")
    tiny = {"classes": {"few": 3, "many": 5}, "images": {"few": 2, "many": 6}, "steps": 8}
    return ZapMapConfig.model_validate(yaml.safe_load(text)["zap_map"] | tiny | changes)


def condition(text):
    return Condition(*text.split())


def first_job(**changes):
    return Job(tiny_base(), tiny_stream(), tiny_config(**changes), "iid", 0, EXECUTION, None)


@pytest.mark.parametrize("cell", conditions(), ids=lambda c: c.name)
def test_a_condition_has_its_classes_and_images_and_the_same_unseen_classes(cell):
    whole, small = tiny_stream(), reduced_stream(tiny_stream(), cell, sizes(), seed=3)
    counts = torch.bincount(small.split("train").labels)
    assert set(counts.tolist()) == {0, {"few": 2, "many": 6}[cell.images]}
    assert (counts > 0).sum() == {"few": 3, "many": 5}[cell.classes]
    assert set(small.split("validation").labels.tolist()) == set(
        small.split("train").labels.tolist()
    )
    for name in ("selection_support", "selection_query", "transfer_support", "transfer_query"):
        assert small.split(name) is whole.split(name)


def test_a_smaller_condition_is_part_of_the_larger_one():
    def pixels(cell):
        split = reduced_stream(tiny_stream(), condition(cell), sizes(), seed=1).split("train")
        return {bytes(image.numpy().tobytes()) for image in split.images}

    for kind in ("random", "alike"):
        assert pixels(f"few few {kind}") < pixels(f"few many {kind}")
        assert pixels(f"few few {kind}") < pixels(f"many few {kind}")
        assert pixels(f"many few {kind}") < pixels(f"many many {kind}")


def test_alike_classes_are_the_ones_nearest_to_the_anchor_by_brute_force():
    split = tiny_stream().split("train")
    for seed in range(4):
        chosen = map_stream.alike_classes(split, 3, seed=seed)
        means = {int(c): split.images[split.labels == c].float().mean(0) for c in split.classes}
        anchor = means[int(chosen[0])]
        order = sorted(means, key=lambda c: float((means[c] - anchor).square().sum()))
        assert chosen.tolist() == order[:3]


def test_the_distance_of_classes_is_in_grey_levels_over_all_pairs():
    flat = torch.tensor([10, 40, 50], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    split = Split(flat.clone(), torch.tensor([7, 8, 9]))
    by_hand = (sum((a - b) ** 2 for a, b in combinations((10, 40, 50), 2)) / 3) ** 0.5
    assert map_stream.class_distance(split, split.classes) == pytest.approx(by_hand)


def test_alike_classes_lie_nearer_to_each_other_than_random_ones():
    grey = torch.arange(0, 240, 20, dtype=torch.uint8)
    images = grey.repeat_interleave(2).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()
    split = Split(images, torch.arange(12).repeat_interleave(2))
    found = {
        choose: sum(
            map_stream.class_distance(split, choose(split, 4, seed=seed)) for seed in range(6)
        )
        for choose in (map_stream.alike_classes, map_stream.random_classes)
    }
    assert found[map_stream.alike_classes] < found[map_stream.random_classes]


def test_every_condition_trains_as_many_steps_as_whole_epochs_allow():
    job, told = first_job(train__batch_size=4), sizes(steps=40)
    for cell in cells.cells_of(job, told, [0]):
        facts = cell.facts(job.stream)
        one_epoch = facts["steps"] // facts["epochs"]
        assert abs(facts["steps"] - 40) <= one_epoch / 2
        assert facts["epochs"] >= 2


def test_a_large_condition_keeps_two_epochs_so_that_a_reset_can_happen():
    assert config_of(tiny_config(), sizes(steps=2), 6000).train.epochs == 2


def test_policy_resets_stay_and_matched_ones_fall_as_in_the_largest_condition():
    config = tiny_config(train__batch_size=4)
    assert config_of(config, sizes(), 6).policy == config.policy
    matched = config_of(config, sizes(resets="matched"), 6).policy
    # the largest condition has 5 classes x 6 images in batches of 4
    assert (matched.unit, matched.every) == ("steps", 8 * config.policy.every)


def test_units_of_different_data_have_different_addresses():
    found = set()
    for cell in cells.cells_of(first_job(), sizes(), [0]):
        found.add(unit_of(cell.of_arm("iid", 0)).address["data"])
    assert len(found) == len(conditions())


@pytest.mark.parametrize(
    ("changes", "told", "names"),
    [
        ({}, {"classes": {"few": 2, "many": 60}}, r"zap_map\.classes\.many: got 60.*has 6 base"),
        ({}, {"images": {"few": 1, "many": 9}}, r"zap_map\.images\.many: got 9.*only 8 training"),
        ({"start_from": "base"}, {}, r"zap\.start_from: base"),
        ({"compare": "frequency"}, {}, r"zap\.compare: got frequency"),
        ({"train__warmup_epochs": 1.0}, {}, r"zap\.train\.warmup_epochs"),
        ({"policy__trigger": "plateau"}, {"resets": "matched"}, r"zap_map\.resets: matched"),
    ],
)
def test_what_cannot_be_mapped_is_refused_by_the_parameters_name(changes, told, names):
    with pytest.raises(ParameterError, match=names):
        list(cells.cells_of(first_job(**changes), sizes(**told), [0]))


def test_few_must_be_less_than_many():
    with pytest.raises(ValidationError, match="expected less than many=5"):
        sizes(classes={"few": 5, "many": 5})


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    given = {"base": tiny_base(), "stream": tiny_stream(), "zap": tiny_config(), "zap_map": sizes()}
    place = {
        "execution": EXECUTION,
        "storage": StorageConfig(folder=str(tmp_path_factory.mktemp("map"))),
    }
    with pytest.MonkeyPatch.context() as patch:
        # whether base and stream are the present ones is the law of another test
        patch.setattr("relearn.training.present.require_present", lambda *_, **__: None)
        plan = nodes.plan_conditions(
            **given, pretrain=None, data=None, seeds=SeedsConfig(first=0, count=2)
        )
    selection = nodes.choose_shifts(**given, **place, plan=plan)
    return nodes.train_conditions(**given, **place, plan=plan, selection=selection)


def test_the_map_has_a_row_for_each_condition_and_metric_from_paired_records(units):
    zap = tiny_config()
    records = nodes.collect_records(units, zap, sizes())
    table = nodes.tabulate(units, records, zap)
    assert len(units) == len(conditions()) * 2 * 2
    assert len(table) == len(conditions()) * 2
    assert table["verified"].all()
    assert (table["resets"] > 0).all()
    row = table[(table["metric"] == "few_shot.accuracy")].iloc[0]
    mine = records[
        (records["classes"] == row["classes"])
        & (records["images"] == row["images"])
        & (records["similarity"] == row["similarity"])
        & (records["task"] == "few_shot")
        & (records["metric"] == "accuracy")
    ]
    last = mine.loc[mine.groupby(["arm", "seed"])["step"].idxmax()].set_index(["arm", "seed"])
    by_hand = last["value"]["iid_zap"] - last["value"]["iid"]
    assert row["difference"] == pytest.approx(100 * by_hand.mean())
    assert row["low"] <= row["difference"] <= row["high"]
    found = nodes.diagnose(records, table, zap)
    assert len(found) == len(conditions())
    assert not any("no reset happened" in line for lines in found.values() for line in lines)
    without = nodes.diagnose(records, table.assign(resets=0.0), zap)
    assert all("no reset happened" in lines[0] for lines in without.values())
    figure = nodes.draw_figure(table, zap)
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert sum(text.startswith(f"{row['difference']:+.1f}") for text in texts) >= 1
    assert sum("[" in text for text in texts) == len(table)


def test_shifts_compete_for_both_arms_of_every_condition(monkeypatch, tmp_path):
    seen = []

    def score(jobs, folder):
        seen.extend(jobs)
        return [float(j.config.train.shift_pixels * (j.arm == "iid_zap")) for j in jobs]

    monkeypatch.setattr(cells, "_scores", score)
    first = first_job(tuning__shift_pixels=2)
    table = cells.score_shifts(first, sizes(tune_shift=True), tmp_path)
    taken = table[table["chosen"]]
    assert len(taken) == len(conditions()) * 2
    assert set(taken[taken["arm"] == "iid"]["shift_pixels"]) == {0}
    assert set(taken[taken["arm"] == "iid_zap"]["shift_pixels"]) == {2}
    assert len(seen) == len({unit_of(job).key for job in seen}) == len(conditions()) * 2 * 2
    assert all(job.scoring and job.seed >= 10_000 for job in seen)


def test_one_pair_has_no_interval_in_its_cell():
    row = {"metric": "few_shot.accuracy", "n": 1, "difference": 2.0, "low": None, "high": None}
    kinds = [(c.classes, c.images, c.similarity) for c in conditions()]
    names = ("classes", "images", "similarity")
    rows = [dict(zip(names, k, strict=True)) | row for k in kinds]
    table = pd.DataFrame(rows).assign(base_classes=3, images_per_class=2)
    texts = [
        t.get_text() for t in draw_map(table, title="a minus b", confidence=0.95).axes[0].texts
    ]
    assert texts == ["+2.0"] * len(kinds)


def test_a_stream_without_test_split_keeps_its_splits():
    whole = tiny_stream()
    small = reduced_stream(whole, LARGE, sizes(), seed=0)
    assert isinstance(small, Stream)
    assert set(small.splits) == set(whole.splits)


def test_the_pipeline_module_imports_neither_torch_nor_pandas():
    import subprocess

    code = (
        "import sys, relearn.pipelines.zap_map, relearn.methods.zap.map_config;"
        "print([m for m in ('torch', 'pandas', 'mlflow', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
