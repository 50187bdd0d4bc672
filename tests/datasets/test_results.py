"""The results of all methods are read as one, and never written so."""

from __future__ import annotations

import pandas as pd
import pytest
from kedro.io import DatasetError

from relearn.datasets import JsonDataset, ResultsDataset, TableDataset


def test_what_methods_left_is_read_by_method_and_name(tmp_path):
    table = pd.DataFrame({"arm": ["zapped"], "value": [0.5]})
    table.attrs["provenance"] = "made so"
    TableDataset(filepath=str(tmp_path / "07_model_output/zap/records.parquet")).save(table)
    TableDataset(filepath=str(tmp_path / "07_model_output/zap/predictions.parquet")).save(table)
    found = {"gate": "too weak"}
    JsonDataset(filepath=str(tmp_path / "08_reporting/grow/diagnostics.json")).save(found)

    read = ResultsDataset(filepath=str(tmp_path / "07_model_output")).load()

    assert set(read) == {"zap_records", "grow_diagnostics"}  # no predictions: nobody compares them
    assert read["zap_records"].attrs["provenance"] == "made so"
    assert read["grow_diagnostics"] == found


def test_a_profile_without_results_reads_as_none(tmp_path):
    dataset = ResultsDataset(filepath=str(tmp_path / "new"))

    assert dataset.exists()
    assert dataset.load() == {}


def test_a_damaged_result_is_named(tmp_path):
    path = tmp_path / "08_reporting/grow/diagnostics.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")

    with pytest.raises(DatasetError, match=r"diagnostics\.json: damaged.*--pipeline grow`"):
        ResultsDataset(filepath=str(tmp_path / "07_model_output")).load()


def test_it_is_never_written(tmp_path):
    with pytest.raises(DatasetError, match="only read"):
        ResultsDataset(filepath=str(tmp_path / "07_model_output")).save({})
