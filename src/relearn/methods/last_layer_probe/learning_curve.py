"""The same head on fewer images: is it worth buying more of them?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from relearn.evaluation.classification import accuracy_of
from relearn.methods.last_layer_probe.bodies_config import numbers_in
from relearn.methods.last_layer_probe.samples import rows_of_fewer

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.heads import Solved
    from relearn.methods.last_layer_probe.representation import Question, Representation
    from relearn.methods.last_layer_probe.session import Session

TASK = "learning_curve"


def draw_curve(
    session: Session, representation: Representation, question: Question, whole: Solved
) -> None:
    """Write the validation accuracy of the head for each share of the training images.

    The larger shares hold the smaller ones. Penalties are chosen anew for each.

    Args:
        session: Whose books are written.
        representation: Of the images.
        question: With all training images.
        whole: The head on all of them.
    """
    total = len(question.labels)
    points = {total: (whole, question)}
    for part in sorted(numbers_in(session.config.curve.parts), reverse=True):
        rows = rows_of_fewer(question.labels, round(total / part), seed=session.seed)
        fewer = replace(question, rows=rows)
        points[len(rows)] = (representation.solve(fewer), fewer)
    for count, (solved, asked) in sorted(points.items()):
        scores = representation.scores(solved, "validation", asked)
        session.recorder.add(TASK, count, {"accuracy": accuracy_of(scores, question.validation)})


def rises(gains: list[float], *, sigmas: float) -> bool:
    """Return whether the last doubling of the images gains more than chance would.

    Args:
        gains: Accuracy on all images minus that on half of them, one a seed.
        sigmas: Standard errors of the mean that count.
    """
    if len(gains) < 2:
        return False
    mean = sum(gains) / len(gains)
    variance = sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1)
    return bool(mean > sigmas * (variance / len(gains)) ** 0.5)
