"""What is kept around each forgetting, for the before and after pictures: plain tensors alone.

Three moments of each cycle: ``before``, ``forgotten`` (before any step) and ``relearnt``. The plane
of the coordinates is laid through the features of the first ``before`` and never moves again, so
that pictures of one training can be laid over each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from relearn.evaluation.attacks.scoring import attacked_pixels, to_pixels
from relearn.evaluation.attacks.white_box import logits_at, measuring
from relearn.evaluation.similarity import Plane, compare_predictions, fit_plane, linear_cka
from relearn.models.heads import features, find_head

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.ball import Ball
    from relearn.evaluation.attacks.pgd import Pgd

MOMENTS = ("before", "forgotten", "relearnt")
_CKA = {"forgotten": "cka_after_forgetting", "relearnt": "cka_after_relearning"}


class Pictures:
    """Takes the pictures of one training; nets are left as they were.

    Args:
        images: The same validation images every time, uint8, shape (n, channels, height, width).
        labels: Their labels, int64, shape (n,).
        attack: Settings of the attack; the draws are the same every time.
        ball: Where attacked images may lie.
        seed: Seed of the pair.
        head: Name of the last layer; empty finds it.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        attack: Pgd,
        ball: Ball,
        seed: int,
        head: str = "",
    ) -> None:
        self.images, self.labels = images.cpu().clone(), labels.cpu().clone()
        self.attack, self.ball, self.seed, self.head = attack, ball, seed, head
        self.plane: Plane | None = None
        self.before: dict[str, Tensor] = {}
        self.figures: dict[int, dict[str, float]] = {}
        self._relearnt: tuple[int, tuple[Tensor, Tensor, Tensor]] | None = None

    def take(
        self, net: nn.Module, model: nn.Module, *, cycle: int, moment: str, step: int | None = None
    ) -> dict[str, Tensor]:
        """Return the tensors of one picture, and those all pictures share, by their names.

        Args:
            net: Takes pixels; shares the weights of ``model``.
            model: The net inside, whose last layer is known by name.
            cycle: Number of the forgetting, from 1.
            moment: ``before``, ``forgotten`` or ``relearnt``; ``before`` comes first.
            step: Optimizer steps done; a ``before`` at the step of the last ``relearnt`` is the
                same picture and is not taken anew. None takes every picture anew.

        Returns:
            ``cycle<k>.<moment>.coordinates`` float32 (n, 2), ``.clean_predicted`` and
            ``.attacked_predicted`` int64 (n,); ``labels`` and ``indices`` int64 (n,), ``cka``
            float32 (cycles, 2): before against forgotten and against relearnt, NaN where not taken;
            ``axes_share`` float32 (2,): share of the variance at first along each axis.

        Raises:
            ValueError: The moment is not known, or nothing was taken before it.
        """
        if moment not in MOMENTS or (moment != "before" and not self.before):
            raise ValueError(f"pictures: got moment {moment!r} of cycle {cycle} out of turn")
        known, self._relearnt = self._relearnt, None
        if moment == "before" and known is not None and known[0] == step:
            found, clean, attacked = (tensor.clone() for tensor in known[1])  # each is stored
        else:
            found, clean, attacked = self._look(net, model)
        if moment == "relearnt" and step is not None:
            self._relearnt = (step, (found, clean, attacked))
        if self.plane is None:
            self.plane = fit_plane(found)
        if moment == "before":
            self.before = {"features": found, "attacked": attacked}
            self.figures[cycle] = {}
        else:
            self._compare(cycle, moment, found=found, attacked=attacked)
        name = f"cycle{cycle}.{moment}"
        return {
            f"{name}.coordinates": self.plane.place(found).float(),
            f"{name}.clean_predicted": clean,
            f"{name}.attacked_predicted": attacked,
            "labels": self.labels,
            "indices": torch.arange(len(self.labels)),
            "cka": self._similarities(),
            "axes_share": torch.tensor(self.plane.shares),
        }

    def records(self, cycle: int) -> dict[str, float]:
        """Return the metrics of a cycle: those whose pictures were taken.

        Args:
            cycle: Number of the forgetting, from 1.

        Returns:
            ``cka_after_forgetting``, ``cka_after_relearning``; ``newly_wrong`` and ``newly_right``:
            attacked images that relearning ends wrong on and that were right before, and the other
            way round.
        """
        return dict(self.figures.get(cycle, {}))

    def state(self) -> dict[str, Any]:
        """Return what a resume point keeps."""
        return {
            "plane": dict(vars(self.plane)) if self.plane else None,
            "before": dict(self.before),
            "figures": {str(cycle): dict(told) for cycle, told in self.figures.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: Read from a resume point.
        """
        kept = state["plane"]
        self.plane = None
        if kept is not None:
            self.plane = Plane(kept["middle"], kept["axes"], tuple(kept["shares"]))
        self.before = dict(state["before"])
        self.figures = {int(cycle): dict(told) for cycle, told in state["figures"].items()}

    def _look(self, net: nn.Module, model: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Return penultimate features, and predictions of clean and attacked images."""
        points = attacked_pixels(
            net, self.images, self.labels, attack=self.attack, ball=self.ball, seed=self.seed
        )
        inner = next(name for name, module in net.named_modules() if module is model)
        head = f"{inner}.{find_head(model, self.head).name}".strip(".")
        with measuring(net), torch.no_grad():
            pixels = to_pixels(self.images, net)
            found = features(net, pixels, head).float().cpu()
            clean, attacked = (logits_at(net, x.to(pixels.device)) for x in (pixels, points))
        return found, clean.argmax(1).cpu(), attacked.argmax(1).cpu()

    def _compare(self, cycle: int, moment: str, *, found: Tensor, attacked: Tensor) -> None:
        told = self.figures[cycle]
        told[_CKA[moment]] = _likeness(self.before["features"], found)
        if moment == "relearnt":
            classes = int(torch.cat([self.labels, self.before["attacked"], attacked]).max()) + 1
            change = compare_predictions(
                self.before["attacked"], attacked, self.labels, classes=classes
            )
            told["newly_wrong"] = float(len(change.newly_wrong))
            told["newly_right"] = float(len(change.newly_right))

    def _similarities(self) -> Tensor:
        rows = [
            [self.figures[cycle].get(name, math.nan) for name in _CKA.values()]
            for cycle in sorted(self.figures)
        ]
        return torch.tensor(rows, dtype=torch.float32).view(-1, 2)


def _likeness(before: Tensor, after: Tensor) -> float:
    """Return the linear CKA; 0 where forgetting has left the same features for every image."""
    return linear_cka(before, after) if bool((after != after[:1]).any()) else 0.0
