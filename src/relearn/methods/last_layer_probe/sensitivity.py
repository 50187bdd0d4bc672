"""How much a head suffers from wrong labels, rare classes and shifted images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from relearn.data.label_noise import noisy_labels
from relearn.evaluation.classification import accuracy_of
from relearn.methods.last_layer_probe.bodies_config import numbers_in
from relearn.methods.last_layer_probe.image_parts import SHIFTED
from relearn.methods.last_layer_probe.samples import imbalanced_rows

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.heads import Solved
    from relearn.methods.last_layer_probe.representation import Question, Representation
    from relearn.methods.last_layer_probe.session import Session

TASK = "sensitivity"


def shake(
    session: Session, representation: Representation, question: Question, whole: Solved
) -> None:
    """Write the test accuracy under each disturbance; nothing is chosen by it.

    Args:
        session: Whose books are written.
        representation: With the part ``shifted``.
        question: As it was asked, undisturbed.
        whole: The undisturbed head.
    """
    told, truth = session.config.sensitivity, session.samples.test.labels
    found = {}
    for share in numbers_in(told.label_noise, kind=float):
        labels, _ = noisy_labels(
            question.labels, share=share, classes=question.classes, seed=session.seed
        )
        wrong = replace(question, labels=labels)
        found[f"label_noise_{share:g}"] = (representation.solve(wrong), "test", wrong)
    rare = imbalanced_rows(question.labels, told.imbalance, seed=session.seed)
    few = replace(question, rows=rare)
    found[f"imbalance_{told.imbalance:g}"] = (representation.solve(few), "test", few)
    found[told.shift] = (whole, SHIFTED, question)
    for name, (solved, part, asked) in found.items():
        scores = representation.scores(solved, part, asked)
        session.recorder.add(TASK, 0, {name: accuracy_of(scores, truth)})
