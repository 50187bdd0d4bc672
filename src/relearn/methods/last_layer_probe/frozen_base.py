"""The base net frozen: its features at every tap point, and what the ledger says about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.methods.last_layer_probe.bodies import Body, body_digest, body_of
from relearn.methods.last_layer_probe.described import BodyDescription, body_norm
from relearn.methods.last_layer_probe.features import extract
from relearn.methods.last_layer_probe.freezing import note_frozen
from relearn.methods.last_layer_probe.image_parts import images_of, shape_of
from relearn.methods.last_layer_probe.representation import Features, kinds_of
from relearn.methods.last_layer_probe.tap_points import tap_points
from relearn.models.checkpoint import build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from relearn.methods.last_layer_probe.session import Session
    from relearn.methods.last_layer_probe.tap_points import TapPoint

_BATCH = 256


def head_of(session: Session) -> str:
    """Return the name of the base net's last layer; empty where it is to be found.

    Args:
        session: With the base net.
    """
    return str(session.base.provenance.get("head", ""))


def read_taps(session: Session) -> tuple[dict[str, Features], BodyDescription]:
    """Return the features at every tap point, and write the ledger's row.

    Args:
        session: Of the kind ``frozen``.
    """
    body = _body(session)
    taps = tap_points(body, session.samples.train.images[:2])
    options = _read(session, body, taps)
    return options, note_base(session, body.net)


def note_base(session: Session, net: nn.Module) -> BodyDescription:
    """Write that the base's body is as it came, and return what makes it again.

    Args:
        session: Whose ledger is written.
        net: The base net, whatever its last layer.
    """
    digest = body_digest(body_of(net, session.base.architecture, head_of(session)))
    told = BodyDescription(
        "base", {"digest": digest, "base": session.base.digest}, shape_of(session)
    )
    note_frozen(session, told, digest, body_norm(net))
    return told


def last_features(session: Session) -> Features:
    """Return what the base net's last layer reads.

    Args:
        session: Of a kind that uses the base net's weights; its books stay as they are.
    """
    body = _body(session)
    last = tap_points(body, session.samples.train.images[:2])[-1]
    return _read(session, body, [last])[last.name]


def _body(session: Session) -> Body:
    told = session.base.architecture
    return Body(build(session.base), told.mean, told.std, head_of(session))


def _read(session: Session, body: Body, taps: Sequence[TapPoint]) -> dict[str, Features]:
    found = {
        part: extract(body, images, taps, batch=_BATCH)
        for part, images in images_of(session).items()
    }
    kinds = kinds_of(session.config)
    return {
        tap.name: Features({part: rows[tap.name] for part, rows in found.items()}, kinds)
        for tap in taps
    }
