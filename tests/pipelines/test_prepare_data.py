from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from relearn.data.config import DataConfig
from relearn.datasets.documents import JsonDataset
from relearn.datasets.figures import FigureDataset
from relearn.datasets.tables import TableDataset
from relearn.datasets.tensors import ImagesDataset, StreamDataset
from relearn.errors import DataError, StaleInputError
from relearn.pipelines.prepare_data import create_pipeline, nodes
from relearn.provenance import Provenance

BASE = Path(__file__).parents[2] / "conf/base/parameters_prepare_data.yml"


def merged(over, under):
    return {
        key: merged(over[key], value)
        if key in over and isinstance(value, dict)
        else over.get(key, value)
        for key, value in under.items()
    }


@pytest.fixture
def config(tmp_path):
    small = {
        "cache_folder": str(tmp_path / "cache"),
        "glyphs": {"classes": 12, "drawings": 8},
        "split": {
            "base_classes": 6, "selection_classes": 3, "transfer_classes": 3,
            "support_per_class": 4, "query_per_class": 2, "tasks": 3,
        },
    }  # fmt: skip

    def make(**changes):
        under = merged(small, yaml.safe_load(BASE.read_text())["data"])
        return DataConfig.model_validate(merged(changes, under))

    return make


@pytest.fixture
def stages(config):
    """All stages of one run, by name."""
    data = config()
    raw_manifest, images = nodes.read_source(data)
    splits, duplicates = nodes.split_source(images, data)
    stream = nodes.make_stream(images, splits, data)
    return {
        "raw_manifest": raw_manifest, "images": images, "duplicates": duplicates,
        "splits": splits, "stream": stream,
    }  # fmt: skip


def catalog_on_disk(folder, data):
    """The datasets that the catalog of the project has for these names."""
    kinds = {
        "raw_manifest": (JsonDataset, "json"),
        "images": (ImagesDataset, "safetensors"),
        "splits": (TableDataset, "csv"),
        "duplicates": (TableDataset, "csv"),
        "stream": (StreamDataset, "safetensors"),
        "data_card": (JsonDataset, "json"),
        "sample_grid": (FigureDataset, "png"),
    }
    entries = {
        name: kind(filepath=str(folder / f"{name}.{suffix}"))
        for name, (kind, suffix) in kinds.items()
    }
    return DataCatalog({"params:data": MemoryDataset(data), **entries})


def test_the_pipeline_makes_every_stage_of_the_road(config, tmp_path):
    pipeline = create_pipeline()
    assert pipeline.inputs() == {"params:data"}
    catalog = catalog_on_disk(tmp_path, config())
    SequentialRunner().run(pipeline, catalog)
    assert pipeline.all_outputs() == {name for name in catalog.keys() if name != "params:data"}  # noqa: SIM118
    stream, card = catalog.load("stream"), catalog.load("data_card")
    assert len(stream.split("train")) == 36
    assert stream.provenance.config == config().stream_digest()
    assert card["splits"]["transfer_query"] == {"images": 6, "classes": 3}
    assert list(catalog.load("splits").columns) == ["index", "class", "split", "task"]
    assert list(catalog.load("duplicates").columns) == ["index", "class", "kept", "reason"]


def test_a_node_run_alone_refuses_files_of_other_parameters(config, tmp_path):
    SequentialRunner().run(create_pipeline(), catalog_on_disk(tmp_path, config()))
    alone = create_pipeline().only_nodes("prepare_data.make_stream")
    SequentialRunner().run(alone, catalog_on_disk(tmp_path, config()))
    with pytest.raises(StaleInputError, match="splits: made from other parameters"):
        SequentialRunner().run(alone, catalog_on_disk(tmp_path, config(split={"seed": 1})))


def test_nodes_fold_into_one_namespace_with_unprefixed_datasets():
    pipeline = create_pipeline()
    assert {node.namespace for node in pipeline.nodes} == {"prepare_data"}
    assert not any(name.startswith("prepare_data.") for name in pipeline.datasets())


def test_kedro_finds_the_configuration_class_of_every_node():
    """An annotation that cannot be evaluated would switch validation off with a mere warning."""
    from typing import get_type_hints

    hints = [get_type_hints(node.func) for node in create_pipeline().nodes]
    assert [hint["data"] for hint in hints] == [DataConfig] * 4


def test_the_same_parameters_make_the_same_stream(config, stages):
    data = config()
    _, images = nodes.read_source(data)
    splits, _ = nodes.split_source(images, data)
    stream = nodes.make_stream(images, splits, data)
    assert stream.digest == stages["stream"].digest
    assert stream.provenance == stages["stream"].provenance
    assert stream.provenance.content == stream.digest


def test_the_stream_is_recognised_by_its_parameters_alone(config, stages):
    stages["stream"].provenance.require(config=config().stream_digest())
    other = config(split={"seed": 1})
    with pytest.raises(StaleInputError, match=r"stream: .*--pipeline prepare_data"):
        stages["stream"].provenance.require(config=other.stream_digest())


def test_images_of_other_parameters_are_refused(config, stages):
    other = config(glyphs={"seed": 1})
    with pytest.raises(StaleInputError, match="images: made from other parameters"):
        nodes.split_source(stages["images"], other)
    with pytest.raises(StaleInputError, match="images: made from other parameters"):
        nodes.make_stream(stages["images"], stages["splits"], other)


def test_a_table_of_another_split_or_other_images_is_refused(config, stages):
    with pytest.raises(StaleInputError, match="splits: made from other parameters"):
        nodes.make_stream(stages["images"], stages["splits"], config(split={"seed": 1}))
    pixels = stages["images"].images.clone()
    pixels[0] = 0
    changed = replace(stages["images"], images=pixels)
    with pytest.raises(StaleInputError, match="splits: made from other images"):
        nodes.make_stream(changed, stages["splits"], config())


def test_stages_without_an_origin_are_refused(config, stages):
    with pytest.raises(StaleInputError, match="images: it is not said which parameters made it"):
        nodes.split_source(replace(stages["images"], provenance=None), config())
    bare = stages["splits"].copy()
    bare.attrs = {}
    with pytest.raises(StaleInputError, match="splits: it is not said"):
        nodes.make_stream(stages["images"], bare, config())


def test_a_card_is_made_of_stages_that_belong_together(config, stages):
    stages.pop("splits")
    card, figure = nodes.describe_data(**stages, data=config())
    assert card["images"] == 96
    assert figure.axes[0].images
    foreign = {**stages, "raw_manifest": {**stages["raw_manifest"], "files": 1}}
    with pytest.raises(StaleInputError, match="images: made from other raw_manifest"):
        nodes.describe_data(**foreign, data=config())


def test_a_card_refuses_a_stream_of_another_split(config, stages):
    other = config(split={"seed": 1})
    splits, _ = nodes.split_source(stages["images"], other)
    stages["stream"] = nodes.make_stream(stages["images"], splits, other)
    stages.pop("splits")
    with pytest.raises(StaleInputError, match="stream: made from other parameters"):
        nodes.describe_data(**stages, data=config())


def test_a_table_edited_by_hand_is_obeyed_and_leaves_a_trace(config, stages):
    splits = stages["splits"]
    fewer = splits[splits["split"] != "validation"].copy()
    fewer.attrs = splits.attrs
    stream = nodes.make_stream(stages["images"], fewer, config())
    assert "validation" not in stream.splits
    assert stream.provenance.inputs["splits"] != stages["stream"].provenance.inputs["splits"]
    made = Provenance.from_json(splits.attrs["provenance"])
    assert made.content == stages["stream"].provenance.inputs["splits"]


def test_own_images_need_nothing_but_a_path(tmp_path, caplog):
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cat", "dog", "elk", "fox", "gnu"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(int(rng.integers(5, 9))):
            pixels = rng.integers(0, 256, (rng.integers(20, 60), 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{i}.jpg")
    (tmp_path / "own/ant/broken.jpg").write_bytes(b"\xff\xd8\xff")
    folder = BASE.parents[1] / "image_folder" / BASE.name
    under = merged(
        yaml.safe_load(folder.read_text())["data"], yaml.safe_load(BASE.read_text())["data"]
    )
    own = {"source_path": str(tmp_path / "own"), "limits": {"refused_share": 0.1}}
    data = DataConfig.model_validate(merged(own, under))
    manifest, images = nodes.read_source(data)
    splits, _ = nodes.split_source(images, data)
    stream = nodes.make_stream(images, splits, data)
    assert "skipped ant/broken.jpg" in caplog.text
    assert (manifest["refused"], images.images.shape[1:]) == (1, (3, 32, 32))
    assert len(stream.split("train").classes) == 3
    assert len(stream.split("transfer_query").classes) == 2


def test_own_images_without_a_path_say_how_to_give_one(config):
    with pytest.raises(DataError, match=r"data\.source_path: is empty.*--params"):
        nodes.read_source(config(source="image_folder"))
