"""What the run of the labels follows, and that nothing gets away from it unseen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from relearn.methods.grow import GrowthSpec, apply, plan, verify
from relearn.methods.grow.faults import DataDependentError, GrowthError, UntraceableError
from relearn.provenance import digest_tensors

ROWS = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
STEPS = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))


class Between(nn.Module):
    """Two layers with something in between."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 6), nn.Linear(6, 4)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.between(self.one(x)))


class Steps(nn.Module):
    """A recurrent net written by hand: as many turns as there are steps."""

    def __init__(self, *, begin: bool) -> None:
        super().__init__()
        self.into, self.on, self.out = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.begin = begin

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 6) if self.begin else self.into(x[:, 0]).tanh()
        for step in range(0 if self.begin else 1, x.shape[1]):
            state = torch.tanh(self.into(x[:, step]) + self.on(state))
        return self.out(state)


class Bare(nn.Module):
    """Products with matrices that are no layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(5, 6))
        self.shift = nn.Parameter(torch.randn(6))
        self.second = nn.Parameter(torch.randn(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.first + self.shift) @ self.second.t()


class NamedSums(nn.Module):
    """Attention written with einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(5, 12) for _ in range(3))
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).unflatten(-1, (-1, 4)) for part in self.parts)
        weights = torch.einsum("bihd, bjhd -> bhij", query, key).softmax(-1)
        return self.out(torch.einsum("bhij,bjhd->bihd", weights, value).flatten(2))


class ByWeight(nn.Module):
    """A layer that is left out while its gain is small."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.gain = (
            nn.Linear(5, 6),
            nn.Linear(6, 4),
            nn.Parameter(torch.ones(1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.two(x.relu() if self.gain.item() > 0.5 else x)


def by_shape(x: Tensor) -> Tensor:
    return x.relu() if x.shape[-1] > 2 else x


def by_counting(x: Tensor) -> Tensor:
    return torch.stack([row.relu() for row in x]) * int(x.size(0))


FOLLOWED = {
    "as many turns as steps": (lambda: Steps(begin=False), STEPS),
    "a choice by shape": (lambda: Between(by_shape), ROWS),
    "a loop over rows": (lambda: Between(by_counting), ROWS),
    "a choice by a weight": (ByWeight, ROWS),
}


def grown(teacher: nn.Module, inputs: Tensor, width: float = 1.5):
    torch.manual_seed(0)
    planned = plan(teacher, inputs, GrowthSpec(width=width))
    student, record = apply(teacher, planned, seed=0)
    assert verify(teacher, student, inputs, record=record).passed
    return planned


def made(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


@pytest.mark.parametrize(("make", "inputs"), FOLLOWED.values(), ids=FOLLOWED)
def test_what_no_symbol_can_run_through_is_planned_and_grown(
    make: Callable[[], nn.Module], inputs: Tensor
) -> None:
    teacher = made(make)

    with pytest.raises(Exception, match=r".") as refused:
        torch.fx.symbolic_trace(teacher)

    assert not isinstance(refused.value, GrowthError)
    assert any(g.grows for g in grown(teacher, inputs).groups)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", ["decides", "compiled to TorchScript"])
def test_what_is_refused_cannot_be_exported_either(kind: str) -> None:
    net = nn.Sequential(torch.jit.trace(nn.Linear(5, 4), ROWS), nn.Linear(4, 2))
    if kind == "decides":
        net = Between(lambda x: x if x.mean() > 0 else -x)

    with pytest.raises(UntraceableError):
        plan(net, ROWS, GrowthSpec(width=2.0))
    with pytest.raises(Exception, match=r"(?s)."):
        torch.export.export(net, (ROWS,), strict=False)


def part_of_all(x: Tensor) -> Tensor:
    return x / (x.abs().sum(1, keepdim=True) + 1)


@cache
def script() -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.script(part_of_all)


def compiled(x: Tensor) -> Tensor:
    return script()(x)


def mapped(x: Tensor) -> Tensor:
    return torch.func.vmap(lambda row: row / (row.abs().sum() + 1))(x)


def handed_over(x: Tensor) -> Tensor:
    return torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x.detach()))


def first_doubled(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0].mul_(2)
    return x


@pytest.mark.parametrize("width", [1.5, 2.0])
@pytest.mark.parametrize(
    ("between", "said"),
    [
        (compiled, "below what can be followed"),
        (mapped, "below what can be followed"),
        (handed_over, "nothing that can be followed reads it"),
        (lambda x: x / x.shape[1], "how many channels there are"),
        (lambda x: x / torch.tensor(float(x.shape[1])), "how many channels there are"),
        (first_doubled, "only some of a channel's copies"),
        (lambda x: x.H.H, "get H is not known"),
        (lambda x: torch.einsum("bc,bc->bc", x, x), "einsum is not known"),
    ],
)
def test_what_gets_away_from_the_labels_is_left_alone(
    between: Callable[[Tensor], Tensor], said: str, width: float
) -> None:
    planned = grown(made(lambda: Between(between)), ROWS, width)

    assert not any(g.grows for g in planned.groups)
    assert said in next(r.reason for r in planned.refusals if r.group == "one")


@pytest.mark.parametrize("mapping", ["random", "balanced"])
def test_what_a_plan_grows_fits_whatever_seed_is_drawn(mapping: str) -> None:
    def halves(x: Tensor) -> Tensor:
        x = x.clone()
        for part in x.chunk(2, 1):
            part.mul_(2)
        return x

    teacher = made(lambda: Between(halves))
    broken = plan(teacher, ROWS, GrowthSpec(width=1.5, mapping=mapping))
    whole = plan(teacher, ROWS, GrowthSpec(width=2.0, mapping=mapping))

    assert not any(g.grows for g in broken.groups)
    assert any(g.grows for g in whole.groups)
    for seed in range(4):
        for planned in (broken, whole):
            student, record = apply(teacher, planned, seed=seed)
            assert verify(teacher, student, ROWS, record=record, train_mode=False).passed


def test_a_state_that_begins_as_a_constant_keeps_its_width() -> None:
    planned = grown(made(lambda: Steps(begin=True)), STEPS)

    assert not any(g.grows for g in planned.groups)
    assert any("constants as well as channels" in r.reason for r in planned.refusals)


@pytest.mark.parametrize("width", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("make", [Bare, NamedSums], ids=["matrices", "einsum"])
def test_products_that_are_no_layers_grow(make: Callable[[], nn.Module], width: float) -> None:
    planned = grown(made(make), STEPS, width)

    assert [g.grows for g in planned.groups] == [True]
    assert len(planned.refusals) == 1


@pytest.mark.parametrize("width", [1.5, 2.0])
def test_layers_that_check_their_own_size_grow(width: float) -> None:
    image = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True), nn.Conv2d(4, 2, 1))

    planned = grown(image.eval(), torch.randn(2, 3, 6, 6), width)
    assert [(g.channels, g.new_channels) for g in planned.groups] == [(4, round(4 * width))]


def test_every_layer_that_no_rule_reads_is_listed() -> None:
    net = nn.Sequential(
        nn.Linear(5, 6), nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)), nn.Linear(6, 2)
    )
    cell = nn.LSTMCell(5, 6)

    told = {r.group: r.reason for r in plan(net, ROWS, GrowthSpec(width=2.0)).refusals}
    alone = plan(cell, ROWS, GrowthSpec(width=2.0)).refusals

    assert any(name.startswith("1") and "weight_norm" in told[name] for name in told)
    assert any("lstm_cell" in refusal.reason for refusal in alone)


def test_groups_that_one_module_writes_have_names_of_their_own() -> None:
    planned = grown(
        made(lambda: Between(lambda x: torch.cat([x[:, :3].softmax(1), x[:, 3:]], 1))), ROWS
    )

    assert [(g.name, g.channels, g.new_channels) for g in planned.groups] == [("one", 3, 5)]
    assert "one (2)" in [r.group for r in planned.refusals]


def test_functions_compiled_by_torch_are_followed_as_they_were_written(monkeypatch) -> None:
    seen = []
    monkeypatch.setitem(__import__("sys").modules, "torch._dynamo", object())
    stance = torch.compiler.set_stance
    monkeypatch.setattr(torch.compiler, "set_stance", lambda s: seen.append(s) or _Nothing())

    grown(made(lambda: Between(torch.relu)), ROWS)

    assert set(seen) == {"force_eager"}
    assert stance is not torch.compiler.set_stance


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def test_a_teacher_that_cannot_run_in_float64_is_refused_by_its_line() -> None:
    teacher = made(lambda: Between(lambda x: x @ torch.ones(6, 6)))
    planned = plan(teacher, ROWS, GrowthSpec(width=2.0))
    student, record = apply(teacher, planned, seed=0)
    before = digest_tensors(teacher.state_dict())

    with pytest.raises(UntraceableError, match=r"test_grow_recording\.py:\d+.*float64"):
        verify(teacher, student, ROWS, record=record)

    assert digest_tensors(teacher.state_dict()) == before


def test_a_net_that_holds_no_numbers_or_cannot_be_copied_is_refused() -> None:
    with pytest.raises(GrowthError, match="meta device") as caught:
        plan(nn.Sequential(nn.Linear(5, 4)).to("meta"), ROWS, GrowthSpec(width=2.0))
    assert caught.value.group == "0"

    with pytest.raises(UntraceableError, match="cannot be copied"):
        plan(Between(script()), ROWS, GrowthSpec(width=2.0))


def test_a_decision_hidden_in_a_list_of_numbers_is_refused() -> None:
    teacher = Between(lambda x: torch.tensor([[float(n) for n in row] for row in x]))

    with pytest.raises(DataDependentError, match="__float__"):
        plan(teacher, ROWS, GrowthSpec(width=2.0))


@pytest.mark.parametrize("layer", [nn.Linear(7, 4), nn.Linear(5, 4)], ids=["first", "second"])
def test_a_teacher_whose_layers_do_not_fit_each_other_is_refused(layer: nn.Module) -> None:
    with pytest.raises(UntraceableError, match=r"channels, \d come in"):
        plan(nn.Sequential(layer, nn.Linear(5, 2)), ROWS, GrowthSpec(width=2.0))
