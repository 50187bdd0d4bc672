"""Whatever cannot be grown exactly is refused in one line that names group and operation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from grow_nets import TiedWords, classifier, images, off
from torch import Tensor, nn

from relearn.methods.grow import apply, plan
from relearn.methods.grow.faults import (
    DataDependentError,
    DeepenError,
    FrozenGroupError,
    GrowthError,
    ReplayError,
    SharedParameterError,
    SpecError,
    UnknownGroupError,
    UntraceableError,
)
from relearn.methods.grow.spec import DepthSpec, GrowthSpec
from relearn.provenance import digest_tensors

INPUTS = images().float()


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        if x.mean() > 0:
            x = -x
        return self.head(x)


class Breaks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).nowhere()


class Inside(nn.Module):
    """A hidden layer with something in between."""

    def __init__(self, between: Callable[[Tensor], Tensor], width: int = 6) -> None:
        super().__init__()
        self.layer = nn.Linear(4, width)
        self.head = nn.Linear(width, 2)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.layer(x)))


class Twice(nn.Module):
    """One layer at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.shared = nn.Linear(4, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.start(x))
        return self.head(self.shared(torch.relu(self.shared(x))))


def one_line(error: GrowthError) -> bool:
    return "\n" not in str(error)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"width": 0.5}, "width: got factor 0.5"),
        ({"width": float("nan")}, "width"),
        ({"groups": {"0": 0.9}}, r"groups\[0\]: got factor 0.9"),
        ({"mapping": "randm"}, "did you mean random"),
        ({"symmetry": "unevn"}, "did you mean uneven"),
        ({"multiple_of": 0}, "multiple_of"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_a_spec_without_meaning_is_refused(spec: dict, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        GrowthSpec(**spec)

    assert one_line(caught.value)


def test_a_misspelt_key_is_refused_with_the_near_miss() -> None:
    with pytest.raises(SpecError, match="did you mean width"):
        GrowthSpec.of({"widht": 2.0})


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(SpecError, match="odd") as caught:
        DepthSpec(kernel=2)

    assert caught.value.operation == "deepen"


def test_an_unknown_group_is_refused_with_the_near_miss() -> None:
    with pytest.raises(UnknownGroupError, match=r"did you mean 3\.inner") as caught:
        plan(classifier(), INPUTS, GrowthSpec(groups={"3.iner": 2.0}))

    assert caught.value.group == "3.iner"


def test_the_output_is_refused_when_asked_to_grow() -> None:
    teacher = classifier()
    last = str(len(teacher) - 1)

    with pytest.raises(FrozenGroupError, match="network's output") as caught:
        plan(teacher, INPUTS, GrowthSpec(groups={last: 2.0}))

    assert caught.value.group == last
    assert "output" in caught.value.operation


def test_the_input_is_refused_when_asked_to_grow() -> None:
    with pytest.raises(UnknownGroupError, match="input"):
        plan(classifier(), INPUTS, GrowthSpec(groups={"input": 2.0}))


def test_two_factors_for_layers_that_grow_together_are_refused() -> None:
    with pytest.raises(FrozenGroupError, match="can only grow together"):
        plan(classifier(), INPUTS, GrowthSpec(groups={"0": 2.0, "3.outer": 3.0}))


def test_a_decision_by_the_value_of_an_activation_is_refused_with_its_line() -> None:
    with pytest.raises(DataDependentError, match=r"test_grow_bad_input\.py:\d+") as caught:
        plan(Decides(), torch.zeros(2, 4), GrowthSpec(width=2.0))

    assert "__bool__" in caught.value.operation


def test_a_forward_that_fails_is_refused_with_its_line() -> None:
    with pytest.raises(UntraceableError, match=r"test_grow_bad_input\.py:\d+") as caught:
        plan(Breaks(), torch.zeros(2, 4), GrowthSpec(width=2.0))

    assert one_line(caught.value)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_torchscript_net_is_refused_by_name() -> None:
    net = nn.Sequential(
        torch.jit.trace(nn.Linear(4, 4), torch.zeros(1, 4)),
        nn.Linear(4, 2),
    )

    with pytest.raises(UntraceableError, match="TorchScript") as caught:
        plan(net, torch.zeros(2, 4), GrowthSpec(width=2.0))

    assert caught.value.group == "0"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_half_precision_teacher_is_refused(kind: torch.dtype) -> None:
    with pytest.raises(GrowthError, match="expected a float32 or float64 teacher") as caught:
        plan(classifier().to(kind), INPUTS.to(kind), GrowthSpec(width=2.0))

    assert caught.value.group == "0"


def test_an_identity_behind_an_activation_that_is_not_idempotent_is_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2))
    deeper = DepthSpec(place="after", path="1", kind="identity", norm=False)

    with pytest.raises(DeepenError, match="gelu, which is not idempotent") as caught:
        plan(net, torch.zeros(2, 4), GrowthSpec(depth=(deeper,)))

    assert (caught.value.group, caught.value.operation) == ("1", "gelu")


def test_calibration_that_is_missing_is_asked_for_and_changes_nothing() -> None:
    teacher = classifier()
    deeper = DepthSpec(place="after", path="2", kind="identity")
    before = digest_tensors(teacher.state_dict())

    with pytest.raises(DeepenError, match="calibration"):
        apply(teacher, plan(teacher, INPUTS, GrowthSpec(depth=(deeper,))), seed=0)

    assert digest_tensors(teacher.state_dict()) == before


def test_a_plan_for_another_architecture_is_refused() -> None:
    planned = plan(classifier(), INPUTS, GrowthSpec(width=2.0))

    with pytest.raises(ReplayError, match="another architecture"):
        apply(classifier(width=5), planned, seed=0)


def test_an_example_of_no_known_kind_is_refused() -> None:
    with pytest.raises(SpecError, match="example_input"):
        plan(classifier(), "images", GrowthSpec())


@pytest.mark.parametrize(
    ("between", "said"),
    [
        (lambda x: x.softmax(-1), "softmax"),
        (lambda x: F.local_response_norm(x[:, :, None], 2)[:, :, 0], "local_response_norm"),
        (lambda x: x.sum(-1, keepdim=True) + x, "sum"),
        (lambda x: torch.fft.fft(x).real, "fft"),
        (lambda x: x.sort(-1).values, "sort"),
        (lambda x: x * torch.arange(6.0), "constant"),
    ],
)
def test_what_mixes_channels_is_left_alone_with_its_reason(
    between: Callable[[Tensor], Tensor], said: str
) -> None:
    teacher = Inside(between)

    planned = plan(teacher, torch.zeros(2, 4), GrowthSpec(width=2.0))
    student, _ = apply(teacher, planned, seed=0)

    refusal = next(r for r in planned.refusals if r.group == "layer")
    assert said in refusal.reason
    assert not planned.groups
    assert student.layer.out_features == 6
    with pytest.raises(FrozenGroupError, match=said):
        plan(teacher, torch.zeros(2, 4), GrowthSpec(groups={"layer": 2.0}))


def test_a_size_written_into_the_forward_is_left_alone() -> None:
    teacher = Inside(lambda x: x.reshape(-1, 6))

    planned = plan(teacher, torch.zeros(2, 4), GrowthSpec(width=2.0))

    assert [g.name for g in planned.groups if g.grows] == []
    refusal = next(r for r in planned.refusals if r.group == "layer")
    assert "test_grow_bad_input.py" in refusal.operation


def test_a_weight_that_writes_and_reads_the_same_channels_is_left_alone() -> None:
    teacher = TiedWords()
    words = torch.tensor([[1, 2], [3, 4]])

    planned = plan(teacher, words, GrowthSpec(width=2.0))
    student, _ = apply(teacher, planned, seed=0)

    assert "tied" in next(r for r in planned.refusals if r.group == "words").reason
    assert [g.name for g in planned.groups if g.grows] == ["hidden"]
    assert student.head.weight is student.words.weight
    assert off(teacher.double(), student.double(), words) <= 1e-12


@pytest.mark.parametrize("pattern", ["words", "wor*"])
def test_a_shared_parameter_that_is_asked_to_grow_is_refused(pattern: str) -> None:
    teacher, words = TiedWords(), torch.tensor([[1, 2], [3, 4]])
    before = digest_tensors(teacher.state_dict())

    with pytest.raises(SharedParameterError, match=r"words cannot grow: words\.weight") as no:
        plan(teacher, words, GrowthSpec(groups={pattern: 2.0}))

    assert no.value.group == "words"
    assert "linear at " in no.value.operation
    assert one_line(no.value)
    assert digest_tensors(teacher.state_dict()) == before


def test_a_net_whose_only_channels_are_shared_is_refused() -> None:
    teacher = TiedWords()
    teacher.hidden = teacher.back = nn.Identity()
    words = torch.tensor([[1, 2], [3, 4]])

    with pytest.raises(SharedParameterError, match=r"^width: words cannot grow") as caught:
        plan(teacher, words, GrowthSpec(width=2.0))

    assert "embedding" in caught.value.operation or "linear" in caught.value.operation
    assert plan(teacher, words, GrowthSpec()).groups == ()


class LayerAndNumbers(nn.Module):
    """A weight that multiplies as a layer and is added as plain numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.layer = nn.Linear(4, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.head(self.layer(x) + x @ (self.layer.weight * 2))


def test_a_weight_used_as_layer_and_as_numbers_is_refused_when_asked_to_grow() -> None:
    teacher = LayerAndNumbers()

    with pytest.raises(SharedParameterError, match="layer cannot grow") as caught:
        plan(teacher, torch.zeros(2, 4), GrowthSpec(groups={"layer": 2.0}))

    assert caught.value.group == "layer"


def test_a_module_that_is_called_twice_grows_with_both_places() -> None:
    teacher = Twice().double()
    x = torch.randn(3, 4, dtype=torch.float64)

    student, record = apply(teacher, plan(teacher, x, GrowthSpec(width=1.5)), seed=0)

    assert [m.name for m in record.maps] == ["start"]
    assert student.shared.weight.shape == (9, 9)
    assert off(teacher, student, x) <= 1e-12


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_teacher_is_kept_and_handed_on(training: bool) -> None:
    teacher = classifier().train(training)
    teacher[2].train(not training)
    modes = [m.training for m in teacher.modules()]

    student, _ = apply(teacher, plan(teacher, INPUTS, GrowthSpec(width=2.0)), seed=0)

    assert [m.training for m in teacher.modules()] == modes
    assert [m.training for m in student.modules()] == modes
