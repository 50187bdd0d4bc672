"""Nodes of prepare_data: unpack the parameters, call the data floor, stamp what comes out.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.errors import StaleInputError
from relearn.provenance import Provenance, digest

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.data.images import LabelledImages, Stream
else:
    DataFrame = Figure = LabelledImages = Stream = Any

_log = logging.getLogger(__name__)
_PIPELINE = "prepare_data"


def read_source(data: DataConfig) -> tuple[dict[str, Any], LabelledImages]:
    """Return the raw manifest and the images of the source.

    Args:
        data: The block ``data`` of the parameters.

    Raises:
        DataError: The source is missing, damaged or unsafe.
    """
    from relearn.data.archive import ReadLimits
    from relearn.data.decode import ImageShape
    from relearn.data.sources import GlyphSet, read_images

    images, manifest = read_images(
        data.source,
        path=Path(data.source_path).expanduser() if data.source_path else None,
        download=data.download,
        cache=Path(data.cache_folder),
        shape=ImageShape(**data.image.model_dump()),
        limits=ReadLimits(**data.limits.model_dump()),
        glyphs=GlyphSet(**data.glyphs.model_dump()),
    )
    _log.info("%s: %d images, %d classes", data.source, len(images.labels), len(images.class_names))
    for refused in images.refused:
        _log.warning("skipped %s: %s", refused.file, refused.reason)
    made = _stamp("images", data.images_digest(), {"raw_manifest": digest(manifest.as_dict())})
    return manifest.as_dict(), replace(images, provenance=replace(made, content=images.digest))


def split_source(images: LabelledImages, data: DataConfig) -> tuple[DataFrame, DataFrame]:
    """Return the table of splits, and the pictures dropped because they exist more than once.

    Args:
        images: As read.
        data: The block ``data`` of the parameters.

    Raises:
        StaleInputError: The images were read with other parameters.
        DataError: There are too few classes or images for the split.
    """
    import pandas as pd

    from relearn.data.splits import SplitPlan, split_images

    _require("images", images.provenance, data.images_digest())
    table = split_images(images, SplitPlan(**data.split.model_dump()))
    splits = pd.DataFrame(table.columns())
    made = _stamp("splits", data.stream_digest(), {"images": images.digest})
    splits.attrs["provenance"] = replace(made, content=digest(table.columns())).to_json()
    if table.duplicates:
        _log.warning("%d identical images dropped, see duplicates", len(table.duplicates))
    columns = {
        "index": [one.index for one in table.duplicates],
        "class": [images.class_names[int(images.labels[one.index])] for one in table.duplicates],
        "kept": [one.kept for one in table.duplicates],
        "reason": [one.reason for one in table.duplicates],
    }
    return splits, pd.DataFrame(columns)


def make_stream(images: LabelledImages, splits: DataFrame, data: DataConfig) -> Stream:
    """Return the stream that the table describes; a table edited by hand is checked and obeyed.

    Args:
        images: As read.
        splits: Columns index, class, split, task.
        data: The block ``data`` of the parameters.

    Raises:
        StaleInputError: Images or table were made with other parameters.
        DataError: The table does not fit the images, or lets something leak.
    """
    from relearn.data.splits import SplitTable, stream_of

    _require("images", images.provenance, data.images_digest())
    stamped = splits.attrs.get("provenance")
    made_by = Provenance.from_json(stamped) if stamped else None
    _require("splits", made_by, data.stream_digest(), {"images": images.digest})
    table = SplitTable.from_columns({name: splits[name].tolist() for name in splits.columns})
    stream = stream_of(images, table)
    inputs = {"images": images.digest, "splits": digest(table.columns())}
    made = _stamp("stream", data.stream_digest(), inputs)
    return replace(stream, provenance=replace(made, content=stream.digest))


def describe_data(
    *,
    raw_manifest: dict[str, Any],
    images: LabelledImages,
    duplicates: DataFrame,
    stream: Stream,
    data: DataConfig,
) -> tuple[dict[str, Any], Figure]:
    """Return the data card and a figure of samples.

    Args:
        raw_manifest: What was read.
        images: As read.
        duplicates: Pictures dropped, with a column ``reason``.
        stream: The splits.
        data: The block ``data`` of the parameters.

    Raises:
        StaleInputError: The files belong to different runs.
    """
    from relearn.data.card import data_card, sample_grid

    made_from = {"raw_manifest": digest(raw_manifest)}
    _require("images", images.provenance, data.images_digest(), made_from)
    _require("stream", stream.provenance, data.stream_digest(), {"images": images.digest})
    reasons = [str(reason) for reason in duplicates["reason"]] if len(duplicates) else []
    card = data_card(raw_manifest, images, stream, reasons)
    return card, _draw(sample_grid(stream.split("train")), card)


def _draw(grid: Any, card: dict[str, Any]) -> Figure:
    from matplotlib.figure import Figure as Canvas

    height, width = grid.shape[:2]
    figure = Canvas(figsize=(6.4, 6.4 * height / width + 0.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(grid, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    axes.set_title(
        f"{card['source']}: {card['images']:,} images, {card['classes']:,} classes; "
        "a row is a class of train",
        fontsize=9,
    )
    return figure


def _stamp(stage: str, config: str, inputs: dict[str, str]) -> Provenance:
    return Provenance(stage=stage, pipeline=_PIPELINE, config=config, inputs=inputs)


def _require(
    stage: str, made_by: Provenance | None, config: str, inputs: dict[str, str] | None = None
) -> None:
    if made_by is None:
        raise StaleInputError(
            f"{stage}: it is not said which parameters made it; "
            f"run `kedro run --pipeline {_PIPELINE}` again (same --env and --params)"
        )
    made_by.require(config=config, inputs=inputs)
