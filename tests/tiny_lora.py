"""A vision transformer small enough for tests, its modules, and the same by parametrization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from relearn.data.randomness import generator_of
from relearn.methods.lora_ipc.adapters import Adapters
from relearn.methods.lora_ipc.attachment import Settings
from relearn.methods.lora_ipc.matrices import KINDS
from relearn.methods.lora_ipc.task_inference import only_classes
from relearn.models.architectures import Architecture, build_fresh

if TYPE_CHECKING:
    from collections.abc import Collection

CLASSES = 8


def tiny_vit(*, seed: int = 1, depth: int = 2, double: bool = False) -> nn.Module:
    """Return a net of 16 wide tokens for images of 8 pixels, in evaluation mode."""
    options = {
        "patch_size": 4,
        "width": 16,
        "depth": depth,
        "heads": 2,
        "mlp_ratio": 2,
        "stem": "convolution",
        "dropout": 0.0,
    }
    net = build_fresh(Architecture("vision_transformer", 1, 8, CLASSES, options), seed=seed)
    draw = generator_of(seed, "larger")
    with torch.no_grad():  # the net's own small weights make a function that is almost constant
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.2)
    return (net.double() if double else net).eval()


def images(count: int = 6, *, seed: int = 3, double: bool = False) -> Tensor:
    """Return noise, shape (count, 1, 8, 8)."""
    drawn = torch.randn(count, 1, 8, 8, generator=generator_of(seed, "images"))
    return drawn.double() if double else drawn


def tiny_adapters(*, double: bool = False, depth: int = 2, **changes: Any) -> Adapters:
    """Return modules of rank 2 for four planned tasks on all kinds of matrices."""
    given = {"kinds": KINDS, "rank": 2, "planned_tasks": 4, **changes}
    return Adapters(tiny_vit(depth=depth, double=double), Settings(**given))


def train_steps(adapters: Adapters, steps: int = 3, rate: float = 0.1) -> None:
    """Take a few steps on the task that is open."""
    assert adapters.open_classes is not None
    kind = next(adapters.model.parameters()).dtype
    x = images(8, seed=adapters.tasks).to(kind)
    labels = torch.tensor(adapters.open_classes).repeat(8)[:8]
    trained = [*adapters.factors(), *adapters.omegas(), *adapters.head.parameters()]
    optimizer = torch.optim.SGD(trained, rate)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = only_classes(adapters.model(x), adapters.open_classes)
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()


def learn_task(adapters: Adapters, *, freeze: Collection[str] = (), steps: int = 3) -> int:
    """Learn one further task of two classes."""
    task = adapters.tasks
    adapters.begin_task([2 * task, 2 * task + 1], seed=5)
    train_steps(adapters, steps)
    return adapters.finish_task(freeze)


@torch.no_grad()
def answers(model: nn.Module, count: int = 6) -> Tensor:
    """Return the logits of some noise."""
    kind = next(model.parameters()).dtype
    logits: Tensor = model(images(count).to(kind))
    return logits


class Composition(nn.Module):
    """The reference: W_0 + s (sum_i omega_i A_i B_i + A B)^T by plain operations."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.parts = layer.parts
        self.a = nn.ParameterList(m.a.detach().clone() for m in self.parts)
        self.b = nn.ParameterList(m.b.detach().clone() for m in self.parts)
        self.omega = nn.ParameterList(m.last_row().to(m.history_a).clone() for m in self.parts)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the effective weight."""
        pieces = []
        for number, matrix in enumerate(self.parts):
            first, last = matrix.place.rows
            total = self.a[number] @ self.b[number]
            start = 0
            for module, rank in enumerate(matrix.ranks):
                left = matrix.history_a[:, start : start + rank]
                right = matrix.history_b[start : start + rank]
                total = total + self.omega[number][module] * (left @ right)
                start += rank
            pieces.append(weight[first:last] + matrix.scale * total.T)
        return torch.cat(pieces)


def reference_of(adapters: Adapters) -> tuple[nn.Module, dict[str, tuple[Composition, int]]]:
    """Return the model of an open task made by parametrization, and each matrix's place in it."""
    net = tiny_vit(depth=len(adapters.matrices) // len(KINDS), double=True)
    net.load_state_dict(
        {
            name.replace("base_weight", "weight"): tensor
            for name, tensor in adapters.model.state_dict().items()
            if ".matrices." not in name
        }
    )
    net.requires_grad_(False)
    found = {}
    for layer in adapters.layers:
        composition = Composition(layer)
        linear = net.get_submodule(layer.parts[0].place.layer)
        parametrize.register_parametrization(linear, "weight", composition)
        for number, matrix in enumerate(layer.parts):
            found[matrix.place.name] = (composition, number)
    return net, found
