"""Growing at work: plan and apply, the gate, the memory both take, and another graph builder."""

from __future__ import annotations

import ctypes
import gc
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from relearn.methods.grow import GrowthSpec, apply, plan, verify

if TYPE_CHECKING:
    from side_by_side import Repetition
    from torch import Tensor, nn

IMAGES, SIDE = 8, 64
FACTOR = 1.5


def images(side: int = SIDE) -> Tensor:
    """Return noise that the nets take as images."""
    return torch.randn(IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))


def teacher(name: str, side: int = SIDE) -> nn.Module:
    """Return a net in evaluation mode whose statistics and affine numbers are none of the defaults.

    Args:
        name: Name of a net of torchvision.
        side: Pixels of an image.
    """
    import torchvision

    torch.manual_seed(0)
    sized = {"image_size": side} if name.startswith("vit") else {}
    net = torchvision.models.get_model(name, weights=None, **sized)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
            if isinstance(module, torch.nn.Linear) and not bool(module.weight.any()):
                module.weight.normal_(0, 0.02)  # a head of zeros would hide every difference
    return net.eval()


def growth(*, net: str, side: int = SIDE) -> Repetition:
    """Return the work of planning and growing every group that can grow.

    Args:
        net: Name of a net of torchvision.
        side: Pixels of an image.
    """
    model, shown = teacher(net, side), images(side)

    def grow() -> float:
        apply(model, plan(model, shown, GrowthSpec(width=FACTOR)), seed=0)
        return 1.0

    return grow


def verification(*, net: str, side: int = SIDE) -> Repetition:
    """Return the work of the gate: float64, float32, training mode and the shares.

    Args:
        net: Name of a net of torchvision.
        side: Pixels of an image.
    """
    model, shown = teacher(net, side), images(side)
    student, record = apply(model, plan(model, shown, GrowthSpec(width=FACTOR)), seed=0)

    def gate() -> float:
        verify(model, student, shown, record=record)
        return 1.0

    return gate


def memory(*, net: str, side: int = SIDE) -> Repetition:
    """Return the largest memory of plan and apply over that of teacher and student together.

    What the process held before (Python, torch, the teacher) is taken off, and the teacher added
    again; a tiny net is grown first, so that imports do not count. NaN where nobody tells.

    Args:
        net: Name of a net of torchvision.
        side: Pixels of an image.
    """
    tiny = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    apply(tiny, plan(tiny, torch.zeros(2, 3), GrowthSpec(width=FACTOR)), seed=0)
    model, shown = teacher(net, side), images(side)

    def largest() -> float:
        before = _from_now_on()
        student, _ = apply(model, plan(model, shown, GrowthSpec(width=FACTOR)), seed=0)
        least = _bytes(model) + _bytes(student)
        return (_kilobytes("VmHWM") * 1024 - before + _bytes(model)) / least

    return largest


def graph(*, net: str, peer: str, side: int = SIDE) -> Repetition:
    """Return the work of torch-pruning's dependency graph: other work, for orientation.

    Args:
        net: Name of a net of torchvision.
        peer: Folder into which torch-pruning was installed.
        side: Pixels of an image.
    """
    sys.path.append(peer)
    import torch_pruning

    model, shown = teacher(net, side), images(side)

    def build() -> float:
        torch_pruning.DependencyGraph().build_dependency(model, example_inputs=shown)
        return 1.0

    return build


def sizes(net: str, side: int = SIDE) -> dict[str, int]:
    """Return parameters before and after, groups, and how many of them grow.

    Args:
        net: Name of a net of torchvision.
        side: Pixels of an image.
    """
    found = plan(teacher(net, side), images(side), GrowthSpec(width=FACTOR))
    return {
        "parameters": found.before.parameters,
        "parameters_grown": found.after.parameters,
        "groups": len(found.groups) + len(found.refusals),
        "groups_grown": sum(group.grows for group in found.groups),
    }


def _bytes(net: nn.Module) -> int:
    return sum(t.nbytes for t in (*net.parameters(), *net.buffers()))


def _from_now_on() -> float:
    """Return the bytes resident now, and let the kernel count the largest number from here."""
    gc.collect()
    if sys.platform != "linux":
        return math.nan
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _kilobytes("VmRSS") * 1024


def _kilobytes(field: str) -> float:
    listing = Path("/proc/self/status")
    if listing.exists():
        for line in listing.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return float(line.split()[1])
    return math.nan
