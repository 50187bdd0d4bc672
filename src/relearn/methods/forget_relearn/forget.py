"""The idea of forgetting: a random share of the later layers' weights becomes as it was at birth.

Paper: arXiv 2402.11733, figure 2 (c). The share, the layers and the source of the new values are
knobs, because the paper's settings could not be read. Share 1 on the late layers is later-layer
forgetting (Zhou et al., "Fortuitous Forgetting", ICLR 2022); share 0 is the sham.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError
from relearn.evaluation.records import Intervention
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer


@dataclass(frozen=True)
class Source:
    """Where forgotten weights take their new values from.

    Attributes:
        name: ``fresh``, ``rewind``, ``zero`` or ``stable``.
        values: Name of a tensor to its values; those that are forgotten at least.
        origin_seed: For ``rewind``: seed from which the first weights are drawn again; -1 where
            they were not drawn (they came from a checkpoint).
    """

    name: str
    values: Mapping[str, Tensor]
    origin_seed: int = field(default=-1)


def draw_mask(
    shape: tuple[int, ...], *, fraction: float, kind: str, generator: Generator
) -> Tensor:
    """Return which weights are forgotten, bool, of the given shape.

    Args:
        shape: Of the weight tensor.
        fraction: Share that is forgotten, 0 to 1.
        kind: ``exact``: round(fraction * n) weights; ``bernoulli``: each with that probability.
        generator: Seeded source on the CPU, so that the mask can be drawn again on any machine.

    Raises:
        ParameterError: The share is outside 0 to 1, or ``kind`` is not known.
    """
    if not 0 <= fraction <= 1:
        raise ParameterError(f"forget_relearn.forget.fraction: got {fraction:g}, expected 0 to 1")
    count = 1
    for size in shape:
        count *= size
    if kind == "bernoulli":
        chosen: Tensor = torch.rand(count, generator=generator) < fraction
        return chosen.view(shape)
    if kind != "exact":
        raise ParameterError(
            f"forget_relearn.forget.mask: got {kind!r}, expected exact or bernoulli"
        )
    mask = torch.zeros(count, dtype=torch.bool)
    mask[torch.randperm(count, generator=generator)[: round(fraction * count)]] = True
    return mask.view(shape)


def fresh_source(architecture: Architecture, *, draw_seed: int) -> Source:
    """Return weights drawn as the net itself was drawn, a function of (architecture, seed).

    Args:
        architecture: The net.
        draw_seed: Seed of this forgetting.
    """
    net = build_fresh(architecture, seed=draw_seed)
    return Source("fresh", {name: p.detach() for name, p in net.named_parameters()})


@torch.no_grad()
def forget_weights(
    parameter: nn.Parameter, mask: Tensor, values: Tensor, optimizer: Optimizer | None = None
) -> None:
    """Give the masked weights their new values; all others keep every bit.

    theta <- (1 - M) * theta + M * theta_new (SPEC step 4).

    Args:
        parameter: The weight tensor.
        mask: bool, of its shape.
        values: Of its shape; read where the mask is set.
        optimizer: Where given, its momentum (any state of the tensor's shape) of the masked weights
            becomes 0; otherwise the old momentum drags the new weights along.
    """
    here = mask.to(parameter.device)
    parameter[here] = values.to(parameter)[here]
    if optimizer is None:
        return
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
            value[here] = 0.0


def forget(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    shares: Mapping[str, float],
    mask: str,
    source: Source,
    clear_momentum: bool,
    row: Mapping[str, Any],
) -> list[Intervention]:
    """Forget the given share of each named tensor and return the ledger's rows, one a tensor.

    Args:
        model: The student.
        optimizer: What trains it.
        shares: Name of a tensor to the share that is forgotten.
        mask: ``exact`` or ``bernoulli``.
        source: New values.
        clear_momentum: Whether forgotten weights lose their momentum.
        row: The other fields of an ``Intervention``: method, arm, seed, step, epoch, trigger, and
            draw_seed, from which masks are drawn.
    """
    named = dict(model.named_parameters())
    entries = []
    for name, share in shares.items():
        parameter = named[name]
        before_norm = float(parameter.detach().norm())
        drawn = mask_of(name, tuple(parameter.shape), share=share, kind=mask, seed=row["draw_seed"])
        here = drawn.to(parameter.device)
        before = parameter.detach()[here].clone()
        forget_weights(parameter, drawn, source.values[name], optimizer if clear_momentum else None)
        after = parameter.detach()[here]
        entries.append(
            Intervention(
                kind="forget_weights",
                target=name,
                rows=int(drawn.sum()),
                before_digest=digest_tensors({"values": before}),
                after_digest=digest_tensors({"values": after}),
                before_norm=before_norm,
                after_norm=float(parameter.detach().norm()),
                details={
                    "shape": list(parameter.shape),
                    "share": share,
                    "mask": mask,
                    "mask_digest": digest_tensors({"mask": drawn}),
                    "weights": parameter.numel(),
                    "initialisation": source.name,
                    "origin_seed": source.origin_seed,
                    "clear_momentum": clear_momentum,
                },
                **row,
            )
        )
    return entries


def mask_of(name: str, shape: tuple[int, ...], *, share: float, kind: str, seed: int) -> Tensor:
    """Return the mask of one tensor and event, a function of the event's seed and the name.

    Args:
        name: Of the tensor.
        shape: Of the tensor.
        share: Share that is forgotten.
        kind: ``exact`` or ``bernoulli``.
        seed: ``draw_seed`` of the event.
    """
    door = generator_of(seed, f"mask.{name}")
    return draw_mask(shape, fraction=share, kind=kind, generator=door)
