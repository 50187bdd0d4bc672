"""A grown net is made again from its architecture and what differs from it."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from relearn.errors import CheckpointError
from relearn.methods.grow import DepthSpec, GrowthSpec, apply, plan, replay
from relearn.methods.grow.growing import grown_architecture
from relearn.models.checkpoint import (
    Architecture,
    build,
    build_fresh,
    capture,
    load_checkpoint,
    save_checkpoint,
)
from relearn.models.grown import with_growth

IMAGES = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(5))
NETS = {
    "convnet3": {"width": 4},
    "convnet5": {"width": 4},
    "mlp": {"width": 6, "depth": 2},
    "preact_resnet": {"width": 4, "depth": 8},
}


def shape_of(name: str) -> Architecture:
    size = 32 if name == "convnet3" else 16
    return Architecture(name, 1, size, 5, NETS[name], (0.1,), (0.3,))


def images_for(name: str) -> torch.Tensor:
    return torch.randn(3, 1, *[shape_of(name).image_size] * 2)


def same(one: nn.Module, two: nn.Module) -> bool:
    """Whether two nets have the same modules, attributes and tensors' names and shapes."""

    def told(net: nn.Module) -> list[str]:
        shapes = {n: tuple(t.shape) for n, t in net.state_dict().items()}
        return [str(net), str(shapes)]

    return told(one) == told(two)


def grown(name: str, **asked):
    shape = shape_of(name)
    net = build_fresh(shape, seed=3).eval()
    images = images_for(name)
    student, record = apply(net, plan(net, images, GrowthSpec(**asked)), seed=1, calibration=images)
    return shape, net, student.eval(), record


@pytest.mark.parametrize("name", NETS)
def test_both_roads_to_a_grown_net_lead_to_the_same_net(name):
    shape, net, student, record = grown(name, width=1.5)
    architecture = grown_architecture(shape, net, student, record)
    made = build_fresh(architecture, seed=0)
    assert same(made, student)
    assert same(made, replay(build_fresh(shape, seed=7), record))


@pytest.mark.parametrize("place", ["append", "after"])
def test_layers_that_were_put_in_come_back(place):
    depth = (DepthSpec(place=place, path="stages.1", layers=2),)
    shape, net, student, record = grown("preact_resnet", width=1.5, depth=depth)
    architecture = grown_architecture(shape, net, student, record)
    checkpoint = capture(student, architecture, {})
    again = build(checkpoint)
    images = images_for("preact_resnet")
    assert same(again, student)
    assert torch.equal(again(images), student(images))


def test_identity_layers_with_calibrated_batch_norm_come_back(tmp_path):
    depth = (DepthSpec(place="after", path="blocks.1", kind="identity"),)
    shape, net, student, record = grown("convnet5", depth=depth)
    architecture = grown_architecture(shape, net, student, record)
    save_checkpoint(capture(student, architecture, {}), tmp_path / "net.safetensors")
    loaded = load_checkpoint(tmp_path / "net.safetensors")
    assert loaded.architecture == Architecture(**json_pairs(architecture))
    images = images_for("convnet5")
    assert torch.equal(build(loaded)(images), student(images))


def json_pairs(architecture: Architecture) -> dict:
    plain = json.loads(json.dumps(asdict(architecture)))
    return plain | {name: tuple(plain[name]) for name in ("mean", "std", "growth")}


def test_growth_upon_growth_comes_back():
    shape, net, student, record = grown("preact_resnet", width=1.5)
    first = grown_architecture(shape, net, student, record)
    images = images_for("preact_resnet")
    depth = (DepthSpec(place="append", path="stages.0"),)
    planned = plan(student, images, GrowthSpec(width=2.0, depth=depth))
    larger, further = apply(student, planned, seed=2)
    second = grown_architecture(first, student, larger, further)
    assert len(second.growth) == 2
    assert same(build_fresh(second, seed=0), larger)


def test_the_number_of_classes_stays_open():
    shape, net, student, record = grown("convnet5", width=2.0)
    architecture = grown_architecture(shape, net, student, record).with_classes(9)
    assert build_fresh(architecture, seed=0).head.weight.shape == (9, 32)


def test_an_architecture_without_growth_keeps_the_digest_of_older_files():
    checkpoint = capture(build_fresh(shape_of("mlp"), seed=0), shape_of("mlp"), {"seed": 1})
    older = {k: v for k, v in asdict(shape_of("mlp")).items() if k != "growth"}
    from relearn.provenance import digest, digest_tensors

    told = {
        "architecture": json.loads(json.dumps(older)),
        "provenance": {"seed": 1},
        "weights": digest_tensors(checkpoint.weights),
    }
    assert checkpoint.digest == digest(told)


def test_drawn_weights_have_the_deviation_of_their_class():
    shape, net, student, record = grown("convnet5", width=4.0)
    made = build_fresh(grown_architecture(shape, net, student, record), seed=0)
    own = build_fresh(replace(shape, options={"width": 16}), seed=0)
    for name, tensor in own.named_parameters():
        if tensor.ndim == 4 and tensor.numel() > 2000:
            drawn = dict(made.named_parameters())[name].detach().std()
            assert float(drawn / tensor.detach().std()) == pytest.approx(1.0, abs=0.15)


def test_a_module_of_an_unknown_class_cannot_be_put_in():
    before = nn.Sequential(nn.Linear(2, 2))
    after = copy.deepcopy(before).append(nn.CELU())
    with pytest.raises(CheckpointError, match="CELU"):
        with_growth(shape_of("mlp"), before, after)


def test_a_growth_of_another_net_is_refused():
    shape, net, student, record = grown("convnet5", width=2.0)
    growth = grown_architecture(shape, net, student, record).growth
    with pytest.raises(CheckpointError, match="belongs to another architecture"):
        build_fresh(replace(shape_of("mlp"), growth=growth), seed=0)
