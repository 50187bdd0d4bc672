"""The ledger's proof: a frozen body is made again from its row, and is the one that was used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.errors import TrainingError
from relearn.methods.last_layer_probe.bodies import body_digest, body_of
from relearn.methods.last_layer_probe.described import BodyDescription, drawn_body, noise_rows
from relearn.methods.last_layer_probe.freezing import FREEZE
from relearn.models.checkpoint import build
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from relearn.evaluation.records import Intervention
    from relearn.models.checkpoint import Architecture, Checkpoint


def verify(
    entry: Intervention, architecture: Architecture, *, base: Checkpoint | None = None
) -> bool:
    """Return whether the row's body, made again, has the digest from before and from after.

    A random body and one of noise are drawn again from the row alone. Of a base net the row holds
    the digest; with the net at hand its weights are compared too.

    Args:
        entry: A row of this method.
        architecture: Of the checkpoint that the arm left; not needed, every method takes it.
        base: The base net, where it is at hand.

    Raises:
        TrainingError: The row is of another kind.
    """
    del architecture
    if entry.kind != FREEZE:
        raise TrainingError(
            f"last_layer_probe.interventions: {entry.kind!r} is not a kind of this ledger, "
            f"expected {FREEZE}"
        )
    body = BodyDescription.from_plain(entry.details)
    same = entry.before_digest == entry.after_digest
    if body.kind == "random":
        net = drawn_body(body)
        state = dict(net.named_parameters()) | dict(net.named_buffers())
        return same and digest_tensors(state) == entry.after_digest
    if body.kind == "noise":
        rows = noise_rows(body, "train", int(body.options["rows"]))
        return same and digest_tensors({"train": rows}) == entry.after_digest
    same = same and body.options["digest"] == entry.after_digest
    if base is None:
        return same
    told = body_of(build(base), base.architecture, str(base.provenance.get("head", "")))
    return same and base.digest == body.options["base"] and body_digest(told) == entry.after_digest
