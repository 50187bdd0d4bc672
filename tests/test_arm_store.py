"""The files of a unit: what is written comes back, and damage is told."""

from __future__ import annotations

import pytest
import torch
from tiny_zap import plain

from relearn.arm_store import (
    CHECKPOINT,
    interventions_of,
    load_rows,
    load_score,
    load_tensors,
    save_arm,
    save_score,
    tables_of,
)
from relearn.errors import CheckpointError
from relearn.models.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    for arm in ("iid", "iid_zap"):
        found[arm] = tmp_path_factory.mktemp(arm)
        save_arm(plain(arm), found[arm])
    return found


def test_what_is_written_comes_back(folders):
    result, folder = plain("iid_zap"), folders["iid_zap"]
    rows = load_rows(folder)
    assert rows["records"] == [r.as_row() for r in result.records]
    assert rows["costs"] == [r.as_row() for r in result.costs]
    assert rows["order_digest"] == result.order_digest
    assert interventions_of(rows) == result.interventions
    tensors = load_tensors(folder)
    for name, column in result.predictions.items():
        assert torch.equal(tensors[f"predictions.{name}"], column)
    for name, value in result.tensors.items():
        assert torch.equal(tensors[f"tensors.{name}"], value)
    assert load_checkpoint(folder / CHECKPOINT).digest == result.checkpoint.digest


def test_nothing_unfinished_is_left_beside_the_files(folders):
    names = sorted(path.name for path in folders["iid"].iterdir())
    assert names == [CHECKPOINT, "rows.json", "tensors.safetensors"]


def test_tables_add_up_the_units_in_order(folders):
    tables = tables_of([folders["iid"], folders["iid_zap"]])
    one, two = plain("iid"), plain("iid_zap")
    assert len(tables["records"]) == len(one.records) + len(two.records)
    assert tables["records"]["arm"].unique().tolist() == ["iid", "iid_zap"]
    assert tables["interventions"]["arm"].unique().tolist() == ["iid_zap"]
    assert tables["interventions"]["details"].map(type).eq(str).all()
    count = len(one.predictions["label"])
    assert len(tables["predictions"]) == 2 * count
    assert tables["predictions"]["index"].tolist() == [*range(count)] * 2


def test_a_ledger_without_rows_keeps_its_columns(folders):
    empty = tables_of([folders["iid"]])["interventions"]
    full = tables_of([folders["iid_zap"]])["interventions"]
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)


@pytest.mark.parametrize("damage", [b"", b'{"records": [', b"\xff\xfe"])
def test_damaged_rows_are_told(tmp_path, damage):
    save_arm(plain("iid"), tmp_path)
    (tmp_path / "rows.json").write_bytes(damage)
    with pytest.raises(CheckpointError, match=r"rows\.json: cannot be read .* delete the folder"):
        load_rows(tmp_path)


def test_missing_rows_and_damaged_tensors_are_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"rows\.json"):
        load_rows(tmp_path)
    save_arm(plain("iid"), tmp_path)
    whole = (tmp_path / "tensors.safetensors").read_bytes()
    for damage in (whole[: len(whole) // 2], b""):
        (tmp_path / "tensors.safetensors").write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"tensors\.safetensors: cannot be read"):
            load_tensors(tmp_path)


def test_a_damaged_checkpoint_is_told(tmp_path):
    path = save_arm(plain("iid"), tmp_path)
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("seconds", [1.5, {"train": 1.5, "total": 2.25}])
def test_a_score_comes_back_with_its_seconds(tmp_path, seconds):
    save_score(tmp_path, 0.625, seconds)

    assert load_score(tmp_path) == (0.625, seconds)
