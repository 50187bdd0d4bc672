"""The ledger's row of a body that was left as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.evaluation.records import Intervention

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.described import BodyDescription
    from relearn.methods.last_layer_probe.session import Session

FREEZE = "freeze_body"


def note_frozen(session: Session, body: BodyDescription, digest: str, norm: float) -> None:
    """Write that the body is frozen: the same before and after the head was fitted.

    Args:
        session: Whose ledger is written.
        body: What makes it again.
        digest: Of its numbers.
        norm: Frobenius norm of them.
    """
    session.interventions.append(
        Intervention(
            method=session.recorder.method,
            arm=session.arm.name,
            seed=session.seed,
            step=0,
            epoch=0,
            kind=FREEZE,
            target=body.label,
            rows=0,
            trigger="probe",
            draw_seed=session.seed,
            before_digest=digest,
            after_digest=digest,
            before_norm=norm,
            after_norm=norm,
            details=body.to_plain(),
        )
    )
