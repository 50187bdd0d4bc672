"""One warm-up for all: until the first forgetting, the trainings of a seed are one and the same.

Plain adversarial training leaves its state at the end of the warm-up; a training that forgets takes
it up there and ends bit for bit (on a CPU) where it would have ended from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relearn.provenance import digest

if TYPE_CHECKING:
    from relearn.methods.forget_relearn.cycle import Cycle
    from relearn.methods.forget_relearn.session import Session
    from relearn.training.resume import NoResume, ResumePoint

_SHARED = ("start_from", "head", "samples", "train", "attack", "loss", "monitor")
_OWN_KIND = "average"  # the one thing that plain training has and the others do not


class WarmStart:
    """The resume point of a training that may begin where another's warm-up ended.

    Args:
        own: Where the training itself is kept.
        shared: Where the end of the warm-up is kept; its key is set here, so that a point of other
            settings, images or another seed is passed over.
        session: The training.
        cycle: What surrounds its steps.
        stream: Digest of the stream.
    """

    def __init__(
        self,
        own: ResumePoint | NoResume,
        shared: ResumePoint | None,
        *,
        session: Session,
        cycle: Cycle,
        stream: str,
    ) -> None:
        self.own, self.session, self.cycle = own, session, cycle
        self.shared = replace(shared, key=_key(session, stream)) if shared else None
        self.warmup = session.config.cycle.warmup_epochs

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep the training, and plain training's state once at the end of the warm-up.

        Args:
            state: As ``fit`` gives it.
        """
        self.own.save(state)
        training = self.session.training
        plain = not training.treated and not training.perturbed
        if self.shared is not None and plain and state["epoch"] == self.warmup:
            self.shared.save({**state, "books": _without_average(state["books"])})

    def load(self) -> dict[str, Any] | None:
        """Return the training's own state, else the end of the shared warm-up, else None."""
        found = self.own.load()
        if found is not None or self.shared is None or not self.session.training.treated:
            return found
        shared = self.shared.load()
        if shared is None:
            return None
        pictures = self.cycle.pictures.state() if self.cycle.pictures else None
        return {**shared, "books": {**shared["books"], "pictures": pictures}}


def _key(session: Session, stream: str) -> str:
    told = {name: value for name, value in session.config.model_dump().items() if name in _SHARED}
    cycle = session.config.cycle
    return digest(
        {
            "settings": told,
            "warmup": cycle.warmup_epochs,
            # the trigger counts during the warm-up already, and is kept with it
            "trigger": [cycle.plateau.smallest_gain, cycle.robust_gap.smoothing],
            "seed": session.seed,
            "architecture": str(session.architecture),
            "base": session.base.digest if session.config.start_from == "base" else "",
            "stream": stream,
            "device": session.device.describe(),
        }
    )


def _without_average(books: Mapping[str, Any]) -> dict[str, Any]:
    session = dict(books["session"])
    kept = dict(session["books"])
    for name in ("curves", "best"):
        kept[name] = {kind: value for kind, value in kept[name].items() if kind != _OWN_KIND}
    seconds = dict(session["seconds"])
    seconds["total"] -= seconds.pop("consolidation", 0.0)
    session |= {"books": kept, "average": None, "seconds": seconds}
    return {**books, "session": session}
