"""The page about architectures tells what happens when they are grown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import compatibility_page
import pytest
import torch
from compatibility_page import (
    ARCHITECTURES,
    PAGE,
    TABLE,
    Architecture,
    grown,
    inexact,
    keep,
    measure,
    mostly,
    page_of,
    read,
)
from grow_nets import classifier, images

from relearn.methods.grow import apply

ENTRIES = {entry["name"]: entry for entry in read()}
SMALL = ("squeezenet1_1", "mnasnet1_0", "ghostnet_100")
FEW = [a for a in ARCHITECTURES if a.name in SMALL]
MEASURED = ("seconds", "float64", "float32", "rounding")


def same(found: dict) -> None:
    assert inexact(found) == []
    assert _told(found) == _told(ENTRIES[found["name"]])


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
    same(measure(architecture))


@pytest.mark.full
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_every_architecture_grows_as_the_page_says(
    architecture: Architecture, rewrite_pages: bool
) -> None:
    found = measure(architecture)

    if rewrite_pages:
        keep(found)
    else:
        same(found)


def test_an_architecture_that_is_no_longer_exact_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(net: torch.nn.Module, planned: Any, *, seed: int) -> Any:
        student, record = apply(net, planned, seed=seed)
        norm = next(m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d))
        norm.running_var[-1] *= 1.01
        return student, record

    monkeypatch.setattr(compatibility_page, "apply", forgetful)
    before = TABLE.read_bytes(), PAGE.read_bytes()
    found = measure(next(a for a in FEW if a.name == "mnasnet1_0"))

    assert inexact(found) == [1.5]
    with pytest.raises(AssertionError):
        same(found)
    with pytest.raises(ValueError, match="mnasnet1_0: was not grown exactly"):
        keep(found)
    assert (TABLE.read_bytes(), PAGE.read_bytes()) == before


def test_a_group_that_no_longer_grows_fails() -> None:
    entry = json.loads(json.dumps(ENTRIES["resnet18"]))
    entry["growths"][0]["grown"] -= 1

    with pytest.raises(AssertionError):
        same(entry)


def test_a_row_that_is_kept_is_in_the_table_and_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compatibility_page, "TABLE", tmp_path / "table.json")
    monkeypatch.setattr(compatibility_page, "PAGE", tmp_path / "page.md")

    for name in ("resnet50", "resnet18"):
        keep(ENTRIES[name])

    assert read() == [ENTRIES["resnet18"], ENTRIES["resnet50"]]
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page_of(read())


def test_statistics_and_weights_are_no_fresh_ones() -> None:
    teacher = FEW[0].build()
    rest = [p for p in teacher.parameters() if bool((p == p.flatten()[0]).all())]

    assert rest == []
    assert all(not bool((b == b.flatten()[0]).all()) for b in teacher.buffers() if b.ndim)
