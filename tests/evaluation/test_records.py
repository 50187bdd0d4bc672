"""The rows that travel from arms to report."""

from __future__ import annotations

import json

import pytest

from relearn.errors import TrainingError
from relearn.evaluation.records import Intervention, Record, Recorder, no_log


def test_a_recorder_writes_one_row_a_metric_in_order():
    recorder = Recorder("zap", "iid", 3)
    recorder.add("few_shot", 24, {"accuracy": 0.5, "area": 1})
    assert recorder.records == [
        Record("zap", "iid", 3, "few_shot", 24, "accuracy", 0.5),
        Record("zap", "iid", 3, "few_shot", 24, "area", 1.0),
    ]
    assert isinstance(recorder.records[1].value, float)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused_and_named(value):
    recorder = Recorder("zap", "iid", 3)
    with pytest.raises(TrainingError, match="arm iid, seed 3"):
        recorder.add("few_shot", 24, {"accuracy": value})
    assert recorder.records == []


def test_rows_survive_json():
    record = Record("zap", "iid", 3, "few_shot", 24, "accuracy", 0.1)
    assert Record(**json.loads(json.dumps(record.as_row()))) == record
    entry = Intervention(
        "zap", "iid_zap", 0, 5, 1, "reset_last_layer", "head.weight", 3, "every 1 epochs",
        2**62 + 1, "a", "b", 0.1, 0.2, {"rows": [1, 2]},
    )  # fmt: skip
    assert Intervention(**json.loads(json.dumps(entry.as_row()))) == entry


def test_logging_nowhere_is_allowed():
    assert no_log(1, {"loss": 0.1}) is None
