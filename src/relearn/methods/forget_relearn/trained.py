"""A finished training at rest: every model it can deliver, and its books. Plain data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError
from relearn.evaluation.records import Intervention
from relearn.methods.forget_relearn.arms import (
    AVERAGE,
    AVERAGE_BEST,
    BEST,
    LAST,
    STABLE,
    STABLE_BEST,
)
from relearn.models.checkpoint import Architecture

if TYPE_CHECKING:
    from torch import Tensor

KIND_OF = {
    LAST: "student",
    BEST: "student",
    AVERAGE: "average",
    AVERAGE_BEST: "average",
    STABLE: "stable",
    STABLE_BEST: "stable",
}
"""Delivery to the kind of model whose curves belong to it."""


@dataclass(frozen=True)
class Trained:
    """What one training with one seed leaves behind.

    Attributes:
        name: Name of the training.
        seed: Seed of the pair.
        architecture: Of every model.
        models: Delivery (``last``, ``best``, ``average``, ``average_best``, ``stable``,
            ``stable_best``), or ``cycle<k>.last`` and ``cycle<k>.stable``, to weights by name.
        epochs: The same names to the epochs done when the model was as it is.
        curves: Kind of model (``student``, ``average``, ``stable``) to rows of (epoch, metric to
            value).
        recoveries: One row a forgetting: metric to value, see ``watch.Recovery``.
        notes: Values measured once, such as the epoch of the overfitting alarm.
        costs: Seconds and counts by name.
        interventions: The ledger.
        pictures: Tensors of the before and after pictures, see ``pictures.py``.
        order_digest: Digest of the sample order consumed.
        steps: Optimizer steps done.
        steps_since_change: Optimizer steps since the last forgetting or roll-back.
        stream: Digest of the stream.
        settings: Digest of the configuration.
    """

    name: str
    seed: int
    architecture: Architecture
    models: Mapping[str, Mapping[str, Tensor]]
    epochs: Mapping[str, int]
    curves: Mapping[str, list[list[Any]]]
    recoveries: list[dict[str, float]]
    notes: Mapping[str, float]
    costs: Mapping[str, float]
    interventions: list[Intervention]
    pictures: Mapping[str, Tensor]
    order_digest: str
    steps: int
    steps_since_change: int
    stream: str
    settings: str

    def model(self, delivery: str, *, cycle: int = 0) -> tuple[str, Mapping[str, Tensor]]:
        """Return the name and the weights of a delivered model.

        Args:
            delivery: One of the constants of ``arms.py``.
            cycle: Number of the cycle to go back to; 0 = the end of training, as for plain
                adversarial training always. What was best on validation knows no cycles and stays.

        Raises:
            ParameterError: The cycle was not kept.
        """
        name = delivery
        if cycle and delivery in (LAST, STABLE):
            name = f"cycle{cycle}.{delivery}"
            if name not in self.models:
                kept = dict.fromkeys(key.partition(".")[0] for key in self.models if "." in key)
                raise ParameterError(
                    f"forget_relearn.roll_back.to_cycle: got {cycle}, {self.name} (seed "
                    f"{self.seed}) has kept {', '.join(kept) or 'none'}; raise "
                    "forget_relearn.roll_back.keep_cycles and train again"
                )
        return name, self.models[name]

    def plain(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return a JSON document and tensors by name, from which ``from_plain`` makes it again."""
        told = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("models", "pictures", "interventions", "architecture")
        }
        told["architecture"] = asdict(self.architecture)
        told["interventions"] = [one.as_row() for one in self.interventions]
        tensors = {
            f"model:{kind}:{name}": value
            for kind, weights in self.models.items()
            for name, value in weights.items()
        }
        return told, tensors | {f"picture:{name}": value for name, value in self.pictures.items()}

    @classmethod
    def from_plain(cls, told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Trained:
        """Return what ``plain`` described.

        Args:
            told: The JSON document.
            tensors: By name.
        """
        models: dict[str, dict[str, Tensor]] = {}
        pictures: dict[str, Tensor] = {}
        for key, value in tensors.items():
            sort, _, rest = key.partition(":")
            if sort == "picture":
                pictures[rest] = value
            else:
                kind, _, name = rest.partition(":")
                models.setdefault(kind, {})[name] = value
        shape = dict(told["architecture"])
        shape |= {name: tuple(shape.get(name, ())) for name in ("mean", "std", "growth")}
        made = {
            "architecture": Architecture(**shape),
            "interventions": [Intervention(**row) for row in told["interventions"]],
        }
        return cls(**{**told, **made, "models": models, "pictures": pictures})
