import pytest
import torch
from torch.nn.functional import cross_entropy

from relearn.data.batches import Batches
from relearn.errors import TrainingError
from relearn.models.checkpoint import build_fresh, capture
from relearn.training.device import PLAIN_CPU
from relearn.training.distributed import Shard, train_in_parallel
from relearn.training.supervised import Task, train_classifier


def test_shares_cover_each_batch_and_weigh_to_its_mean_loss(split):
    given = {"batch_size": 4, "seed": 5, "mean": (0.5,), "std": (0.25,)}
    shards = [Shard(Batches(split.images, split.labels, **given), rank, 3) for rank in range(3)]
    whole = Batches(split.images, split.labels, **given)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(576, 4))
    sizes = []
    for together, *parts in zip(whole.epoch(0), *(s.epoch(0) for s in shards), strict=True):
        losses = [
            cross_entropy(net(x), y) * s.weight for (x, y), s in zip(parts, shards, strict=True)
        ]
        expected = cross_entropy(net(together[0]), together[1])
        torch.testing.assert_close(sum(losses) / 3, expected)
        sizes.append([round(s.weight * len(together[1]) / 3) for s in shards])
    assert sizes[0] == [2, 1, 1]
    assert sizes[-1] == [1, 0, 0]  # 41 images: the last batch has one


def test_two_processes_train_the_net_of_one_process(split, architecture, train_config, tmp_path):
    task = Task(architecture, split, train_config(epochs=2, optimizer="sgd"), seed=0)
    net = build_fresh(architecture, seed=0)
    start, rows, single = capture(net, architecture), [], []
    found = train_in_parallel(
        start,
        task,
        folder=tmp_path,
        devices=2,
        device="cpu",
        precision="fp32",
        log=lambda step, values: rows.append((step, values["epoch_loss"])),
    )
    train_classifier(
        net,
        task,
        device=PLAIN_CPU,
        log=lambda step, values: single.append((step, values["epoch_loss"])),
    )
    for name, value in net.state_dict().items():
        torch.testing.assert_close(found.weights[name], value, rtol=1e-4, atol=1e-6)
    assert [step for step, _ in rows] == [3, 6]
    assert [v for _, v in rows] == pytest.approx([v for _, v in single], rel=0.1)
    reference = task.batches(PLAIN_CPU)
    for epoch in range(2):
        list(reference.epoch(epoch))
    assert found.provenance == {"steps": 6, "order_digest": reference.order_digest}


@pytest.mark.full
def test_a_fault_in_a_worker_is_one_line(split, architecture, train_config, tmp_path):
    train = train_config(epochs=2, optimizer="sgd", learning_rate=1e30, warmup_epochs=0.0)
    task = Task(architecture, split, train, seed=0, where="pretrain: seed 0")
    start = capture(build_fresh(architecture, seed=0), architecture)
    said = r"execution\.devices: a worker failed: pretrain: seed 0: the loss became"
    with pytest.raises(TrainingError, match=said):
        train_in_parallel(start, task, folder=tmp_path, devices=2, device="cpu", precision="fp32")
