"""One last-layer arm: represent the images, solve the head, measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.evaluation.classification import accuracy_of
from relearn.methods.last_layer_probe.frozen_base import last_features
from relearn.methods.last_layer_probe.hints import give_hints
from relearn.methods.last_layer_probe.image_parts import is_shaken
from relearn.methods.last_layer_probe.judge import judge
from relearn.methods.last_layer_probe.learning_curve import draw_curve
from relearn.methods.last_layer_probe.represent import represent
from relearn.methods.last_layer_probe.representation import Question, temperature_of
from relearn.methods.last_layer_probe.sensitivity import shake
from relearn.methods.last_layer_probe.special import suspicious_share
from relearn.methods.last_layer_probe.width_law import measure_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relearn.methods.last_layer_probe.described import BodyDescription
    from relearn.methods.last_layer_probe.heads import Solved
    from relearn.methods.last_layer_probe.representation import Representation
    from relearn.methods.last_layer_probe.session import Session


@dataclass(frozen=True)
class Probed:
    """A solved arm.

    Attributes:
        solved: Head at its optimum, its scores sharpened to probabilities.
        body: What makes its features again.
        tap: Where the body was read; the only place but for frozen base nets.
        taps: All places there were, from the image to the last layer.
    """

    solved: Solved
    body: BodyDescription
    tap: str
    taps: tuple[str, ...]


def probe(session: Session) -> Probed:
    """Return the head of a session's arm at its optimum, with every measure written.

    Args:
        session: Of a kind whose body stays as it is.
    """
    with session.watch("features"):
        found = represent(session)
    question = Question.of(session.samples, session.config)
    with session.watch("train"):
        tap, solved = _choose(session, found.options, question)
        chosen = found.options[tap]
        truth = question.validation
        temperature = temperature_of(chosen.scores(solved, "validation", question), truth)
        solved = solved.sharpened(temperature)
    with session.watch("judge"):
        _measure(session, chosen, question, solved)
    return Probed(solved, found.body, tap, tuple(found.options))


def last_head(session: Session) -> Solved:
    """Return the probe's optimum at the last features of the base net, from where training goes on.

    Args:
        session: Of a kind that uses the base net's weights; its books stay as they are.
    """
    chosen = last_features(session)
    question = Question.of(session.samples, session.config)
    solved = chosen.solve(question)
    scores = chosen.scores(solved, "validation", question)
    return solved.sharpened(temperature_of(scores, question.validation))


def _choose(
    session: Session, options: Mapping[str, Representation], question: Question
) -> tuple[str, Solved]:
    """Return the tap point whose head is best on validation images; equals go to the deeper one."""
    best: tuple[float, str, Solved] | None = None
    for place, (tap, representation) in enumerate(options.items()):
        solved = representation.solve(question)
        scores = representation.scores(solved, "validation", question)
        accuracy = accuracy_of(scores, question.validation)
        if len(options) > 1:
            width = float(representation.width)
            session.recorder.add("tap", place, {"accuracy": accuracy, "features": width})
        if best is None or accuracy >= best[0]:
            best = (accuracy, tap, solved)
    if best is None:
        raise ValueError("options: got none, expected one tap point or more")
    return best[1], best[2]


def _measure(session: Session, chosen: Representation, question: Question, solved: Solved) -> None:
    add, config = session.recorder.add, session.config
    plain = session.arm.condition == "plain"
    judge(
        session,
        validation=chosen.scores(solved, "validation", question),
        test=chosen.scores(solved, "test", question),
    )
    add("head", 0, {name: solved.facts[name] for name in ("penalty", "at_border", "temperature")})
    add("head", 0, {"ridge": float(solved.kind == "ridge"), "features": float(chosen.width)})
    for place, (penalty, score) in enumerate(solved.path):
        add("path", place, {"penalty": penalty, "accuracy": score})
    session.log(0, {name: value for name, value in solved.facts.items()})
    if plain and config.compare == "arms":
        _measure_further(session, chosen, question, solved)


def _measure_further(
    session: Session, chosen: Representation, question: Question, solved: Solved
) -> None:
    settled = chosen.settled(solved.kind)
    if session.config.curve.enabled and session.arm.kind != "noise":
        draw_curve(session, settled, question, solved)
    if is_shaken(session):
        shake(session, settled, question, solved)
    if session.arm.kind == "kernel" and solved.loo_scores is not None:
        share = suspicious_share(solved.loo_scores, question.labels)
        session.recorder.add("special", 0, {"suspicious_share": share})
    if session.arm.kind == "random" and session.config.width_law.enabled:
        measure_error(session, chosen)
    give_hints(session, chosen, question, solved)


def majority_scores(session: Session) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the log share of each class among training images, for validation and test images.

    Args:
        session: Whose training labels are counted.

    Returns:
        Bias (classes,), scores of the validation images, scores of the test images.
    """
    samples = session.samples
    counts = torch.bincount(samples.train.labels, minlength=samples.classes).double()
    bias = (counts + 1).log() - (counts + 1).sum().log()
    rows = [len(samples.validation), len(samples.test)]
    return bias, bias.expand(rows[0], -1), bias.expand(rows[1], -1)
