"""Training from the probe's optimum: where it starts, what stays, what is kept, what it costs."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from tiny_bodies import OPTIONS, separable, tiny_architecture
from torch import nn

from relearn.data.images import Split
from relearn.errors import CheckpointError, ParameterError, TrainingError
from relearn.evaluation.classification import accuracy_of, predict
from relearn.evaluation.efficiency import forward_flops
from relearn.methods.last_layer_probe.blocks import (
    blocks_of,
    put_head,
    set_modes,
    thaw_all,
    thaw_last,
)
from relearn.methods.last_layer_probe.bodies import body_digest, body_of
from relearn.methods.last_layer_probe.features import extract
from relearn.methods.last_layer_probe.full_training import (
    choose_length_and_rate,
    train_whole,
    with_rate,
)
from relearn.methods.last_layer_probe.net_training import Training, step_flops, train_net
from relearn.methods.last_layer_probe.tap_points import tap_points
from relearn.methods.last_layer_probe.unfreeze import Road, paired_error, unfreeze
from relearn.models.architectures import Architecture, build_fresh
from relearn.models.heads import find_head
from relearn.provenance import digest_tensors
from relearn.training.closed_form import ridge_head
from relearn.training.config import GridConfig, TrainConfig
from relearn.training.resume import ResumePoint

SETTINGS = TrainConfig(
    epochs=3,
    batch_size=16,
    optimizer="adam",
    learning_rate=0.01,
    weight_decay=0.0,
    momentum=0.0,
    schedule="cosine",
    warmup_epochs=0,
    shift_pixels=0,
    flip=False,
    label_smoothing=0.0,
    max_gradient_norm=0.0,
)
NETS = tuple(name for name in OPTIONS if name not in ("convnet3", "vision_transformer"))


def training(name: str = "convnet5", **changed: object) -> Training:
    """Return a small task for a small net."""
    whole = {
        "architecture": tiny_architecture(name),
        "train": separable(48, 0),
        "validation": separable(60, 1),
        "settings": SETTINGS,
        "seed": 0,
        "batch_norm": "frozen",
        **changed,
    }
    return Training(**whole)  # type: ignore[arg-type]


def probed(name: str = "convnet5") -> nn.Module:
    """Return a fresh net whose head is the optimum of a ridge probe."""
    architecture = tiny_architecture(name)
    net = build_fresh(architecture, seed=0)
    body, split = body_of(net, architecture), separable(48, 0)
    taps = tap_points(body, split.images[:2])
    features = extract(body, split.images, taps)["features"]
    put_head(net, *ridge_head(features, split.labels, classes=3, penalty=1.0))
    return net


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of all weights and buffers."""
    return copy.deepcopy(dict(net.state_dict()))


@pytest.mark.parametrize("name", NETS)
def test_at_step_zero_the_net_gives_exactly_the_logits_of_the_probe(name: str) -> None:
    net, split = probed(name), separable(60, 1)
    architecture = tiny_architecture(name)
    body = body_of(net, architecture)

    features = extract(body, split.images, tap_points(body, split.images[:2]), batch=512)
    logits = predict(net, split.images, mean=architecture.mean, std=architecture.std)

    with torch.no_grad():
        assert torch.equal(find_head(net).module(features["features"]), logits)
    found = train_net(net, training(name), thaw_last(net, 1, layer_factor=0.4))
    assert found.rows[0]["validation_accuracy"] == accuracy_of(logits, split.labels)
    assert found.rows[0]["step"] == 0


def test_a_head_for_other_classes_is_put_in_and_the_body_keeps_every_bit() -> None:
    architecture = tiny_architecture("convnet5", classes=7)
    net = build_fresh(architecture, seed=0)
    before = body_digest(body_of(net, architecture))

    head = put_head(net, torch.ones(2, 16), torch.tensor([1.0, 2.0]))

    assert (head.classes, head.features) == (2, 16)
    assert torch.equal(find_head(net).module.bias.data, torch.tensor([1.0, 2.0]))
    assert body_digest(body_of(net, architecture)) == before
    with pytest.raises(CheckpointError, match=r"'head' reads 16 features and has a bias, got"):
        put_head(net, torch.ones(2, 15), torch.zeros(2))
    with pytest.raises(CheckpointError, match="has no bias"):
        put_head(nn.Sequential(nn.Linear(4, 2, bias=False)), torch.ones(2, 4), torch.zeros(2))


@pytest.mark.parametrize("name", [*NETS, "vision_transformer"])
def test_every_parameter_belongs_to_one_block(name: str) -> None:
    net = build_fresh(tiny_architecture(name), seed=0)

    blocks = blocks_of(net)

    owned = [parameter for block in blocks for parameter in block.parameters]
    assert sorted(owned) == sorted(name for name, _ in net.named_parameters())
    assert blocks[-1].name == "head"
    if name == "preact_resnet":  # the norm before the last layer goes with the block before it
        assert "norm.weight" in blocks[-2].parameters
    if name == "vision_transformer":
        assert {"class_token", "positions"} <= set(blocks[0].parameters)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_what_is_not_thawed_keeps_every_bit_buffers_included(count: int) -> None:
    net = probed("preact_resnet")
    before = state(net)
    thawed = thaw_last(net, count, layer_factor=0.4)

    task = training("preact_resnet", keep="last", batch_norm="learn")
    train_net(net, task, thawed)

    after = net.state_dict()
    owned = tuple(f"{block.name}." for block in (*thawed.blocks, thawed.head))
    inside = {key for key in after if key.startswith(owned) or key in thawed.rates}
    inside |= {key for key in after if count and key.startswith("norm.")}
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert changed <= inside
    assert {key for key in thawed.rates if before[key].ndim > 1} <= changed
    assert count == 0 or any("running_mean" in key for key in changed)


def test_frozen_batch_norm_keeps_its_statistics_and_is_trained_all_the_same() -> None:
    net = probed()
    before = state(net)

    train_net(net, training(keep="last"), thaw_all(net))

    after = net.state_dict()
    for name in after:
        still = torch.equal(after[name], before[name])
        assert still == ("running" in name or "num_batches" in name), name


def test_modes_are_set_below_and_above_the_border() -> None:
    net = build_fresh(tiny_architecture("preact_resnet"), seed=0)

    set_modes(net, thaw_last(net, 1, layer_factor=1.0), batch_norm="learn")

    assert net.norm.training  # type: ignore[union-attr]
    assert net.stages[2][0].norm1.training  # type: ignore[index, union-attr]
    assert not net.stages[1][0].norm1.training  # type: ignore[index, union-attr]
    set_modes(net, thaw_last(net, 1, layer_factor=1.0), batch_norm="frozen")
    assert not net.stages[2][0].norm1.training  # type: ignore[index, union-attr]
    set_modes(net, thaw_all(net), batch_norm="learn")
    assert all(module.training for module in net.modules())


def test_rates_fall_by_the_factor_from_block_to_block() -> None:
    net = probed("mlp")
    thawed = thaw_last(net, 2, layer_factor=0.25)

    assert thawed.rates["head.weight"] == thawed.rates["hidden.2.bias"] == 1.0
    assert thawed.rates["hidden.0.weight"] == 0.25

    # one step of plain SGD moves each tensor by rate times gradient
    whole = SETTINGS.model_copy(
        update={"optimizer": "sgd", "epochs": 1, "batch_size": 48, "schedule": "constant"}
    )
    before = state(net)
    train_net(net, training("mlp", settings=whole, keep="last"), thawed)
    moved = {k: (v - before[k]).norm() for k, v in net.state_dict().items()}
    flat = probed("mlp")
    train_net(
        flat,
        training("mlp", settings=whole, keep="last"),
        thaw_last(flat, 2, layer_factor=1.0),
    )
    even = {k: (v - before[k]).norm() for k, v in flat.state_dict().items()}
    assert float(moved["hidden.0.weight"] / even["hidden.0.weight"]) == pytest.approx(
        0.25, rel=1e-3
    )
    assert float(moved["hidden.2.weight"] / even["hidden.2.weight"]) == pytest.approx(1, rel=1e-3)


def test_the_best_epoch_is_kept_and_is_never_worse_than_the_start() -> None:
    net = probed()
    wild = SETTINGS.model_copy(update={"learning_rate": 3.0})

    before = state(net)
    found = train_net(net, training(settings=wild), thaw_all(net))

    best = max(found.rows, key=lambda r: (r["validation_accuracy"], -r["validation_loss"]))
    assert found.kept_epoch == best["epoch"]
    assert found.validation_accuracy >= found.rows[0]["validation_accuracy"]
    assert float(found.hits.double().mean()) == found.validation_accuracy
    held, made = separable(60, 1), tiny_architecture()
    logits = predict(net, held.images, mean=made.mean, std=made.std)
    assert accuracy_of(logits, held.labels) == found.validation_accuracy
    if found.kept_epoch == 0:
        assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_training_counts_what_is_really_computed() -> None:
    architecture = Architecture("mlp", 1, 8, 3, {"width": 32, "depth": 2}, (0.4,), (0.3,))
    net = build_fresh(architecture, seed=0)
    forward = forward_flops(net, (1, 8, 8))
    layers = [2 * 64 * 32, 2 * 32 * 32, 2 * 32 * 3]

    thaw_all(net)
    whole = step_flops(net, architecture)
    thaw_last(net, 0, layer_factor=1.0)
    head = step_flops(net, architecture)
    thaw_last(net, 1, layer_factor=1.0)
    one = step_flops(net, architecture)

    assert forward == sum(layers)
    # weights of each layer, inputs of each but the first that is trained
    assert whole == forward + sum(layers) + sum(layers[1:])
    assert head == forward + layers[2]
    assert one == forward + sum(layers[1:]) + layers[2]
    assert all(parameter.grad is None for parameter in net.parameters())


def test_costs_add_up() -> None:
    net = probed()
    found = train_net(net, training(), thaw_last(net, 1, layer_factor=0.4))

    costs = found.costs()
    assert costs["steps"] == 9
    assert costs["train_flops"] == step_flops(net, tiny_architecture()) * 3 * 48
    assert costs["trained_parameters"] == sum(
        p.numel() for n, p in net.named_parameters() if n.startswith(("blocks.4", "head"))
    )
    assert costs["train_seconds"] > 0
    assert costs["validation_seconds"] > 0


class Stop(Exception):
    """Stands for a kill."""


def test_a_training_that_was_cut_off_ends_where_an_uninterrupted_one_ends(tmp_path) -> None:
    def killed(step, values):
        if step >= 6 and "epoch_loss" not in values:
            raise Stop

    point = ResumePoint(tmp_path / "resume.safetensors")
    net = probed()
    with pytest.raises(Stop):
        train_net(net, training(), thaw_all(net), resume=point, log=killed)
    assert point.path.exists()
    again, whole = probed(), probed()
    resumed = train_net(again, training(), thaw_all(again), resume=point)
    straight = train_net(whole, training(), thaw_all(whole))

    assert digest_tensors(again.state_dict()) == digest_tensors(whole.state_dict())
    assert resumed.rows == straight.rows
    assert resumed.order_digest == straight.order_digest
    assert resumed.kept_epoch == straight.kept_epoch


def test_a_road_that_was_cut_off_ends_where_an_uninterrupted_one_ends(tmp_path) -> None:
    road = Road(most_steps=2, smallest_gain=0.0, sigmas=0.0)
    point = ResumePoint(tmp_path / "resume.safetensors", key="road")

    def killed(step, values):
        if step >= 6 and any(name.startswith("blocks_2") for name in values):
            raise Stop

    task = training(settings=SETTINGS.model_copy(update={"learning_rate": 0.003}))
    with pytest.raises(Stop):
        unfreeze(probed(), task, road, resume=point, log=killed)
    again, whole = probed(), probed()
    resumed = unfreeze(again, task, road, resume=point)
    straight = unfreeze(whole, task, road)

    assert digest_tensors(again.state_dict()) == digest_tensors(whole.state_dict())
    assert [(s.blocks, s.gain, s.kept) for s in resumed.steps] == [
        (s.blocks, s.gain, s.kept) for s in straight.steps
    ]
    assert list(tmp_path.iterdir()) == []


def test_unfreezing_goes_on_while_it_pays_and_keeps_the_best() -> None:
    net, task = probed(), training(settings=SETTINGS.model_copy(update={"epochs": 6}))
    logged: set[str] = set()

    found = unfreeze(
        net,
        task,
        Road(smallest_gain=0.01, sigmas=1.0),
        log=lambda step, values: logged.update(values),
    )

    kept = [step for step in found.steps if step.kept]
    assert kept[-1].blocks == found.kept_blocks > 0
    accuracies = [step.validation_accuracy for step in kept]
    assert accuracies == sorted(accuracies)
    assert all(step.gain > step.needed >= 0.01 for step in kept[1:])
    assert all(not step.kept for step in found.steps if step.blocks > found.kept_blocks)
    assert len(found.steps) <= kept[-1].blocks + 2  # the first that does not pay ends the road
    held, made = separable(60, 1), tiny_architecture()
    logits = predict(net, held.images, mean=made.mean, std=made.std)
    assert accuracy_of(logits, held.labels) == accuracies[-1]
    assert "blocks_1.validation_accuracy" in logged
    assert found.costs()["train_flops"] == sum(step.flops for step in found.steps)
    assert found.steps[1].as_row()["trained_parameters"] > 0
    assert found.end_digest != found.start_digest


def test_where_nothing_counts_the_probe_comes_back_bit_for_bit() -> None:
    net = probed()
    before = state(net)

    found = unfreeze(net, training(), Road(smallest_gain=0.99))

    assert (found.kept_blocks, found.stopped_because) == (0, "gain")
    assert [step.blocks for step in found.steps] == [0, 1]
    assert found.end_digest == found.start_digest
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_the_budget_ends_the_road_before_a_step_and_not_after() -> None:
    always = {"smallest_gain": 0.0, "sigmas": 0.0}
    net, task = probed(), training()
    thaw_last(net, 1, layer_factor=0.4)
    first = step_flops(net, task.architecture) * 48 * 3

    none = unfreeze(probed(), task, Road(budget_flops=first - 1, **always))
    one = unfreeze(probed(), task, Road(budget_flops=first, **always))
    late = unfreeze(probed(), task, Road(budget_seconds=1e-9, **always))

    assert ([s.blocks for s in none.steps], none.stopped_because) == ([0], "budget_flops")
    assert ([s.blocks for s in one.steps], one.stopped_because) == ([0, 1], "budget_flops")
    assert ([s.blocks for s in late.steps], late.stopped_because) == ([0, 1], "budget_seconds")


def test_every_step_begins_at_the_probe() -> None:
    starts: list[float] = []

    def log(step, values):
        starts.extend(v for k, v in values.items() if step == 0 and k.endswith("n_loss"))

    unfreeze(probed(), training(), Road(smallest_gain=0.0, sigmas=0.0), log=log)

    assert len(starts) > 1
    assert len(set(starts)) == 1


def test_the_standard_error_is_that_of_the_paired_difference() -> None:
    first = torch.tensor([True, True, False, True, True, False])
    second = torch.tensor([True, False, False, False, True, True])

    differences = first.double() - second.double()
    spread = sum(float(d - differences.mean()) ** 2 for d in differences)
    assert paired_error(first, second) == pytest.approx(math.sqrt(spread / (6 * 5)))
    assert paired_error(first, first) == 0.0
    assert paired_error(first[:1], second[:1]) == math.inf


class Slipping(nn.Module):
    """Writes what no state dict holds, so that no roll-back can undo it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(64, 4), nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        self.calls += 1
        logits: torch.Tensor = self.head(self.inner(images.flatten(1)))
        return logits


def test_a_roll_back_that_does_not_lead_back_is_an_error() -> None:
    with pytest.raises(TrainingError, match="rolling back did not lead to the body of the start"):
        unfreeze(Slipping(), training("mlp"), Road(smallest_gain=0.99))


def test_full_training_learns_and_fine_tuning_starts_at_the_probe() -> None:
    task = training(batch_norm="learn", settings=SETTINGS.model_copy(update={"epochs": 8}))
    fresh, tuned = build_fresh(tiny_architecture(), seed=1), probed()

    scratch, fine = train_whole(fresh, task), train_whole(tuned, task)

    assert scratch.validation_accuracy > 0.8
    assert fine.validation_accuracy >= fine.rows[0]["validation_accuracy"] > 1 / 3
    assert scratch.order_digest == fine.order_digest
    assert scratch.trained_parameters == sum(p.numel() for p in fresh.parameters())


def test_length_and_rate_are_chosen_together_and_the_grid_widens() -> None:
    asked: list[tuple[float, int]] = []

    def score(rate: float, epochs: int) -> float:
        asked.append((rate, epochs))
        return -abs(math.log10(rate) + 1) - 0.1 * abs(epochs - 4)

    grid = GridConfig(centre=0.01, factor=10.0, points=3, widenings=2)
    found = choose_length_and_rate(score, grid, [8, 4, 4])

    assert (found.epochs, found.choice.rate, found.choice.at_border) == (4, 0.1, False)
    assert (1.0, 4) in asked  # 0.1 was at the border
    assert set(found.tried) == {4, 8}
    assert choose_length_and_rate(lambda rate, epochs: 0.0, grid, [8, 4]).epochs == 4
    with pytest.raises(ParameterError, match=r"tuning\.epochs: got \[\]"):
        choose_length_and_rate(score, grid, [])


def test_tuning_reaches_the_settings() -> None:
    warm = training(settings=SETTINGS.model_copy(update={"warmup_epochs": 3.0}))

    changed = with_rate(warm, 0.5, 2).settings

    assert (changed.learning_rate, changed.epochs, changed.warmup_epochs) == (0.5, 2, 2.0)


@pytest.mark.parametrize(
    ("road", "message"),
    [
        ({"most_steps": -1}, r"unfreeze\.most_steps: got -1"),
        ({"smallest_gain": -0.1}, r"unfreeze\.smallest_gain: got -0.1"),
        ({"sigmas": float("nan")}, r"unfreeze\.sigmas: got nan"),
        ({"budget_seconds": -1.0}, r"unfreeze\.budget_seconds"),
        ({"budget_flops": -1.0}, r"unfreeze\.budget_flops"),
        ({"layer_factor": 0.0}, r"unfreeze\.layer_factor: got 0.0, expected above 0 to 1"),
    ],
)
def test_a_road_out_of_range_is_refused(road, message) -> None:
    with pytest.raises(ParameterError, match=rf"last_layer_probe\.trained\.{message}"):
        unfreeze(probed(), training(), Road(**road))


def test_other_bad_input_is_refused() -> None:
    net = probed()
    with pytest.raises(ParameterError, match=r"most_steps: got 6 blocks, expected 0 to 5"):
        thaw_last(net, 6, layer_factor=0.5)
    with pytest.raises(ParameterError, match=r"batch_norm: 'thawed' is not known"):
        train_net(net, training(batch_norm="thawed"), thaw_all(net))
    wild = SETTINGS.model_copy(update={"learning_rate": 1e30, "optimizer": "sgd"})
    with pytest.raises(TrainingError, match=r"last_layer_probe\.trained: the loss became"):
        train_net(net, training(settings=wild), thaw_all(net))


def test_validation_images_of_one_class_alone_still_give_a_standard_error() -> None:
    held = separable(60, 1)
    one = Split(held.images[held.labels == 0], held.labels[held.labels == 0])

    found = unfreeze(probed(), dataclasses.replace(training(), validation=one), Road(most_steps=1))

    assert math.isfinite(found.steps[1].needed)
