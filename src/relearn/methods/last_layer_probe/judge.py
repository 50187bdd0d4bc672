"""What a finished arm earned: test images once, the small set, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.evaluation.calibration import brier_score, negative_log_likelihood
from relearn.evaluation.classification import accuracy_of

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.session import Session


def judge(session: Session, *, validation: Tensor, test: Tensor, step: int = 0) -> None:
    """Write accuracy on validation and test images, on the small set, and the calibration.

    Args:
        session: Whose books are written.
        validation: Scores of the validation images, shape (m, classes).
        test: Scores of the test images, shape (k, classes); their softmax are probabilities.
        step: Optimizer steps done; 0 for convex heads.
    """
    add, truth = session.recorder.add, session.samples.validation.labels
    few = min(session.config.recheck.images, len(truth))
    add("validation", step, {"accuracy": accuracy_of(validation, truth)})
    add("small_set", step, {"accuracy": accuracy_of(validation[:few], truth[:few])})
    labels = session.samples.test.labels
    accuracy = accuracy_of(test, labels)
    add("test", step, {"accuracy": accuracy})
    add(
        "calibration",
        step,
        {
            "nll": negative_log_likelihood(test, labels),
            "brier": brier_score(test, labels),
        },
    )
    session.predictions = {
        "index": torch.arange(len(labels)),
        "label": labels,
        "predicted": test.argmax(1).cpu(),
    }
    session.log(step, {"test_accuracy": accuracy})
