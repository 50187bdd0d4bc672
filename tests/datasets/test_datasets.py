"""Files of the road: what is saved comes back, what is damaged is refused with the remedy."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
from kedro.io import DatasetError
from matplotlib.figure import Figure

from relearn.data.images import LabelledImages, Refused, Split, Stream
from relearn.datasets import (
    CheckpointDataset,
    FigureDataset,
    ImagesDataset,
    JsonDataset,
    ReportDataset,
    StreamDataset,
    TableDataset,
)
from relearn.errors import DataError, RelearnError
from relearn.models.checkpoint import Architecture, build_fresh, capture
from relearn.provenance import Provenance

MADE = Provenance("images", "prepare_data", config="c" * 64, inputs={"raw": "r"}, content="x")
TOLD = {"made_by": "prepare_data"}


def labelled_images():
    torch.manual_seed(1)
    return LabelledImages(
        images=torch.randint(0, 256, (6, 1, 5, 5), dtype=torch.uint8),
        labels=torch.tensor([0, 0, 1, 1, 2, 2]),
        class_names=("ä", "b", "c"),
        part=torch.tensor([0, 1, 0, 1, 0, 1]),
        part_names=("one", "two"),
        refused=(Refused("x.png", "truncated"),),
        provenance=MADE,
    )


def stream():
    images = labelled_images()
    half = Split(images.images[::2], images.labels[::2])
    other = Split(images.images[1::2], images.labels[1::2])
    return Stream(
        {"train": half, "test": other}, images.class_names, torch.tensor([0, 1, -1]), MADE
    )


def checkpoint():
    architecture = Architecture("mlp", 1, 5, 3, {"width": 4, "depth": 1}, (0.4,), (0.3,))
    return capture(build_fresh(architecture, seed=0), architecture, {"config": "abc"})


def root_of(error):
    """Return the error of ours that Kedro has wrapped."""
    found = error
    while found is not None and not isinstance(found, RelearnError):
        found = found.__cause__
    return found


CASES = {
    "images": (ImagesDataset, labelled_images),
    "stream": (StreamDataset, stream),
    "checkpoint": (CheckpointDataset, checkpoint),
}
every_tensor_file = pytest.mark.parametrize("kind", CASES)


def made(kind, tmp_path):
    dataset_class, make = CASES[kind]
    return dataset_class(filepath=str(tmp_path / f"{kind}.safetensors"), metadata=TOLD), make()


@every_tensor_file
def test_tensor_files_come_back_with_equal_digest(kind, tmp_path):
    dataset, value = made(kind, tmp_path)
    dataset.save(value)
    back = dataset.load()
    assert back.digest == value.digest
    assert back.provenance == value.provenance


def test_names_parts_and_refusals_come_back(tmp_path):
    dataset, value = made("images", tmp_path)
    dataset.save(value)
    back = dataset.load()
    assert (back.class_names, back.part_names) == (value.class_names, value.part_names)
    assert back.refused == value.refused


def test_splits_of_a_stream_keep_their_order(tmp_path):
    dataset, value = made("stream", tmp_path)
    dataset.save(value)
    assert list(dataset.load().splits) == ["train", "test"]


@every_tensor_file
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_file_is_refused_with_the_pipeline_to_run_again(kind, damage, tmp_path):
    dataset, value = made(kind, tmp_path)
    dataset.save(value)
    data = bytearray(dataset.path.read_bytes())
    if damage == "flip":
        data[-3] ^= 1
    changed = {"flip": data, "cut": data[:-5], "empty": b"", "other": b"not a file of ours"}[damage]
    dataset.path.write_bytes(bytes(changed))
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    line = str(root_of(caught.value))
    assert str(dataset.path) in line
    assert "kedro run --pipeline prepare_data` again" in line
    assert "\n" not in line


def test_a_stream_is_not_taken_for_images(tmp_path):
    dataset, value = made("stream", tmp_path)
    dataset.save(value)
    with pytest.raises(DatasetError, match="expected images"):
        ImagesDataset(filepath=str(dataset.path), metadata=TOLD).load()


def test_a_missing_file_names_the_pipeline_to_run_first(tmp_path):
    dataset, _ = made("images", tmp_path)
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert "run `kedro run --pipeline prepare_data` first" in str(root_of(caught.value))


class Exploding:
    """Fails while it is being written."""

    def __init__(self, error):
        self.error = error

    def to_csv(self, path, **_):
        path.write_text("half")
        raise self.error


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_half_written(error, tmp_path):
    dataset = TableDataset(filepath=str(tmp_path / "t.csv"))
    dataset.save(pd.DataFrame({"a": [1]}))
    broken = Exploding(error)
    dataset._write = lambda data, path: broken.to_csv(path)  # the wrapper around it is tested
    with pytest.raises((DatasetError, KeyboardInterrupt)):
        dataset.save(pd.DataFrame({"a": [2]}))
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "a\n1\n"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_and_their_provenance_come_back(ending, tmp_path):
    table = pd.DataFrame({"index": [3, 1], "class": ["ä", "NA"], "value": [0.1, float("nan")]})
    table.attrs["provenance"] = MADE.to_json()
    dataset = TableDataset(filepath=str(tmp_path / f"t.{ending}"))
    dataset.save(table)
    back = dataset.load()
    pd.testing.assert_frame_equal(back, table, check_dtype=ending == "parquet")
    assert Provenance.from_json(back.attrs["provenance"]) == MADE


def test_a_table_written_again_without_provenance_does_not_keep_the_old_one(tmp_path):
    dataset = TableDataset(filepath=str(tmp_path / "t.csv"))
    table = pd.DataFrame({"a": [1]})
    table.attrs["provenance"] = MADE.to_json()
    dataset.save(table)
    dataset.save(pd.DataFrame({"a": [1]}))
    assert dataset.load().attrs == {}


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    for ending in ("csv", "parquet"):
        dataset = TableDataset(filepath=str(tmp_path / f"t.{ending}"))
        dataset.save(pd.DataFrame({"a": [], "b": []}))
        assert list(dataset.load().columns) == ["a", "b"]


def test_only_an_optional_file_may_be_missing(tmp_path):
    table = TableDataset(filepath=str(tmp_path / "t.parquet"), optional=True).load()
    assert table.empty
    assert table.attrs["missing"] is True
    assert JsonDataset(filepath=str(tmp_path / "d.json"), optional=True).load() == {"missing": True}
    with pytest.raises(DatasetError):
        TableDataset(filepath=str(tmp_path / "t.parquet")).load()


def test_another_ending_than_csv_or_parquet_is_refused():
    with pytest.raises(DataError, match=r"\.csv or \.parquet"):
        TableDataset(filepath="t.xlsx")


def test_json_refuses_what_json_does_not_know(tmp_path):
    dataset = JsonDataset(filepath=str(tmp_path / "d.json"))
    dataset.save({"b": [1, "ä"], "a": None})
    assert dataset.load() == {"b": [1, "ä"], "a": None}
    with pytest.raises(DatasetError):
        dataset.save({"a": float("nan")})
    assert dataset.load() == {"b": [1, "ä"], "a": None}


def figure():
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([0, 1])
    return drawn


def test_equal_figures_are_equal_bytes_and_load_as_png(tmp_path):
    one, two = (FigureDataset(filepath=str(tmp_path / n)) for n in ("1.png", "2.png"))
    one.save(figure())
    two.save(figure())
    assert one.load() == two.load()
    assert one.load().startswith(b"\x89PNG")


def test_a_report_stands_whole_with_its_companions(tmp_path):
    dataset = ReportDataset(filepath=str(tmp_path / "report.html"))
    parts = {"html": "<p>ä</p>", "markdown": "ä", "decision": [{"method": "zap", "verdict": "x"}]}
    dataset.save(parts)
    assert dataset.load() == parts
    assert all(path.exists() for path in dataset.files)
    assert {p.name for p in dataset.files} == {"report.html", "report.md", "report.decision.json"}


def test_previews_have_the_kinds_that_kedro_viz_knows(tmp_path):
    table = TableDataset(filepath=str(tmp_path / "t.csv"))
    table.save(pd.DataFrame({"a": [1, 2]}))
    shown = table.preview(nrows=1)
    assert (shown["columns"], shown["data"]) == (["a"], [[1]])
    document = JsonDataset(filepath=str(tmp_path / "d.json"))
    document.save({"a": 1})
    assert json.loads(document.preview()) == {"a": 1}
    report = ReportDataset(filepath=str(tmp_path / "r.html"))
    report.save({"html": "", "markdown": "", "decision": [{"method": "zap"}]})
    assert report.preview()["columns"] == ["method", "page"]
    known = {
        TableDataset: "TablePreview",
        ReportDataset: "TablePreview",
        JsonDataset: "JSONPreview",
        FigureDataset: "ImagePreview",
    }
    for dataset, kind in known.items():
        assert dataset.preview.__annotations__["return"] == kind


def test_reading_the_classes_imports_neither_torch_nor_pandas():
    code = "import sys; from relearn.datasets import CheckpointDataset, FigureDataset, "
    code += "ImagesDataset, JsonDataset, ReportDataset, StreamDataset, TableDataset; "
    code += "print('torch' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_file_of_another_content_than_its_digest_is_damaged_even_if_it_parses(tmp_path):
    dataset, value = made("stream", tmp_path)
    dataset.save(value)
    other = replace(value, task_of_class=torch.tensor([1, 0, -1]))
    honest = dataset.path.read_bytes()
    dataset.save(other)
    forged = dataset.path.read_bytes()
    head = int.from_bytes(honest[:8], "little")
    assert head == int.from_bytes(forged[:8], "little")
    dataset.path.write_bytes(honest[: 8 + head] + forged[8 + head :])
    with pytest.raises(DatasetError, match="damaged"):
        dataset.load()
