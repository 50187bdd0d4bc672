"""Going back to the state before a forgetting that did not recover within its budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from relearn.evaluation.records import Intervention
from relearn.methods.forget_relearn.ledger import ROLL_BACK
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from relearn.methods.forget_relearn.session import Session
    from relearn.methods.forget_relearn.watch import Recovery
    from relearn.training.loop import LoopState


def keep(session: Session, state: LoopState) -> dict[str, Any]:
    """Return a copy of student, optimizer and stable model, with the student's digest.

    Args:
        session: Nets and books.
        state: Where the training stands.
    """
    model = weights_of(session.model)
    return {
        "model": model,
        "digest": digest_tensors(model),
        "optimizer": _copied(state.optimizer.state_dict()),
        "stable": session.stable.state() if session.stable else None,
    }


def go_back(
    session: Session, state: LoopState, recovery: Recovery, *, kept: Mapping[str, Any]
) -> None:
    """Take up the kept state again, write it into the ledger, and let the schedule go on.

    Args:
        session: Nets and books.
        state: Where the training stands.
        recovery: The forgetting that did not recover.
        kept: As from ``keep``, before that forgetting.
    """
    before = weights_of(session.model)
    session.model.load_state_dict(kept["model"])
    state.optimizer.load_state_dict(_with_present_rates(kept["optimizer"], state))
    if session.stable is not None and kept["stable"] is not None:
        session.stable.restore(kept["stable"])
    after = weights_of(session.model)
    recovery.rolled_back = True
    relearnt = recovery.relearnt or 0.0
    session.books.interventions.append(
        Intervention(
            method="forget_relearn",
            arm=session.training.name,
            seed=session.seed,
            step=state.step,
            epoch=state.epoch,
            kind=ROLL_BACK,
            target="*",
            rows=len(after),
            trigger=f"cycle {recovery.cycle}: {recovery.before:.3f} before, {relearnt:.3f} after",
            draw_seed=0,
            before_digest=digest_tensors(before),
            after_digest=digest_tensors(after),
            before_norm=_norm(before),
            after_norm=_norm(after),
            details={"kept_digest": kept["digest"], "cycle": recovery.cycle},
        )
    )
    session.log(state.epoch, {"rolled_back": float(recovery.cycle)})


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all parameters and statistics by name.

    Args:
        model: Any net.
    """
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _with_present_rates(kept: dict[str, Any], state: LoopState) -> dict[str, Any]:
    """Return the kept state of the optimizer with the rates of now: the schedule goes on."""
    now = state.optimizer.state_dict()["param_groups"]
    groups = [{**old, "lr": new["lr"]} for old, new in zip(kept["param_groups"], now, strict=True)]
    return {**kept, "param_groups": groups}


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: _copied(inner) for name, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _norm(weights: Mapping[str, Tensor]) -> float:
    return float(sum(float(w.double().norm()) ** 2 for w in weights.values()) ** 0.5)
