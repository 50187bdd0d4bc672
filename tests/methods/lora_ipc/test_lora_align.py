"""Alignment of the last layer on drawn features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tiny_lora_ipc import delivered, learn, learnt, tiny_config
from torch.nn import functional

from relearn.methods.lora_ipc.align import align_head, start_of_alignment
from relearn.methods.lora_ipc.class_statistics import ClassStatistics, describe_class

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.stream_config import AlignmentConfig

_CLASSES = (0, 1, 3)


def features() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(4)
    labels = torch.tensor(_CLASSES).repeat_interleave(20)
    centres = torch.randn(4, 5, generator=draw)
    return centres[labels] + 0.3 * torch.randn(60, 5, generator=draw), labels


def statistics() -> dict[int, ClassStatistics]:
    found, labels = features()
    return {
        c: describe_class(found[labels == c], centroids=1, seed=0, door="test") for c in _CLASSES
    }


def knobs() -> AlignmentConfig:
    changes = {"epochs": 60, "per_centroid": 30, "batch_size": 30, "learning_rate": 0.1}
    return tiny_config().alignment.model_copy(update=changes)


def badly_scaled() -> dict[str, torch.Tensor]:
    """Return a last layer in which one class drowns the others."""
    found, labels = features()
    weight = torch.zeros(4, 5)
    for label in _CLASSES:
        weight[label] = found[labels == label].mean(0)
    bias = torch.zeros(4)
    bias[0] = 15.0
    return {"weight": weight, "bias": bias}


def test_alignment_brings_classes_of_different_tasks_onto_one_scale():
    start, (found, labels) = badly_scaled(), features()
    aligned = align_head(start, statistics(), knobs(), seed=0, task=1)

    def accuracy(layer: dict[str, torch.Tensor]) -> float:
        logits = functional.linear(found, layer["weight"], layer["bias"])
        return float((logits.argmax(1) == labels).double().mean())

    assert accuracy(start) < 0.5
    assert accuracy(aligned) > 0.9


def test_rows_of_classes_not_learnt_yet_keep_every_bit_and_the_start_is_not_changed():
    start = badly_scaled()
    before = {name: tensor.clone() for name, tensor in start.items()}
    aligned = align_head(start, statistics(), knobs(), seed=0, task=1)
    assert all(torch.equal(aligned[name][2], before[name][2]) for name in before)
    assert all(torch.equal(start[name], before[name]) for name in before)


def test_alignment_is_a_function_of_seed_and_task():
    def run(seed: int, task: int) -> torch.Tensor:
        return align_head(badly_scaled(), statistics(), knobs(), seed=seed, task=task)["weight"]

    assert torch.equal(run(0, 1), run(0, 1))
    assert not torch.equal(run(0, 1), run(1, 1))
    assert not torch.equal(run(0, 1), run(0, 2))


def test_new_rows_begin_as_trained_and_others_as_aligned():
    trained = {"weight": torch.full((3, 2), 1.0), "bias": torch.full((3,), 1.0)}
    aligned = {"weight": torch.full((3, 2), 2.0), "bias": torch.full((3,), 2.0)}
    assert start_of_alignment(trained, None, [2])["bias"].tolist() == [1, 1, 1]
    assert start_of_alignment(trained, aligned, [2])["bias"].tolist() == [2, 2, 1]


def test_one_training_is_read_with_and_without_alignment_as_two_trainings_would_be():
    without = learn("lorac_ipc", alignment__enabled=False)
    both = learnt("lorac_ipc")
    assert both.accuracy["lorac_ipc_no_tap"] == without.accuracy["lorac_ipc"]
    assert all(
        torch.equal(both.net[name], t) for name, t in without.net.items() if "head" not in name
    )
    one, other = (delivered(arm).checkpoint.weights for arm in ("lorac_ipc", "lorac_ipc_no_tap"))
    changed = {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}
    assert changed == {"head.weight", "head.bias"}


@pytest.mark.parametrize("arm", ["lorac_ipc", "shared_lora"])
@pytest.mark.parametrize("first", [True, False])
def test_the_first_task_is_aligned_where_that_is_wanted(arm: str, first: bool):
    trained = learn(arm, tasks__learn=1, alignment__first_task=first)
    plain, aligned = trained.heads["plain"], trained.heads["aligned"]
    assert plain.keys() == aligned.keys()
    changed = {name for name, tensor in plain.items() if not torch.equal(tensor, aligned[name])}
    assert changed == ({"weight", "bias"} if first else set())
