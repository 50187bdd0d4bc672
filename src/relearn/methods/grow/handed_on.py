"""The proof about inserted layers: each hands on what it gets, whatever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.data.randomness import generator_of
from relearn.methods.grow.inserted import activation_of
from relearn.methods.grow.resting import resting_copy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from torch import Tensor, nn

_EXAMPLES, _SIZE = 4, 5


def layer_error(net: nn.Module, depth: Sequence[Mapping[str, Any]]) -> float:
    """Return the largest |f(x) - x| / max|x| of all inserted layers f, in float64; 0 for none.

    x is noise ten times as large as activations are wont to be, behind the activation that the
    layer follows. A layer that mixes channels or positions, rescales or shifts is off by about 1.

    Args:
        net: A network with the layers in it, before any training; it is only read.
        depth: The layers, from a record.
    """
    noise = generator_of(0, "grow.handed_on")
    worst = 0.0
    for entry in depth:
        given = _given(entry, noise)
        for name in entry["added"]:
            layer = resting_copy(net.get_submodule(name), torch.float64)
            with torch.no_grad():
                off = float((layer(given) - given).abs().max() / given.abs().max())
            worst = max(worst, off) if off == off else float("inf")  # noqa: PLR0124 - NaN
    return worst


def _given(entry: Mapping[str, Any], noise: torch.Generator) -> Tensor:
    """Return noise of the shape that the layers take, as their activation lets it through."""
    spatial = entry["axis"] == 1 and entry["ndim"] > 2
    size = max(_SIZE, entry["kernel"] if spatial else 1)
    others = [size] * (entry["ndim"] - 2)
    shape = [entry["channels"], *others] if spatial else [*others, entry["channels"]]
    drawn = 10 * torch.randn(_EXAMPLES, *shape, generator=noise, dtype=torch.float64)
    activation = activation_of(entry["made_by"])
    result: Tensor = drawn if activation is None else activation(drawn)
    return result
