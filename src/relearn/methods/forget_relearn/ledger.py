"""The proof of each forgetting: masks and new values are drawn again and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.errors import ParameterError
from relearn.methods.forget_relearn.forget import fresh_source, mask_of
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.evaluation.records import Intervention

ROLL_BACK = "roll_back"
FORGET = "forget_weights"


def redraw_mask(entry: Intervention) -> Tensor:
    """Return the mask that a row says was used, bool, shape of the tensor.

    Args:
        entry: A row of kind ``forget_weights``.
    """
    details = entry.details
    return mask_of(
        entry.target,
        tuple(int(n) for n in details["shape"]),
        share=float(details["share"]),
        kind=str(details["mask"]),
        seed=entry.draw_seed,
    )


def redraw_values(entry: Intervention, architecture: Architecture) -> Tensor | None:
    """Return the values that were written, shape (rows,); None where no seed can give them.

    ``fresh`` and ``zero`` can always be drawn again, ``rewind`` where the first weights were drawn
    from a seed. ``stable`` values come from training, so that only their mask can be proven.

    Args:
        entry: A row of kind ``forget_weights``.
        architecture: Of the arm's checkpoint.
    """
    kind, origin = entry.details["initialisation"], int(entry.details["origin_seed"])
    mask = redraw_mask(entry)
    if kind == "zero":
        zeros: Tensor = torch.zeros(int(mask.sum()))
        return zeros
    if kind == "fresh":
        return fresh_source(architecture, draw_seed=entry.draw_seed).values[entry.target][mask]
    if kind == "rewind" and origin >= 0:
        first = dict(build_fresh(architecture, seed=origin).named_parameters())
        return first[entry.target].detach()[mask]
    return None


def is_proven_by_mask_alone(entry: Intervention) -> bool:
    """Return whether no seed can give the values that a row says were written.

    Where that is so, ``verify`` proves which weights were forgotten, and not what they became.

    Args:
        entry: A row of the ledger.
    """
    if entry.kind != FORGET:
        return False
    kind = entry.details["initialisation"]
    return bool(kind == "stable" or (kind == "rewind" and int(entry.details["origin_seed"]) < 0))


def verify(entry: Intervention, architecture: Architecture) -> bool:
    """Return whether a ledger row can be made again from what it says.

    ``forget_weights``: the mask drawn again has the recorded digest and count, and so have the
    values where a seed can give them. ``roll_back``: the state that was taken up has the digest
    that was noted when it was kept, before the forgetting.

    Args:
        entry: A row of the ledger.
        architecture: Architecture of the arm's checkpoint.
    """
    if entry.kind == ROLL_BACK:
        return bool(entry.details["kept_digest"] == entry.after_digest)
    if entry.kind != FORGET:
        return False
    try:
        mask = redraw_mask(entry)
    except ParameterError:  # a share or a kind of mask that there is not
        return False
    same = digest_tensors({"mask": mask}) == entry.details["mask_digest"]
    if not same or int(mask.sum()) != entry.rows:
        return False
    values = redraw_values(entry, architecture)
    return values is None or digest_tensors({"values": values}) == entry.after_digest
