import hashlib

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from relearn.data.batches import Batches
from relearn.errors import TrainingError
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.provenance import digest_tensors
from relearn.training.loop import Windows, fit
from relearn.training.optimizers import make_optimizer, make_schedule
from relearn.training.resume import NoResume, ResumePoint
from relearn.training.supervised import Task, train_classifier

DROPOUT = Architecture(
    "vision_transformer",
    1,
    24,
    4,
    {
        "patch_size": 8,
        "width": 8,
        "depth": 1,
        "heads": 2,
        "mlp_ratio": 2.0,
        "stem": "patch",
        "dropout": 0.3,
    },
)


def batches_of(split, **changes):
    given = {"batch_size": 16, "seed": 5, "mean": (0.5,), "std": (0.25,), "shift": 1}
    return Batches(split.images, split.labels, **(given | changes))


def parts(split, architecture, optimizer="adam", epochs=4):
    net, batches = build_fresh(architecture, seed=1), batches_of(split)
    trainer = make_optimizer(
        net.parameters(), name=optimizer, learning_rate=0.01, weight_decay=0.01, momentum=0.9
    )
    schedule = make_schedule(
        trainer,
        name="cosine",
        epochs=epochs,
        steps_per_epoch=batches.steps_per_epoch,
        warmup_epochs=1,
    )
    return net, batches, trainer, schedule


def everything(net, optimizer, schedule, batches):
    """Digest of weights, moments, counters, rate and sample order."""
    tensors = {f"net.{k}": v for k, v in net.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{number}.{k}": v for k, v in state.items() if isinstance(v, torch.Tensor)}
    text = f"{digest_tensors(tensors)}{schedule.get_last_lr()}{batches.order_digest}"
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_training_ends_where_an_uninterrupted_one_ends(
    optimizer, stop_after, split, tmp_path
):
    net, batches, trainer, schedule = parts(split, DROPOUT, optimizer)
    fit(net, batches, cross_entropy, trainer, epochs=4, schedule=schedule)
    whole = everything(net, trainer, schedule, batches)

    class Pulled(Exception):
        pass

    def pull_the_plug(state):
        if state.step > stop_after * batches.steps_per_epoch:
            raise Pulled

    point = ResumePoint(tmp_path / "resume.safetensors")
    net, batches, trainer, schedule = parts(split, DROPOUT, optimizer)
    windows = Windows(after_step=pull_the_plug)
    with pytest.raises(Pulled):
        fit(
            net,
            batches,
            cross_entropy,
            trainer,
            epochs=4,
            schedule=schedule,
            resume=point,
            windows=windows,
        )
    torch.rand(17)  # another process would have other global numbers
    net, batches, trainer, schedule = parts(split, DROPOUT, optimizer)
    epochs = []
    state = fit(
        net,
        batches,
        cross_entropy,
        trainer,
        epochs=4,
        schedule=schedule,
        resume=point,
        windows=Windows(before_epoch=lambda s: epochs.append(s.epoch)),
    )
    assert epochs == list(range(stop_after, 4))
    assert state.epoch == 4
    assert everything(net, trainer, schedule, batches) == whole


def test_a_finished_training_is_not_trained_again(split, architecture, tmp_path):
    point = ResumePoint(tmp_path / "resume.safetensors")
    for expected in (12, 0):
        net, batches, trainer, schedule = parts(split, architecture)
        steps = []
        fit(
            net,
            batches,
            cross_entropy,
            trainer,
            epochs=4,
            schedule=schedule,
            resume=point,
            windows=Windows(after_step=lambda s, steps=steps: steps.append(s.step)),
        )
        assert len(steps) == expected


def test_the_loop_is_the_textbook_loop(split, architecture):
    net, batches, _, _ = parts(split, architecture)
    other = build_fresh(architecture, seed=1)
    fit(
        net,
        batches,
        cross_entropy,
        torch.optim.SGD(net.parameters(), lr=0.05),
        epochs=2,
        resume=NoResume(),
    )
    again, plain = batches_of(split), torch.optim.SGD(other.parameters(), lr=0.05)
    for epoch in range(2):
        for x, y in again.epoch(epoch):
            plain.zero_grad()
            cross_entropy(other(x), y).backward()
            plain.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_windows_open_in_order_and_count_what_is_done(split, architecture):
    net, batches, trainer, _ = parts(split, architecture)
    seen = []

    def window(name):
        return lambda state: seen.append((name, state.epoch, state.step))

    names = ("before_epoch", "after_backward", "after_step", "after_epoch")
    fit(
        net,
        batches,
        cross_entropy,
        trainer,
        epochs=2,
        windows=Windows(**{name: window(name) for name in names}),
    )
    steps = [(name, 0, s + (name == "after_step")) for s in range(3) for name in names[1:3]]
    first = [("before_epoch", 0, 0), *steps, ("after_epoch", 1, 3)]
    assert seen[: len(first)] == first
    assert seen[len(first)] == ("before_epoch", 1, 3)
    assert seen[-1] == ("after_epoch", 2, 6)


def test_gradients_are_there_and_clipped_after_the_backward_pass(split, architecture):
    net, batches, trainer, _ = parts(split, architecture)
    norms = []

    def look(state):
        grads = [p.grad for p in state.model.parameters()]
        norms.append(float(torch.nn.utils.get_total_norm(grads)))

    fit(
        net,
        batches,
        cross_entropy,
        trainer,
        epochs=1,
        max_gradient_norm=1e-3,
        windows=Windows(after_backward=look),
    )
    assert norms == pytest.approx([1e-3] * 3, rel=1e-2)


def test_the_log_gets_the_mean_loss_over_samples_once_an_epoch(split, architecture):
    net, batches, _, _ = parts(split, architecture)
    frozen = torch.optim.SGD(net.parameters(), lr=0.0)
    rows = []
    fit(net, batches, cross_entropy, frozen, epochs=2, log=lambda s, v: rows.append((s, v)))
    images = torch.cat([x for x, _ in batches_of(split).epoch(1)])
    labels = torch.cat([y for _, y in batches_of(split).epoch(1)])
    assert [step for step, _ in rows] == [3, 6]
    with torch.no_grad():
        expected = float(cross_entropy(net(images), labels))
    assert rows[1][1]["epoch_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_arm_seed_and_epoch(value, split, architecture):
    net, batches, trainer, _ = parts(split, architecture)

    def loss(logits, labels):
        broken = float(value) if loss.calls == 4 else 1.0
        loss.calls += 1
        return cross_entropy(logits, labels) * broken

    loss.calls = 0
    said = r"zap: arm iid, seed 7: the loss became .* in epoch 2, .* step 5; lower zap\.train\."
    with pytest.raises(TrainingError, match=said):
        fit(net, batches, loss, trainer, epochs=3, where="zap: arm iid, seed 7")


def test_books_are_kept_in_the_resume_point(split, architecture, tmp_path):
    class Rows:
        def __init__(self):
            self.rows = []

        def state(self):
            return {"rows": self.rows}

        def restore(self, state):
            self.rows = list(state["rows"])

    point = ResumePoint(tmp_path / "resume.safetensors")
    for _ in range(2):
        net, batches, trainer, schedule = parts(split, architecture)
        rows = Rows()
        fit(
            net,
            batches,
            cross_entropy,
            trainer,
            epochs=2,
            schedule=schedule,
            resume=point,
            books=rows,
            windows=Windows(after_epoch=lambda s, rows=rows: rows.rows.append(s.epoch)),
        )
        assert rows.rows == [1, 2]


def test_training_does_not_touch_the_global_random_numbers(split):
    net, batches, trainer, _ = parts(split, DROPOUT)
    before = torch.random.get_rng_state()
    fit(net, batches, cross_entropy, trainer, epochs=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_batch_norm_buffers_resume_too(split, tmp_path):
    net_of = Architecture("preact_resnet", 1, 24, 4, {"width": 4, "depth": 8})

    def train(epochs, point):
        net, batches, trainer, schedule = parts(split, net_of)
        fit(net, batches, cross_entropy, trainer, epochs=epochs, schedule=schedule, resume=point)
        return digest_tensors(net.state_dict())

    point = ResumePoint(tmp_path / "resume.safetensors")
    train(2, point)
    assert train(4, point) == train(4, NoResume())


def test_a_classifier_learns_and_ends_with_the_averaged_weights(split, architecture, train_config):
    task = Task(architecture, split, train_config(epochs=12, learning_rate=0.01), seed=0)
    averaged = Task(architecture, split, task.train, seed=0, average_decay=0.9)
    from relearn.training.device import PLAIN_CPU

    nets, judged = [], []
    for one in (task, averaged):
        net = build_fresh(architecture, seed=0)
        losses = []
        train_classifier(
            net,
            one,
            device=PLAIN_CPU,
            log=lambda s, v, losses=losses: losses.append(v["epoch_loss"]),
            after_epoch=lambda s: judged.append(digest_tensors(s.model.state_dict())),
        )
        nets.append(net)
    assert losses[-1] < 0.6 * losses[0]
    assert judged[11] == digest_tensors(nets[0].state_dict())
    assert judged[23] == digest_tensors(nets[1].state_dict())
    assert judged[11] != judged[23]
    x, y = task.batches(PLAIN_CPU).whole()
    assert float((nets[0].eval()(x).argmax(1) == y).float().mean()) > 0.9


def test_an_averaged_training_resumes_bit_for_bit(split, architecture, train_config, tmp_path):
    from relearn.training.device import PLAIN_CPU

    def train(epochs, point):
        net = build_fresh(architecture, seed=0)
        train = train_config(epochs=epochs, schedule="constant")
        task = Task(architecture, split, train, seed=0, average_decay=0.9)
        train_classifier(net, task, device=PLAIN_CPU, resume=point)
        return digest_tensors(net.state_dict())

    point = ResumePoint(tmp_path / "resume.safetensors")
    train(1, point)
    assert train(3, point) == train(3, NoResume())


def test_a_log_gets_no_progress_bar(split, architecture, capsys):
    net, batches, trainer, _ = parts(split, architecture)
    fit(net, batches, cross_entropy, trainer, epochs=1, progress="pretrain")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_frozen_net_cannot_be_trained():
    from relearn.errors import ParameterError

    net = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ParameterError, match="no weights that can be trained"):
        make_optimizer(
            net.parameters(), name="adam", learning_rate=1.0, weight_decay=0.0, momentum=0.0
        )


def test_where_the_loss_is_looked_at_seldom_nothing_broken_is_kept(split, architecture, tmp_path):
    from relearn.training.device import Device

    net, batches, trainer, _ = parts(split, architecture)
    point = ResumePoint(tmp_path / "resume.safetensors")
    elsewhere = Device("cpu:0", "fp32")  # as a GPU: any name but the plain CPU's

    def loss(logits, labels):
        return cross_entropy(logits, labels) * float("nan")

    with pytest.raises(TrainingError, match="epoch 1, at or before step 3"):
        fit(net, batches, loss, trainer, epochs=2, device=elsewhere, resume=point)
    assert point.load() is None
