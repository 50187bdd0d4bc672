"""A training that takes up another's warm-up ends where it would have ended from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tiny_forget_relearn import tiny_base, tiny_config, tiny_stream

from relearn.methods.forget_relearn.run import train_one
from relearn.training.resume import ResumePoint

if TYPE_CHECKING:
    from pathlib import Path

    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.methods.forget_relearn.trained import Trained


def trained(config: ForgetRelearnConfig, name: str, warmup: Path | None, seed: int = 0) -> Trained:
    shared = ResumePoint(warmup) if warmup else None
    return train_one(tiny_base(), tiny_stream(), config, training=name, seed=seed, warmup=shared)


def same(one: Trained, two: Trained) -> bool:
    weights = all(
        torch.equal(value, two.models[kind][name])
        for kind, model in one.models.items()
        for name, value in model.items()
    )
    pictures = all(torch.equal(value, two.pictures[name]) for name, value in one.pictures.items())
    books = one.curves == two.curves and one.recoveries == two.recoveries
    ledger = one.interventions == two.interventions and one.order_digest == two.order_digest
    return weights and pictures and books and ledger and one.models.keys() == two.models.keys()


@pytest.mark.parametrize("name", ["forget_relearn", "share_zero", "forget_only"])
def test_a_shared_warm_up_changes_nothing(name: str, tmp_path: Path) -> None:
    config = tiny_config(trainings__share_zero=True, trainings__forget_only=True)
    trained(config, "pgd_at", tmp_path / "warmup.safetensors")
    epochs: list[int] = []

    def log(step: int, values: object) -> None:
        epochs.append(step)

    shared = ResumePoint(tmp_path / "warmup.safetensors")
    taken_up = train_one(
        tiny_base(), tiny_stream(), config, training=name, seed=0, warmup=shared, log=log
    )

    assert same(taken_up, trained(config, name, None))
    assert min(epochs) >= config.cycle.warmup_epochs  # it did begin there


@pytest.mark.parametrize("change", [{"seed": 1}, {"train__learning_rate": 0.05}])
def test_the_warm_up_of_another_training_is_passed_over(change: dict, tmp_path: Path) -> None:
    seed = change.pop("seed", 0)
    trained(tiny_config(), "pgd_at", tmp_path / "warmup.safetensors")

    found = trained(tiny_config(**change), "forget_relearn", tmp_path / "warmup.safetensors", seed)

    assert same(found, trained(tiny_config(**change), "forget_relearn", None, seed))


@pytest.mark.parametrize(
    "change", [{"cycle__robust_gap__smoothing": 0.9}, {"cycle__plateau__smallest_gain": 0.2}]
)
def test_a_warm_up_in_which_the_trigger_counted_otherwise_is_passed_over(
    change: dict, tmp_path: Path
) -> None:
    trained(tiny_config(monitor__every_epochs=1), "pgd_at", tmp_path / "warmup.safetensors")
    epochs: list[int] = []

    train_one(
        tiny_base(),
        tiny_stream(),
        tiny_config(monitor__every_epochs=1, **change),
        training="forget_relearn",
        seed=0,
        warmup=ResumePoint(tmp_path / "warmup.safetensors"),
        log=lambda step, _: epochs.append(step),
    )

    assert min(epochs) == 1


def test_weight_perturbation_takes_up_no_plain_warm_up(tmp_path: Path) -> None:
    trained(tiny_config(), "pgd_at", tmp_path / "warmup.safetensors")

    found = trained(tiny_config(), "awp", tmp_path / "warmup.safetensors")

    assert same(found, trained(tiny_config(), "awp", None))
