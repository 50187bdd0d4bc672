"""The page about architectures tells what happens when they are grown."""

from __future__ import annotations

import json

import pytest
import torch
from compatibility_page import (
    ARCHITECTURES,
    PAGE,
    Architecture,
    grown,
    inexact,
    measure,
    mostly,
    page_of,
    read,
)
from grow_nets import classifier, images

ENTRIES = {entry["name"]: entry for entry in read()}
SMALL = ("squeezenet1_1", "mnasnet1_0", "ghostnet_100")
FEW = [a for a in ARCHITECTURES if a.name in SMALL]
MEASURED = ("seconds", "float64", "float32", "rounding")


def same(architecture: Architecture) -> None:
    found = measure(architecture)

    assert inexact(found) == []
    assert _told(found) == _told(ENTRIES[architecture.name])


def _told(entry: dict) -> dict:
    """Return what does not depend on the machine, without the lines of installed libraries."""
    growths = [{k: v for k, v in g.items() if k not in MEASURED} for g in entry["growths"]]
    for growth in growths:
        growth["refusals"] = [[g, w.split(" at ")[0]] for g, w, _ in growth["refusals"]]
    return json.loads(json.dumps({**entry, "growths": growths}))


def test_the_page_is_what_its_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_of(read())
    assert list(ENTRIES) == [a.name for a in ARCHITECTURES]


def test_every_architecture_is_exact_or_refused_and_most_of_them_grow_in_most_groups() -> None:
    assert len(ENTRIES) >= 25
    assert [name for name, entry in ENTRIES.items() if inexact(entry)] == []
    assert sum(mostly(entry) for entry in ENTRIES.values()) >= 20


def test_a_row_that_is_not_exact_is_told_and_a_refusal_is_not_growth() -> None:
    row = ENTRIES["resnet18"]["growths"][0]
    wrong = {**row, "float64": float("nan")}

    assert inexact({"growths": [row, wrong]}) == [row["factor"]]
    assert inexact({"growths": [{**row, "rounding": 5.0}]}) == [row["factor"]]
    assert not mostly({"growths": [{"factor": 2.0, "refused": "no"}]})
    assert not mostly({"growths": [{**row, "grown": row["groups"] // 2}]})


def test_a_growth_is_told_with_every_refusal() -> None:
    net = torch.nn.Sequential(*classifier(), torch.nn.Softmax(1), torch.nn.Linear(3, 2))

    told = grown(net, images().float(), 2.0)

    assert told["groups"] == told["grown"] + len(told["refusals"])
    assert told["parameters"][1] > told["parameters"][0]
    assert {reason.split(" ")[0] for _, _, reason in told["refusals"]} == {"softmax", "is"}
    assert told["float64"] <= 1e-12


@pytest.mark.parametrize("architecture", FEW, ids=lambda a: a.name)
def test_small_architectures_grow_as_the_page_says(architecture: Architecture) -> None:
    same(architecture)


@pytest.mark.full
@pytest.mark.parametrize(
    "architecture", [a for a in ARCHITECTURES if a not in FEW], ids=lambda a: a.name
)
def test_architectures_grow_as_the_page_says(architecture: Architecture) -> None:
    same(architecture)


def test_statistics_and_weights_are_no_fresh_ones() -> None:
    teacher = FEW[0].build()
    rest = [p for p in teacher.parameters() if bool((p == p.flatten()[0]).all())]

    assert rest == []
    assert all(not bool((b == b.flatten()[0]).all()) for b in teacher.buffers() if b.ndim)
