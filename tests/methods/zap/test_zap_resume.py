"""Interrupted and resumed is the same as not interrupted, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_zap import run, tiny_base, tiny_config, tiny_stream, weights

from relearn.methods.zap.train import train_baseline, train_treated
from relearn.training.resume import ResumePoint


class Interrupted(BaseException):
    """What Ctrl-C would raise."""


class StopsAfter(ResumePoint):
    """A resume point whose n-th saving is the last thing that happens."""

    def save(self, state: Any) -> None:
        super().save(state)
        count = int(self.path.with_suffix(".count").read_text() or 0) if self._counted() else 0
        self.path.with_suffix(".count").write_text(str(count + 1))
        if count + 1 == int(self.key or 1):
            raise Interrupted

    def load(self) -> dict[str, Any] | None:
        return ResumePoint(self.path, self.key).load()

    def _counted(self) -> bool:
        return self.path.with_suffix(".count").exists()


def equal(one, two) -> None:
    assert one.records == two.records
    assert one.interventions == two.interventions
    assert one.order_digest == two.order_digest
    assert torch.equal(weights(one), weights(two))
    assert one.checkpoint.digest == two.checkpoint.digest
    extra = [{c.metric: c.value for c in r.costs}["extra_steps"] for r in (one, two)]
    assert extra[0] == extra[1]
    for result in (one, two):  # the time before an interruption counts
        spent = {c.metric: c.value for c in result.costs}
        assert 0 < spent["train_seconds"] <= spent["total_seconds"]


CASES = [
    ("iid", {}),
    ("iid", {"train__shift_pixels": 1, "train__schedule": "cosine"}),
    ("iid", {"train__optimizer": "sgd", "train__warmup_epochs": 1.0}),
    ("iid_zap", {}),
    ("iid_zap", {"policy__stop": 1}),
    ("iid_zap", {"policy__every": 2, "monitor__window": 4, "monitor__gradient_every": 100}),
    ("iid_zap", {"policy__unit": "steps", "policy__every": 2, "monitor__window": 3}),
    ("iid_zap", {"biased__steps": 2, "reset__reset_moments": True}),
    (
        "iid_zap",
        {
            "policy__trigger": "plateau",
            "policy__plateau": {"patience": 1, "smallest_gain": 0.9},
            "policy__rows": "fraction",
            "policy__fraction": 0.9,
            "policy__decay": 0.5,
        },
    ),
    ("iid_shrink_perturb", {}),
    ("asb", {}),
    ("asb_zap", {"asb__episodes": 25}),
    ("asb_zap", {"asb__episodes": 25, "episode_policy__rows": "all", "episode_policy__every": 4}),
    ("meta_zap", {"meta__first_order": True}),
]


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize(("arm", "changes"), CASES, ids=[f"{a}-{'-'.join(c)}" for a, c in CASES])
def test_interrupted_and_resumed_equals_uninterrupted(arm, changes, stop, tmp_path):
    train = train_baseline if arm in ("iid", "asb", "meta") else train_treated
    config = tiny_config(**changes)
    path = tmp_path / "resume.safetensors"
    with pytest.raises(Interrupted):
        train(
            tiny_base(),
            tiny_stream(),
            config,
            arm=arm,
            seed=1,
            resume=StopsAfter(path, str(stop)),
        )
    resumed = train(
        tiny_base(),
        tiny_stream(),
        config,
        arm=arm,
        seed=1,
        resume=ResumePoint(path, str(stop)),
    )
    equal(resumed, run(arm, seed=1, **changes))


def test_a_damaged_resume_point_is_passed_over(tmp_path, caplog):
    path = tmp_path / "resume.safetensors"
    path.write_bytes(b"not a resume point")
    config = tiny_config()
    result = train_baseline(
        tiny_base(), tiny_stream(), config, arm="iid", seed=1, resume=ResumePoint(path)
    )
    equal(result, run("iid", seed=1))
    assert "damaged resume point" in caplog.text
