"""Layers that are put in hand on what they get."""

from __future__ import annotations

import pytest
import torch
from grow_nets import classifier, images, off, randomised
from torch import Tensor, nn
from torchvision.models import resnet18

from relearn.methods.grow import (
    GrowthRecord,
    apply,
    plan,
    random_layers,
    random_pad,
    replay,
    verify,
)
from relearn.methods.grow.faults import DeepenError, UnknownGroupError
from relearn.methods.grow.handed_on import layer_error
from relearn.methods.grow.inserted import calibrate
from relearn.methods.grow.spec import DepthSpec, GrowthSpec
from relearn.models.architectures import build_net
from relearn.models.checkpoint import Architecture
from relearn.provenance import digest_tensors

INPUTS = images(2, count=6).float()


def deepened(teacher: nn.Module, *depth: DepthSpec, width: float = 1.0) -> tuple[nn.Module, object]:
    planned = plan(teacher, INPUTS, GrowthSpec(width=width, depth=depth))
    student, record = apply(teacher, planned, seed=1, calibration=INPUTS)
    assert sum(p.numel() for p in student.parameters()) == planned.after.parameters
    return student, record


@pytest.mark.parametrize("width", [1.0, 1.5])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("kind", ["identity", "residual"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_layer_behind_a_rectifier_keeps_the_function(
    kind: str, kernel: int, norm: bool, width: float
) -> None:
    teacher = classifier()
    wanted = DepthSpec("after", "2", layers=2, kind=kind, kernel=kernel, norm=norm)

    student, record = deepened(teacher, wanted, width=width)

    assert verify(teacher, student, INPUTS, record=record).passed


@pytest.mark.parametrize("act", [nn.GELU(), nn.SiLU(), nn.Tanh(), nn.Identity()])
def test_a_gated_block_keeps_the_function_behind_any_activation(act: nn.Module) -> None:
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), act, nn.Flatten())
    teacher.append(nn.Linear(4 * 36, 2))
    randomised(teacher, seed=0).eval()

    student, _ = deepened(teacher, DepthSpec("after", "2"))

    assert off(teacher.double(), student.double(), INPUTS.double()) == 0.0
    assert off(teacher.train(), student.train(), INPUTS.double()) == 0.0


def test_linear_layers_take_layers_behind_them_too() -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3)).eval()

    for kind in ("identity", "residual"):
        student, record = deepened(teacher, DepthSpec("after", "2", kind=kind), width=1.5)
        assert verify(teacher, student, INPUTS, record=record).passed


def test_auto_appends_a_block_to_every_stage_of_a_resnet() -> None:
    teacher = randomised(resnet18(num_classes=5), seed=0).eval()

    student, record = deepened(teacher, DepthSpec(), width=1.25)

    assert [e["path"] for e in record.depth] == [f"layer{i}" for i in range(1, 5)]
    assert [len(getattr(student, f"layer{i}")) for i in range(1, 5)] == [3, 3, 3, 3]
    assert verify(teacher, student, INPUTS, record=record).passed


def test_auto_takes_the_stages_and_not_the_list_that_holds_them() -> None:
    options = {"width": 4, "depth": 14}
    teacher = build_net(Architecture("preact_resnet", 3, 8, 5, options, (0.5,) * 3, (0.3,) * 3))
    randomised(teacher, seed=0).eval()

    student, record = deepened(teacher, DepthSpec())

    assert [e["path"] for e in record.depth] == ["stages.0", "stages.1", "stages.2"]
    assert verify(teacher, student, INPUTS, record=record).passed


def test_the_first_step_moves_the_zeroed_layer_and_the_second_everything() -> None:
    teacher = classifier().train()
    student, _ = deepened(teacher, DepthSpec("after", "2"))
    block = student[2][1].body
    before = [p.detach().clone() for p in block.parameters()]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)

    moved = []
    for _ in range(2):
        optimizer.zero_grad()
        student(INPUTS).square().sum().backward()
        optimizer.step()
        moved.append(
            [not torch.equal(a, b) for a, b in zip(before, block.parameters(), strict=True)]
        )

    assert moved[0][0] is False
    assert moved[0][-1] is True
    assert all(moved[1])


def test_calibrated_batch_norm_is_the_identity_in_float32_numbers_of_any_size() -> None:
    seen = torch.randn(64, 5, 3, 3) * torch.tensor([1e-4, 0.1, 1.0, 30.0, 0.0]).reshape(1, 5, 1, 1)
    norm = nn.BatchNorm2d(5)

    calibrate(norm, seen + 2.0)
    exact = norm.double().eval()(seen.double())

    torch.testing.assert_close(exact, seen.double(), rtol=1e-14, atol=1e-14)
    spread = seen.double().movedim(1, 0).flatten(1).std(1)[1:4]
    torch.testing.assert_close(norm.running_var[1:4].sqrt(), spread, rtol=0.01, atol=1e-2)


@pytest.mark.parametrize("kind", ["identity", "residual"])
def test_a_replay_on_the_teacher_has_the_students_very_layers(kind: str) -> None:
    teacher = classifier()
    student, record = deepened(teacher, DepthSpec("after", "2", layers=2, kind=kind), width=1.5)

    again = replay(teacher, GrowthRecord.from_json(record.to_json()))

    assert digest_tensors(again.state_dict()) == digest_tensors(student.state_dict())
    assert record.certificate["worst_layer_error"] <= 1e-12


@pytest.mark.parametrize(
    ("kind", "layer"), [("identity", "0"), ("identity", "1"), ("residual", "body.4")]
)
def test_a_layer_that_does_not_hand_on_is_found_without_any_image(kind: str, layer: str) -> None:
    teacher = classifier()
    student, record = deepened(teacher, DepthSpec("after", "2", kind=kind))
    with torch.no_grad():
        student[2][1].get_submodule(layer).weight.add_(1e-6)

    assert layer_error(student, record.depth) > 1e-8


def test_a_layer_whose_numbers_are_lost_is_infinitely_far() -> None:
    student, record = deepened(classifier(), DepthSpec("after", "2"))
    with torch.no_grad():
        student[2][1].body[4].weight.fill_(float("nan"))

    assert layer_error(student, record.depth) == float("inf")


def test_default_batch_norm_statistics_would_not_pass() -> None:
    teacher = classifier()
    student, record = deepened(teacher, DepthSpec("after", "2", kind="identity"))
    norm = student[2][1][1]
    norm.reset_parameters()

    assert not verify(teacher, student, INPUTS, record=record, strict=False).passed


def test_random_layers_have_the_students_shape_and_another_function() -> None:
    teacher = classifier()
    student, record = deepened(teacher, DepthSpec("after", "2", kind="identity"), width=1.5)

    control = random_layers(teacher, record, seed=3).eval()
    padded = random_pad(teacher, record, seed=3).eval()

    for net in (control, padded):
        assert [p.shape for p in net.parameters()] == [p.shape for p in student.parameters()]
        assert off(teacher, net, INPUTS) > 1e-3
    assert torch.equal(control[0].weight, student[0].weight)


def test_random_padding_keeps_the_teachers_weights_undivided() -> None:
    teacher = classifier()
    student, record = deepened(teacher, width=1.5)

    padded = random_pad(teacher, record, seed=3)

    first = next(m for m in record.maps if m.name == "0")
    originals = [sum(first.copies[:i]) for i in range(len(first.copies))]
    assert torch.equal(padded[0].weight[originals], teacher[0].weight)
    assert torch.equal(padded[1].running_var[originals], teacher[1].running_var)
    assert len(padded[0].weight) == len(student[0].weight)


def test_places_that_do_not_exist_or_run_twice_are_refused() -> None:
    with pytest.raises(UnknownGroupError, match="did you mean"):
        deepened(resnet18(num_classes=5), DepthSpec("append", "layr2"))
    with pytest.raises(DeepenError, match="runs 2 times"):
        deepened(resnet18(num_classes=5), DepthSpec("after", "layer1.0.relu", kind="identity"))
    with pytest.raises(DeepenError, match="only a Sequential"):
        deepened(resnet18(num_classes=5), DepthSpec("append", "conv1"))
    with pytest.raises(DeepenError, match="no stage"):
        deepened(classifier(), DepthSpec())


def test_a_net_grows_wider_deeper_and_wider_again() -> None:
    teacher = classifier()
    student, _ = deepened(teacher, DepthSpec("after", "2"), width=1.5)

    again, _ = deepened(student, width=1.5)

    def difference(x: Tensor) -> float:
        return off(teacher.double(), again.double(), x.double())

    assert difference(INPUTS) <= 1e-12
