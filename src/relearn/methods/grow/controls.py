"""The paper's controls: the student's shape with what is new drawn at random.

Net2Net, section 4: "random pad" keeps the teacher's weights and fills what is new with random
numbers; deeper students are compared with the same net whose new layers are not identities. Neither
keeps the function.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from relearn.data.randomness import generator_of, seed_of
from relearn.methods.grow.labels import copies_of
from relearn.methods.grow.widen import prepared, replay

if TYPE_CHECKING:
    from relearn.methods.grow.record import GrowthRecord
    from relearn.methods.grow.widened import Widened


def random_pad(model: nn.Module, record: GrowthRecord, *, seed: int) -> nn.Module:
    """Return a net of the student's shape: teacher's weights once, everything else drawn anew.

    New rows and columns follow each layer's own initialisation, batch norm of new channels is
    (mean 0, variance 1, gain 1, shift 0), bare parameters are drawn with their own deviation.

    Args:
        model: The teacher; it is only read.
        record: Of the growth whose shape is wanted.
        seed: Of what is drawn.

    Raises:
        ReplayError: The record belongs to another architecture.
    """
    widened, _ = prepared(model, record)
    student = replay(model, record)
    fresh = freshly_drawn(student, seed=seed, door="grow.random_pad")
    drawn = dict(fresh.named_parameters()) | dict(fresh.named_buffers())
    ours = dict(student.named_parameters()) | dict(student.named_buffers())
    named = [*model.named_parameters(), *model.named_buffers()]
    with torch.no_grad():
        for name, tensor in named:
            known = record.new_name(name)
            masks = originals(widened, name, tuple(tensor.shape))
            if known in ours and masks and tensor.is_floating_point():
                ours[known].copy_(_padded(tensor, drawn[known], masks))
    return student


def random_layers(model: nn.Module, record: GrowthRecord, *, seed: int) -> nn.Module:
    """Return the student with each layer that was put in drawn as its kind draws itself.

    Args:
        model: The teacher; it is only read.
        record: Of a growth that put layers in.
        seed: Of what is drawn.

    Raises:
        ReplayError: The record belongs to another architecture.
    """
    student = replay(model, record)
    fresh = freshly_drawn(student, seed=seed, door="grow.random_layers")
    drawn = fresh.state_dict()
    added = [name for entry in record.depth for name in entry["added"]]
    with torch.no_grad():
        for name, tensor in student.state_dict().items():
            if any(name.startswith(f"{prefix}.") for prefix in added):
                tensor.copy_(drawn[name])
    return student


def freshly_drawn(model: nn.Module, *, seed: int, door: str) -> nn.Module:
    """Return a copy with every layer initialised as its class initialises itself.

    Args:
        model: Any network; it is only read.
        seed: Of what is drawn.
        door: Name under which the seed is used.
    """
    fresh = copy.deepcopy(model)
    owned = {id(p) for m in fresh.modules() if _resets(m) for p in m.parameters(recurse=False)}
    generator = generator_of(seed, f"{door}.bare")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, door))
        for module in fresh.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    with torch.no_grad():
        for parameter in fresh.parameters():
            if id(parameter) not in owned and parameter.numel() > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(parameter.mean() + parameter.std() * noise)
    return fresh


def _resets(module: nn.Module) -> bool:
    return callable(getattr(module, "reset_parameters", None))


def originals(
    widened: Widened, name: str, shape: tuple[int, ...]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return for each grown axis of a parameter where the originals stand, and which they are.

    Args:
        widened: The growth on labels.
        name: Of the parameter or buffer.
        shape: Its shape in the teacher.
    """
    found = {}
    for axis, rows in widened.rows(name, shape).items():
        first = (copies_of(rows.codes) == 0) & (rows.index >= 0)
        found[axis] = (torch.nonzero(first).flatten(), rows.index[first])
    for (known, axis), columns in widened.columns.items():
        if known == name:
            first = (columns.copies == 0) & (columns.index >= 0)
            found[axis] = (torch.nonzero(first).flatten(), columns.index[first])
    return {a: v for a, v in found.items() if len(v[0]) > 0}


def _padded(tensor: Tensor, drawn: Tensor, masks: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
    """Return drawn numbers with the teacher's at the places of the originals."""
    places = []
    source = tensor.detach()
    for axis in range(tensor.ndim):
        if axis in masks:
            place, index = masks[axis]
            source = source.index_select(axis, index)
        else:
            place = torch.arange(drawn.shape[axis])
        places.append(place.reshape([-1 if d == axis else 1 for d in range(tensor.ndim)]))
    result = drawn.detach().clone()
    result[tuple(places)] = source.to(result)
    return result
