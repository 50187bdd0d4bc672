"""The add_classes pipeline: from a folder of images to an accepted checkpoint, or one line."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image
from tiny_extend import tiny_images, tiny_settings, tiny_start
from tiny_zap import tiny_base, tiny_stream

from relearn.arm_store import CHECKPOINT
from relearn.data.config import DataConfig
from relearn.errors import (
    CheckpointError,
    DataError,
    ParameterError,
    StaleInputError,
    TrainingError,
)
from relearn.evaluation.records import Intervention
from relearn.methods.zap.extend import verify_extension
from relearn.models.checkpoint import save_checkpoint
from relearn.pipelines.add_classes import create_pipeline
from relearn.pipelines.add_classes.nodes import (
    accept_checkpoint,
    extend_checkpoint,
    read_new_classes,
)
from relearn.training.config import ExecutionConfig

BASE = Path(__file__).parents[2] / "conf" / "base"
EXECUTION = ExecutionConfig(
    device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
)
OUTPUTS = (
    "add_classes_start",
    "add_classes_images",
    "add_classes_candidate",
    "add_classes_report",
    "add_classes_records",
    "add_classes_interventions",
    "added_checkpoint",
)


@pytest.fixture
def data():
    text = (BASE / "parameters_prepare_data.yml").read_text(encoding="utf-8")
    return DataConfig(**yaml.safe_load(text)["data"])


@pytest.fixture
def folder(tmp_path):
    """Five class folders of eight 8-pixel pictures."""
    whole = tiny_images()
    for row, label in enumerate(whole.labels.tolist()):
        place = tmp_path / "new" / whole.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(whole.images[row, 0].numpy()).save(place / f"{row:02d}.png")
    return tmp_path / "new"


@pytest.fixture
def units(tmp_path):
    path = tmp_path / "unit"
    path.mkdir()
    save_checkpoint(tiny_start(), path / CHECKPOINT)
    return pd.DataFrame([{"arm": "iid_zap", "seed": 3, "path": str(path)}])


def settings(folder, **changes):
    return tiny_settings(
        source_path=str(folder), **({"seed": 3, "largest_regression": 0.2} | changes)
    )


def read(folder, units, data, **changes):
    return read_new_classes(
        base=tiny_base(), units=units, add_classes=settings(folder, **changes), data=data
    )


def extend(start, images, data, add_classes):
    return extend_checkpoint(
        start=start,
        images=images,
        stream=tiny_stream(),
        add_classes=add_classes,
        data=data,
        execution=EXECUTION,
    )


class Kept(MemoryDataset):
    """Stays when the runner is done with it, as a file does."""

    def _release(self) -> None:
        """Keep what was saved."""


def run(folder, units, data, **changes):
    """Run the pipeline as Kedro does and return what each entry holds."""
    inputs = {
        "base": tiny_base(),
        "zap.units": units,
        "stream": tiny_stream(),
        "params:add_classes": settings(folder, **changes),
        "params:data": data,
        "params:execution": EXECUTION,
    }
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in inputs.items()})
    for name in OUTPUTS:
        catalog[name] = Kept(copy_mode="assign")
    try:
        SequentialRunner().run(create_pipeline(), catalog)
    finally:
        run.found = {n: catalog[n].load() for n in OUTPUTS if catalog.exists(n)}
    return run.found


def test_a_folder_becomes_outputs_of_the_named_unit(folder, units, data):
    found = run(folder, units, data, train="new_rows")
    made = found["added_checkpoint"]
    assert made.architecture.classes == 11
    assert list(made.provenance["class_names"][6:]) == [f"new {i}" for i in range(5)]
    assert found["add_classes_report"]["accepted"]
    assert found["add_classes_report"]["result"] == made.digest
    assert found["add_classes_start"].digest == tiny_start().digest
    assert set(found["add_classes_records"]["metric"]) >= {"regression", "new_accuracy"}


def test_the_stored_ledger_still_verifies(folder, units, data):
    (row,) = run(folder, units, data)["add_classes_interventions"].to_dict("records")
    entry = Intervention(**{**row, "details": yaml.safe_load(row["details"])})
    assert verify_extension(entry, tiny_start())


def test_a_refused_extension_leaves_its_report_and_no_checkpoint(folder, units, data):
    knobs = {"train": "all", "learning_rate": 0.03, "replay_share": 0.0, "epochs": 20}
    with pytest.raises(TrainingError, match=r"add_classes\.largest_regression"):
        run(folder, units, data, **knobs)
    assert not run.found["add_classes_report"]["accepted"]
    assert "added_checkpoint" not in run.found


def test_zip_and_folder_give_the_same_images(folder, units, data, tmp_path):
    archive = tmp_path / "new.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*.png")):
            packed.write(path, path.relative_to(tmp_path))
    _, packed = read(archive, units, data)
    _, plain = read(folder, units, data)
    assert packed.class_names == plain.class_names
    assert torch.equal(packed.images, plain.images)


def test_one_new_class_is_enough(folder, units, data):
    for path in sorted(folder.iterdir())[1:]:
        for picture in path.iterdir():
            picture.unlink()
        path.rmdir()
    _, images = read(folder, units, data)
    assert images.class_names == ("new 0",)


def test_pictures_are_brought_to_the_shape_of_the_checkpoint(folder, units, data):
    for row, path in enumerate(sorted(folder.rglob("*.png"))):
        with Image.open(path) as picture:
            picture.convert("RGB").resize((20 + row % 3, 16)).save(path)
    _, images = read(folder, units, data)
    assert images.images.shape[1:] == (1, 8, 8)


def test_a_file_or_the_base_can_be_extended(folder, units, data, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(tiny_start(), path)
    start, _ = read(folder, units.iloc[:0], data, checkpoint=str(path))
    assert start.digest == tiny_start().digest
    with pytest.raises(CheckpointError, match="names 0 classes"):
        read(folder, units, data, checkpoint="base")  # the tiny base tells no names
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        read(folder, units, data, checkpoint=str(tmp_path / "none"))


def test_a_unit_that_does_not_exist_is_named(folder, units, data):
    with pytest.raises(ParameterError, match=r"add_classes\.arm: .* did you mean iid_zap"):
        read(folder, units, data, arm="iid_zapp")
    with pytest.raises(ParameterError, match=r"add_classes\.seed: .* seeds there: 3"):
        read(folder, units, data, seed=4)
    with pytest.raises(ParameterError, match="kedro run --pipeline zap"):
        read(folder, units.iloc[:0], data)


def test_images_that_cannot_be_used_are_named_by_their_own_parameter(folder, units, data, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match=r"add_classes\.source_path: is empty"):
        read("", units, data)
    with pytest.raises(DataError, match=r"^add_classes\.source_path: .* does not exist"):
        read(tmp_path / "none", units, data)
    with pytest.raises(DataError, match=r"^add_classes\.source_path: .* holds no image"):
        read(tmp_path / "empty", units, data)
    (folder / "new 0").rename(folder / tiny_start().provenance["class_names"][2])
    with pytest.raises(DataError, match="already"):
        read(folder, units, data)


def test_a_class_with_one_image_is_refused(folder, units, data):
    for picture in sorted((folder / "new 1").iterdir())[1:]:
        picture.unlink()
    with pytest.raises(DataError, match="'new 1' has 1 distinct image"):
        run(folder, units, data)


def test_images_read_for_other_parameters_are_refused(folder, units, data):
    start, images = read(folder, units, data)
    other = settings(folder.parent)
    with pytest.raises(StaleInputError, match="add_classes_images"):
        extend(start, images, data, other)
    with pytest.raises(StaleInputError, match="add_classes_images"):
        extend(tiny_base(), images, data, settings(folder))


def test_a_report_about_another_checkpoint_accepts_nothing(folder, units, data):
    found = run(folder, units, data, train="new_rows")
    with pytest.raises(StaleInputError, match="another checkpoint"):
        accept_checkpoint(tiny_start(), found["add_classes_report"])


def test_the_report_says_what_could_not_be_checked(folder, units, data, tmp_path):
    first = run(folder, units, data, epochs=0)["added_checkpoint"]
    assert run.found["add_classes_report"]["findings"] == []
    save_checkpoint(first, tmp_path / "first.safetensors")
    for path in list(folder.iterdir()):
        path.rename(folder / f"later {path.name}")
    again = run(
        folder,
        units,
        data,
        epochs=0,
        largest_regression=1.0,
        checkpoint=str(tmp_path / "first.safetensors"),
    )
    (finding,) = again["add_classes_report"]["findings"]
    assert "5 old classes have no images in the stream" in finding


def test_the_pipeline_is_read_without_torch():
    code = (
        "import sys; from relearn.pipelines.add_classes import create_pipeline; create_pipeline();"
        "sys.exit(any(n in sys.modules for n in ('torch', 'pandas', 'mlflow', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
