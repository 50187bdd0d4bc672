"""Interrupted and resumed is the same as not interrupted, bit for bit."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_forget_relearn import lean_config, run, tiny_base, tiny_stream

from relearn.methods.forget_relearn.run import train_one
from relearn.training.resume import ResumePoint

if TYPE_CHECKING:
    from relearn.methods.forget_relearn.trained import Trained


class Interrupted(BaseException):
    """What Ctrl-C would raise."""


class StopsAfter(ResumePoint):
    """A resume point after whose saving of the epoch in its key nothing more happens."""

    def save(self, state: Any) -> None:
        super().save(state)
        if state["epoch"] == int(self.key):
            raise Interrupted


def interrupted(training: str, stop: int, path, **changes) -> Trained:
    def go(resume):
        return train_one(
            tiny_base(),
            tiny_stream(),
            lean_config(**changes),
            training=training,
            seed=1,
            resume=resume,
        )

    with pytest.raises(Interrupted):
        go(StopsAfter(path, str(stop)))
    return go(ResumePoint(path, str(stop)))


def equal(one: Trained, two: Trained) -> None:
    (told, tensors), (other, others) = one.plain(), two.plain()
    for name in told.keys() - {"costs"}:
        assert told[name] == other[name], name
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert torch.equal(value.nan_to_num(), others[name].nan_to_num()), name
        assert value.dtype == others[name].dtype
    for found in (one, two):  # the time before an interruption counts
        assert 0 < found.costs["train_seconds"] <= found.costs["total_seconds"]


PLATEAU = {
    "cycle__trigger": "plateau",
    "cycle__plateau": {"patience": 1, "smallest_gain": 0.9},
    "monitor__every_epochs": 1,
}
CASES = {
    "plain": ("pgd_at", {}),
    "late average": ("pgd_at", {"average__from_epoch": 4}),
    "augmented": ("pgd_at", {"train__schedule": "cosine", "train__shift_pixels": 1}),
    "awp": ("awp", {"awp__warmup_epochs": 2}),
    "method": ("forget_relearn", {}),
    "adam": ("forget_relearn", {"train__optimizer": "adam", "train__learning_rate": 0.01}),
    "rewind": ("forget_relearn", {"forget__initialisation": "rewind", "start_from": "base"}),
    "seldom": (
        "forget_relearn",
        {"forget__initialisation": "stable", "consolidate__probability": 0.5},
    ),
    "plateau": ("forget_relearn", PLATEAU),
    "recalibrated": (
        "forget_relearn",
        {"consolidate__recalibrate": True, "consolidate__batch_norm": "copy"},
    ),
    "trades": ("forget_relearn", {"loss__name": "trades", "relearn__consistency": "kl"}),
    "one step": ("forget_only", {"loss__name": "fgsm_rs", "monitor__every_epochs": 4}),
}
STOPS = [
    *(("method", stop) for stop in range(1, 7)),
    *(("late average", stop) for stop in (2, 4, 5)),
    *(("plain", 3), ("augmented", 3), ("awp", 1), ("adam", 3), ("rewind", 3), ("seldom", 5)),
    *(("plateau", 1), ("plateau", 4), ("recalibrated", 3), ("trades", 3), ("one step", 5)),
]


@cache
def uninterrupted(case: str) -> Trained:
    training, changes = CASES[case]
    return run(training, seed=1, **changes)


@pytest.mark.parametrize(("case", "stop"), STOPS, ids=[f"{c}-{stop}" for c, stop in STOPS])
def test_interrupted_and_resumed_equals_uninterrupted(case, stop, tmp_path):
    training, changes = CASES[case]
    equal(interrupted(training, stop, tmp_path / "r.safetensors", **changes), uninterrupted(case))


def test_a_training_that_went_back_resumes_within_the_next_relearning(tmp_path, monkeypatch):
    from test_forget_relearn_roll_back import BACK, always_lost

    always_lost(monkeypatch)
    changes = {**BACK, "train__epochs": 8}
    whole = run("forget_relearn", seed=1, **changes)
    assert [row["rolled_back"] for row in whole.recoveries] == [1.0, 1.0, 1.0]
    equal(interrupted("forget_relearn", 5, tmp_path / "r.safetensors", **changes), whole)


def test_a_damaged_resume_point_is_passed_over(tmp_path, caplog):
    path = tmp_path / "r.safetensors"
    path.write_bytes(b"not a resume point")
    found = train_one(
        tiny_base(),
        tiny_stream(),
        lean_config(),
        training="pgd_at",
        seed=1,
        resume=ResumePoint(path),
    )
    equal(found, uninterrupted("plain"))
    assert "damaged resume point" in caplog.text
