"""The penalty of a logistic last layer, chosen on rows held out from the fit, never on test rows.

The penalties are tried from the largest to the smallest, each fit beginning where the last one
ended. Held-out rows are drawn from the training rows by class, and the chosen penalty is then
fitted to all of them; or they are given, and the fit that was judged is returned as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.randomness import generator_of
from relearn.errors import DataError, ParameterError, one_of
from relearn.training.head_targets import (
    BALANCED,
    balanced_class_weights,
    check_class_weights,
    check_features,
    check_labels,
)
from relearn.training.multinomial import TOLERANCE, MultinomialFit, read_problem
from relearn.training.ridge_spectrum import ROUNDING, border_warning, check_penalties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

GRID = (-7.0, 1.0, 17)  # log10 of the smallest and the largest, and how many
SELECTIONS = ("log_loss", "accuracy")


@dataclass(frozen=True)
class HeldOut:
    """How rows are held out from the training rows.

    Attributes:
        share: Of each class, above 0 and below 1; a class of one row stays in the fit.
        seed: Of the draw.
    """

    share: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class MultinomialPath:
    """What each penalty did on held-out rows, and the fit that was chosen.

    Attributes:
        penalties: Ascending, float64, shape (penalties,).
        log_loss: Weighted mean log-loss on held-out rows, shape (penalties,).
        accuracy: Weighted share of held-out rows whose class is hit, shape (penalties,).
        best: Position of the chosen penalty; of equals the largest.
        select: By what it was chosen.
        warning: What to say of a choice at the border of the grid; empty if it is inside.
        fit: Head for the chosen penalty, on all training rows.
        held_rows: Number of held-out rows.
        certificate: Largest certificate of all fits of the path.
    """

    penalties: Tensor
    log_loss: Tensor
    accuracy: Tensor
    best: int
    select: str
    warning: str
    fit: MultinomialFit
    held_rows: int
    certificate: float

    @property
    def penalty(self) -> float:
        """The chosen penalty."""
        return float(self.penalties[self.best])


def multinomial_path(
    features: Tensor,
    labels: Tensor,
    *,
    validation: tuple[Tensor, Tensor] | HeldOut | None = None,
    penalties: Sequence[float] | Tensor | None = None,
    class_weights: Tensor | str | None = None,
    classes: int | None = None,
    select: str = "log_loss",
    tolerance: float = TOLERANCE,
) -> MultinomialPath:
    """Return the logistic head whose penalty does best on held-out rows.

    Args:
        features: Training rows, float, shape (n, p).
        labels: int64, shape (n,), from 0.
        validation: Features and labels that judge the penalties, or how to hold some of the
            training rows out; None holds out a fifth with seed 0.
        penalties: As in ``fit_multinomial``; None takes 17 values from 1e-7 to 10.
        class_weights: As in ``fit_multinomial``; held-out rows are weighed likewise.
        classes: Number of classes; None takes the largest training label plus one.
        select: ``log_loss`` or ``accuracy`` (of equals the one with the least log-loss).
        tolerance: As in ``fit_multinomial``.

    Raises:
        DataError: NaN, one class, shapes that do not fit, or too few rows to hold any out.
        ParameterError: A negative penalty, a share out of range, or an unknown choice.
        TrainingError: The tolerance is not reached.
    """
    if select not in SELECTIONS:
        raise one_of("select", select, SELECTIONS)
    labels = check_labels(labels, classes)
    classes = classes or int(labels.max()) + 1
    weights = _class_weights(class_weights, labels, classes)
    grid = default_penalties() if penalties is None else check_penalties(penalties)
    held = HeldOut() if validation is None else validation
    kept, judge = _divided(features, labels, held, classes=classes)
    problem = read_problem(*kept, class_weights=weights, classes=classes)
    fits = problem.path(grid, tolerance=tolerance)
    losses, hits = _judge(fits, judge, weights)
    best = _chosen(losses, hits, select)
    fit = fits[best]
    if isinstance(held, HeldOut):
        whole = read_problem(features, labels, class_weights=weights, classes=classes)
        start = whole.standard.from_raw(fit.weight, fit.bias)
        fit, _ = whole.fit(fit.penalty, theta=start, tolerance=tolerance)
    return MultinomialPath(
        penalties=grid,
        log_loss=losses,
        accuracy=hits,
        best=best,
        select=select,
        warning=border_warning(grid, best),
        fit=fit,
        held_rows=len(judge[1]),
        certificate=max(each.certificate for each in (*fits, fit)),
    )


def default_penalties() -> Tensor:
    """Return the penalties that are tried where none are given, ascending."""
    return torch.logspace(*GRID, dtype=torch.float64)


def hold_out(labels: Tensor, held: HeldOut) -> tuple[Tensor, Tensor]:
    """Return the positions of the rows that are kept and of those that are held out, ascending.

    Args:
        labels: int64, shape (n,).
        held: Share and seed.

    Raises:
        ParameterError: The share is not above 0 and below 1.
        DataError: No class has two rows.
    """
    if not 0 < held.share < 1:
        raise ParameterError(f"share: got {held.share}, expected above 0 and below 1")
    generator = generator_of(held.seed, "multinomial.held_out")
    kept, out = [], []
    for label in labels.unique().tolist():
        rows = (labels.cpu() == label).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        count = min(len(rows) - 1, max(1, round(held.share * len(rows))))
        out.append(rows[:count])
        kept.append(rows[count:])
    held_rows = torch.cat(out).sort().values
    if not len(held_rows):
        raise DataError(
            "labels: every class has one row, expected two of some class to hold one out; give "
            "validation rows"
        )
    return torch.cat(kept).sort().values, held_rows


def _divided(
    features: Tensor, labels: Tensor, held: tuple[Tensor, Tensor] | HeldOut, *, classes: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    if isinstance(held, HeldOut):
        check_features(features, rows=len(labels))
        kept, out = (rows.to(labels.device) for rows in hold_out(labels, held))
        return (features[kept], labels[kept]), (features[out], labels[out])
    given, truth = held[0], check_labels(held[1], classes, part=True)
    check_features(given, rows=len(truth))
    if given.shape[1] != features.shape[1]:
        raise DataError(
            f"validation: got {given.shape[1]} columns, expected {features.shape[1]} as in training"
        )
    return (features, labels), (given, truth)


def _class_weights(given: Tensor | str | None, labels: Tensor, classes: int) -> Tensor:
    """Return class weights from all training labels, so that holding rows out changes none."""
    if isinstance(given, str):
        if given != BALANCED:
            raise ParameterError(f"class_weights: got {given!r}, expected none or {BALANCED}")
        given = balanced_class_weights(labels, classes)
    return check_class_weights(given, classes).to(labels.device)


def _judge(
    fits: list[MultinomialFit], judge: tuple[Tensor, Tensor], weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return weighted log-loss and accuracy of each fit on rows it has not seen."""
    features, labels = judge
    share = weights[labels] / weights[labels].sum()
    told = []
    for fit in fits:
        logs = torch.log_softmax(fit.predict(features), dim=1)
        loss = -(share @ logs.gather(1, labels[:, None])[:, 0])
        told.append((float(loss), float(share @ (logs.argmax(1) == labels).double())))
    losses, hits = torch.tensor(told, dtype=torch.float64).T
    return losses, hits


def _chosen(losses: Tensor, hits: Tensor, select: str) -> int:
    if select == "accuracy":
        losses = losses.masked_fill(hits < hits.max() - ROUNDING, float("inf"))
    return int((losses <= losses.min() * (1 + ROUNDING)).nonzero()[-1])
