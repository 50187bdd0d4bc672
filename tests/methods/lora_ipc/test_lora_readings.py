"""One trained model asked in several ways."""

from __future__ import annotations

import pytest
import torch
from tiny_lora_ipc import delivered, learn, learnt, tiny_base, tiny_config, tiny_stream

from relearn.data.batches import to_float
from relearn.errors import CheckpointError
from relearn.evaluation.classification import predict
from relearn.methods.lora_ipc import task_inference
from relearn.methods.lora_ipc.inference import inference_module
from relearn.methods.lora_ipc.samples import draw_tasks
from relearn.methods.lora_ipc.state import restore_state
from relearn.models.checkpoint import build


def all_test_images() -> torch.Tensor:
    config = tiny_config()
    tasks = draw_tasks(tiny_stream(), config.tasks, config.samples, seed=0)
    return torch.cat([split.images for split in tasks.test])


@pytest.mark.parametrize("arm", ["lorac_ipc", "lorac_ipc_no_tap", "shared_lora", "sequential_full"])
def test_one_merged_net_answers_as_was_measured(arm: str):
    result = delivered(arm)
    shape = result.checkpoint.architecture
    logits = predict(build(result.checkpoint), all_test_images(), mean=shape.mean, std=shape.std)
    assert torch.equal(logits.argmax(1), result.predictions["predicted"])
    probabilities = inference_module(result.checkpoint)(all_test_images())
    assert torch.equal(probabilities.argmax(1), result.predictions["predicted"])


def test_inferred_tasks_and_their_answers_are_those_of_the_library():
    trained = learnt("lorac_ipc")
    body, shape = trained.body, tiny_base().architecture
    adapters = restore_state(build(tiny_base()), body["tensors"], body["header"], where="test")
    images = to_float(all_test_images(), shape.mean, shape.std)
    found = task_inference.predict(adapters, images, trained.centroids())
    told = trained.predictions["lorac_ipc_tii"]
    assert torch.equal(found.tasks, told["inferred_task"])
    assert torch.equal(found.classes, told["predicted"])


def test_tasks_are_told_only_where_they_were_inferred():
    assert bool((delivered("lorac_ipc").predictions["inferred_task"] == -1).all())
    told = delivered("lorac_ipc_tii").predictions
    share = float((told["inferred_task"] == told["task"]).double().mean())
    assert learnt("lorac_ipc").task_accuracy["lorac_ipc_tii"][-1] == pytest.approx(share)


def test_the_vote_over_a_batch_is_within_one_task_and_labelled():
    trained = learn("lorac_ipc", task_inference__batch_wise=True)
    told = trained.predictions["lorac_ipc_batch_wise"]
    for task in range(3):
        assert len(told["inferred_task"][told["task"] == task].unique()) == 1
    voters = learn(
        "lorac_ipc", task_inference__batch_wise=True, task_inference__batch_wise_images=1
    )
    alone = voters.predictions["lorac_ipc_batch_wise"]["inferred_task"]
    assert torch.equal(alone, voters.predictions["lorac_ipc_tii"]["inferred_task"])


def test_an_arm_that_infers_tasks_is_not_rolled_out_as_one_net():
    with pytest.raises(CheckpointError, match="lorac_ipc_tii"):
        inference_module(delivered("lorac_ipc_tii").checkpoint)
