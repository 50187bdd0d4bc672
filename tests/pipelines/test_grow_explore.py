"""Designs grown from one teacher and from one another, and the front of those worth having."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_grow import taught, tiny_base, tiny_config, tiny_stream

from relearn.errors import ParameterError
from relearn.methods.grow.explore import Design, factors_from, pareto_front, parts_of
from relearn.methods.grow.explore_config import GrowExploreConfig
from relearn.methods.grow.pair import samples_of
from relearn.models.checkpoint import build
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.pipelines.grow.teacher_store import load_teacher
from relearn.pipelines.grow_explore import nodes
from relearn.provenance import digest
from relearn.training.config import ExecutionConfig, PretrainConfig

ROOT = Path(__file__).resolve().parents[2]
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)
FEW = {"arms__scratch": False, "arms__random_pad": False, "arms__distilled": False}


def settings(**changes) -> GrowExploreConfig:
    text = (ROOT / "conf/base/parameters_grow_explore.yml").read_text(encoding="utf-8")
    small = {"parts": 2, "levels": 3, "trials": 12, "epochs": 1}
    return GrowExploreConfig(**{**yaml.safe_load(text)["grow_explore"], **small, **changes})


def search(folder: Path, **changes):
    text = (ROOT / "conf/base/parameters_pretrain.yml").read_text(encoding="utf-8")
    pretrain = PretrainConfig.model_validate(yaml.safe_load(text)["pretrain"])
    told = {"config": digest(pretrain), "stream": tiny_stream().digest}
    return nodes.search_designs(
        base=dataclasses.replace(tiny_base(), provenance=told),
        stream=tiny_stream(),
        grow=tiny_config(**FEW),
        grow_explore=settings(**changes),
        pretrain=pretrain,
        data=None,  # type: ignore[arg-type] # the tiny stream has no provenance
        seeds=SeedsConfig(first=0, count=1),
        execution=EXECUTION,
        storage=StorageConfig(folder=str(folder)),
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explore")
    return folder, search(folder)


def test_the_teacher_stands_first_and_every_design_names_what_it_grew_from(found):
    _, table = found
    assert table["parent"].tolist()[0] == ""
    assert set(table["parent"][1:]) <= set(table["design"])
    assert table["design"].is_unique
    assert table["on_front"].any()


def test_some_design_was_grown_from_another_and_not_from_the_teacher(found):
    _, table = found
    assert set(table["parent"][1:]) - {table["design"][0]}


def test_a_design_is_as_wide_as_its_name_says_whatever_it_grew_from(found):
    folder, table = found
    for name in table["design"][1:]:
        [place] = (folder / "06_models/grow_explore/designs").glob(f"{name}.seed0/*")
        net = build(load_teacher(place).checkpoint)
        levels = [int(n) for n in name.partition(".")[0].removeprefix("w").split("-")]
        widths = [net.hidden[0].out_features, net.hidden[2].out_features]
        assert widths == [round(6 * (1 + 0.5 * level)) for level in levels]


def test_the_same_search_again_trains_nothing_and_finds_the_same(found):
    folder, table = found
    again = search(folder)
    columns = ["design", "parent", "validation_accuracy", "forward_flops", "train_flops"]
    pd.testing.assert_frame_equal(again[columns], table[columns])


def test_the_budget_ends_the_search(tmp_path):
    table = search(tmp_path, budget=0.5, trials=20)
    assert len(table) <= 3


def test_the_front_is_drawn(found):
    assert nodes.draw_front(found[1]).axes


def test_more_parts_than_groups_are_refused():
    train = samples_of(tiny_stream(), tiny_config(), seed=0).train
    assert [len(part) for part in parts_of(taught(), train, 2)] == [1, 1]
    with pytest.raises(ParameterError, match=r"grow_explore\.parts"):
        parts_of(taught(), train, 3)


def test_a_design_grows_from_what_it_contains_only():
    wide, mixed = Design((2, 2)), Design((2, 0))
    assert wide.grows_from(mixed)
    assert not mixed.grows_from(wide)
    assert not wide.grows_from(wide)
    assert Design((2, 2), 1).grows_from(mixed)
    assert not Design((2, 2), 2).grows_from(Design((0, 0), 1))


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_factors_lead_to_the_same_width_by_any_road(one, two, three):
    low, middle, high = sorted((one, two, three))
    parts = [["a"]]

    def factor(parent: int, child: int) -> float:
        return factors_from(Design((parent,)), Design((child,)), parts, step=0.5).get("a", 1.0)

    assert factor(low, middle) * factor(middle, high) == pytest.approx(factor(low, high))


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9)


@given(POINTS)
def test_nothing_on_the_front_is_beaten_and_all_else_is(points):
    rows = [{"gain": g, "price": p} for g, p in points]
    front = pareto_front(rows, gain="gain", price="price")
    kept = torch.tensor([p for p, on in zip(points, front, strict=True) if on])
    for (gain, price), on in zip(points, front, strict=True):
        level = (kept[:, 0] >= gain) & (kept[:, 1] <= price)
        better = level & ((kept[:, 0] > gain) | (kept[:, 1] < price))
        assert bool(better.any()) != on
