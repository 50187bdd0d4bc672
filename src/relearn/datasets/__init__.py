"""Floor 4: Kedro datasets that are written whole or not at all, and know what made them.

Re-exported lazily: reading the catalog must import neither torch nor pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relearn.datasets.documents import JsonDataset, ReportDataset
    from relearn.datasets.figures import FigureDataset
    from relearn.datasets.results import ResultsDataset
    from relearn.datasets.tables import TableDataset
    from relearn.datasets.tensors import CheckpointDataset, ImagesDataset, StreamDataset

_HOME = {
    "CheckpointDataset": "tensors",
    "FigureDataset": "figures",
    "ImagesDataset": "tensors",
    "JsonDataset": "documents",
    "ReportDataset": "documents",
    "ResultsDataset": "results",
    "StreamDataset": "tensors",
    "TableDataset": "tables",
}

__all__ = [
    "CheckpointDataset",
    "FigureDataset",
    "ImagesDataset",
    "JsonDataset",
    "ReportDataset",
    "ResultsDataset",
    "StreamDataset",
    "TableDataset",
]


def __getattr__(name: str) -> Any:
    """Return the dataset class ``name``, importing its module only now."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
