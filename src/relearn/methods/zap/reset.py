"""The idea of zapping: draw the rows of the last layer anew and leave everything else alone.

Paper: Frati, Traft, Clune, Cheney, "Reset It and Forget It", arXiv 2310.07996; official code
uvm-neurobotics-lab/reset-it-and-forget-it, function ``lobotomize``. The official code passes many
rows through a tensor with a leading axis, so that its "fan in" is rows * features and the new
weights are almost zero; that scale is ``joint_fan_in`` here. The bias and the optimizer's moments
stay, unless asked otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError
from relearn.evaluation.records import Intervention
from relearn.methods.zap.policy import choose_rows
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer


def draw_rows(
    before: Tensor,
    *,
    initialisation: str,
    std: float,
    generator: Generator,
    row_norms: Tensor | None = None,
) -> Tensor:
    """Return new values for rows of the last layer, shape as ``before``.

    With K rows and D features: ``joint_fan_in`` N(0, 2/(K D)); ``kaiming_normal`` N(0, 2/D);
    ``torch_default`` U(-1/sqrt(D), 1/sqrt(D)); ``zeros``; ``normal`` N(0, std^2);
    ``match_row_norm`` a random direction with the norm of the row it replaces.

    Args:
        before: Present values of the rows, float, shape (K, D).
        initialisation: One of the names above.
        std: Standard deviation for ``normal``.
        generator: Seeded source on the CPU, so that a ledger row can be redrawn on any machine.
        row_norms: Norms for ``match_row_norm``, float32, shape (K,); None takes those of
            ``before``.

    Raises:
        ParameterError: ``initialisation`` is unknown.

    References:
        Official code, ``utils/__init__.py``; He et al. 2015 for the scale 2 / fan_in.
    """
    rows, features = (int(n) for n in before.shape)
    fresh: Tensor
    if initialisation == "zeros":
        zeros: Tensor = torch.zeros_like(before)
        return zeros
    if initialisation == "torch_default":
        bound = 1 / math.sqrt(features)
        fresh = torch.empty(rows, features).uniform_(-bound, bound, generator=generator)
        return fresh.to(before)
    normal: Tensor = torch.randn(rows, features, generator=generator)
    if initialisation == "match_row_norm":
        wanted = norms_of(before) if row_norms is None else row_norms
        # in float64, so that the rounding of a sum cannot change the float32 result
        scale = wanted.double() / normal.double().norm(dim=1)
        fresh = normal.double() * scale.unsqueeze(1)
        return fresh.to(before)
    scales = {
        "joint_fan_in": math.sqrt(2 / (rows * features)),
        "kaiming_normal": math.sqrt(2 / features),
        "normal": std,
    }
    if initialisation not in scales:
        raise ParameterError(f"zap.reset.initialisation: {initialisation!r} is not known")
    fresh = normal * scales[initialisation]
    return fresh.to(before)


def norms_of(rows: Tensor) -> Tensor:
    """Return the Euclidean norm of each row on the CPU, float32, shape (K,).

    Args:
        rows: Float, shape (K, D).
    """
    norms: Tensor = rows.detach().cpu().double().norm(dim=1).float()
    return norms


@torch.no_grad()
def reset_last_layer(
    head: nn.Linear,
    *,
    rows: Tensor,
    initialisation: str,
    generator: Generator,
    std: float = 0.01,
    reset_bias: bool = False,
) -> None:
    """Draw the given rows of the last layer anew; all other weights keep every bit.

    Args:
        head: The last layer, weight shape (classes, features).
        rows: Row numbers, int64, shape (K,).
        initialisation: See ``draw_rows``.
        generator: Seeded source of the new values.
        std: Standard deviation for ``normal``.
        reset_bias: Also set the bias of these rows to 0.
    """
    rows = rows.to(head.weight.device)
    before = head.weight[rows].flatten(1)
    fresh = draw_rows(before, initialisation=initialisation, std=std, generator=generator)
    head.weight[rows] = fresh.view_as(head.weight[rows])
    if reset_bias and head.bias is not None:
        head.bias[rows] = 0.0


@torch.no_grad()
def clear_moments(optimizer: Optimizer, parameter: nn.Parameter, rows: Tensor) -> None:
    """Set the optimizer's running moments of the given rows to zero.

    Works for any optimizer whose state holds tensors of the parameter's shape (momentum buffers,
    Adam's first and second moments). Step counters stay: they belong to the whole tensor.

    Args:
        optimizer: The optimizer that trains ``parameter``.
        parameter: Weight or bias of the last layer.
        rows: Row numbers, int64, shape (K,).
    """
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
            value[rows.to(value.device)] = 0.0


def zap(
    head: nn.Linear,
    *,
    rows: Tensor,
    initialisation: str,
    std: float,
    reset_bias: bool,
    row: dict[str, Any],
) -> Intervention:
    """Reset rows of the last layer and return the ledger's row that proves it.

    Args:
        head: The last layer.
        rows: Row numbers, int64, shape (K,).
        initialisation: See ``draw_rows``.
        std: Standard deviation for ``normal``.
        reset_bias: Also set the bias of these rows to 0.
        row: The other fields of the ``Intervention``: method, arm, seed, step, epoch, target,
            trigger, and draw_seed, from which the new values are drawn.
    """
    before = head.weight.detach()[rows].flatten(1).clone()
    reset_last_layer(
        head,
        rows=rows,
        initialisation=initialisation,
        generator=generator_of(row["draw_seed"], "values"),
        std=std,
        reset_bias=reset_bias,
    )
    after = head.weight.detach()[rows].flatten(1)
    details: dict[str, Any] = {
        "initialisation": initialisation,
        "std": std,
        "features": before.shape[1],
        "outputs": head.weight.shape[0],
        "reset_bias": reset_bias,
        "rows": "all" if len(rows) == head.weight.shape[0] else rows.tolist(),
    }
    if initialisation == "match_row_norm":
        details["row_norms"] = norms_of(before).tolist()
    return Intervention(
        kind="reset_last_layer",
        rows=len(rows),
        before_digest=digest_tensors({"rows": before}),
        after_digest=digest_tensors({"rows": after}),
        before_norm=float(before.norm()),
        after_norm=float(after.norm()),
        details=details,
        **row,
    )


def redraw(entry: Intervention) -> Tensor:
    """Return the values that a ``reset_last_layer`` row says were written, shape (rows, features).

    Args:
        entry: A row of the ledger.
    """
    details = entry.details
    norms = details.get("row_norms")
    return draw_rows(
        torch.empty(entry.rows, int(details["features"])),
        initialisation=details["initialisation"],
        std=float(details["std"]),
        generator=generator_of(entry.draw_seed, "values"),
        row_norms=None if norms is None else torch.tensor(norms),
    )


def verify_reset(entry: Intervention) -> bool:
    """Return whether the values drawn again from the row's seed have the recorded digest.

    Args:
        entry: A row of the ledger of kind ``reset_last_layer``.
    """
    norms = entry.details.get("row_norms")
    if norms is not None and len(norms) != entry.rows:
        return False
    return digest_tensors({"rows": redraw(entry)}) == entry.after_digest


__all__ = [
    "choose_rows",
    "clear_moments",
    "draw_rows",
    "redraw",
    "reset_last_layer",
    "verify_reset",
    "zap",
]
