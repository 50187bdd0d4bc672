"""Cheap scores of an arm's features: hints with a measured rank, never a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.data.randomness import generator_of
from relearn.methods.last_layer_probe.representation import Features
from relearn.methods.last_layer_probe.scores import (
    effective_rank,
    h_score,
    kernel_target_alignment,
    knn_loo,
    leep,
    log_me,
    nce,
)

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.heads import Solved
    from relearn.methods.last_layer_probe.representation import Question, Representation
    from relearn.methods.last_layer_probe.session import Session

TASK = "hint"
_NEIGHBOURS = 5
_MOST = 600
"""Rows of which a hint is made: enough for a rank, and never what a run waits for."""


def give_hints(
    session: Session, representation: Representation, question: Question, solved: Solved
) -> None:
    """Write the scores, all from training images alone.

    Args:
        session: Whose books are written.
        representation: Of the images.
        question: Labels.
        solved: The head, whose answers when left out are one more hint.
    """
    labels = question.labels
    rows = _some_rows(len(labels), session.seed)
    found: dict[str, float] = {}
    if isinstance(representation, Features):
        features = representation.parts["train"][rows].double()
        kernel = features @ features.T
        found["log_me"] = float(log_me(features, labels[rows]))
        found["h_score"] = float(h_score(features, labels[rows]))
        found["knn_loo"] = float(knn_loo(features, labels[rows], neighbours=_NEIGHBOURS))
    else:
        kernel = representation.parts["train"][rows][:, rows]  # type: ignore[attr-defined]
    found["alignment"] = float(kernel_target_alignment(kernel, labels[rows]))
    found["effective_rank"] = float(effective_rank(kernel)) / len(rows)
    if solved.loo_scores is not None:
        found["loo_accuracy"] = float((solved.loo_scores.argmax(1) == labels).double().mean())
    if session.arm.kind == "frozen":
        found |= _of_source_classifier(session, labels)
    session.recorder.add(TASK, 0, found)


def _of_source_classifier(session: Session, labels: Tensor) -> dict[str, float]:
    """Return LEEP and NCE, which need the classes that the base net was trained on."""
    from relearn.evaluation.classification import predict
    from relearn.models.checkpoint import build

    told = session.base.architecture
    logits = predict(
        build(session.base), session.samples.train.images, mean=told.mean, std=told.std
    )
    chances = logits.double().softmax(1)
    return {"leep": float(leep(chances, labels)), "nce": float(nce(chances.argmax(1), labels))}


def _some_rows(count: int, seed: int) -> Tensor:
    order = torch.randperm(count, generator=generator_of(seed, "last_layer_probe.hints"))
    return order[: min(_MOST, count)].sort().values
