"""Which matrices a task has made important, and which of them are frozen after it.

At a step with effective weight W and its gradient G of the loss:

    I = mean |W G|                              sensitivity
    Ibar <- b1 Ibar + (1 - b1) I                its moving average
    U <- b2 U + (1 - b2) |I - Ibar|             its uncertainty
    S = Ibar U                                  the paper's score

and as other rules Ibar alone, the means of W^2 G^2 (Fisher) and of || G ||_F, and two controls that
look at no gradient: a random order, and the order of the layers.

An average with b = 0.85 gives steps older than 40 a weight of 0.85^40 = 0.0015, so only the last
steps of a task need be watched, and only they pay for G.

References:
    LoRAC-IPC, arXiv 2504.13407; AdaLoRA, arXiv 2303.10512, for sensitivity and uncertainty. The
    official code watches every step, freezes int(p N) matrices, which may be none, and where
    scores tie freezes more than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError, TrainingError, one_of

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.composition import Observe
    from relearn.methods.lora_ipc.modules import AdaptedMatrix

GRADIENT_RULES = ("sensitivity_uncertainty", "sensitivity", "fisher", "gradient_norm")
"""Rules that watch weights and gradients."""

CONTROLS = ("random", "sequential")
"""Rules that do not."""

RULES = (*GRADIENT_RULES, *CONTROLS)
"""All rules."""

WHEN = ("each_task", "first_task", "every")
"""After which tasks matrices are frozen."""

ROUNDINGS = ("nearest", "down")
"""How a share becomes a number; both give at least 1. A half goes to the even number."""

COUNTED = ("all", "remaining")
"""Of what the share is taken: all matrices, or those not frozen yet."""


class ImportanceWatch:
    """Collects the importance of the matrices that learn, step by step, while it is on.

    One backward pass is one step. A new watch belongs to a new task: nothing is carried over.

    Args:
        matrices: All matrices.
        rule: One of ``GRADIENT_RULES``.
        betas: b1 and b2, each 0 to below 1.

    Raises:
        ParameterError: The rule or a beta is not usable.
    """

    def __init__(
        self,
        matrices: Iterable[AdaptedMatrix],
        rule: str,
        betas: tuple[float, float] = (0.85, 0.85),
    ) -> None:
        if rule not in GRADIENT_RULES:
            raise one_of("lora_ipc.importance.rule", rule, GRADIENT_RULES)
        for name, beta in zip(("beta1", "beta2"), betas, strict=True):
            if not 0 <= beta < 1:
                raise ParameterError(
                    f"lora_ipc.importance.{name}: got {beta}, expected 0 to below 1"
                )
        self.rule, self.betas = rule, betas
        self._watched = [m for m in matrices if m.learns and m.frozen_after is None]
        self._steps = dict.fromkeys((m.place.name for m in self._watched), 0)
        self._average: dict[str, Tensor] = {}
        self._uncertainty: dict[str, Tensor] = {}

    def turn_on(self) -> None:
        """Watch the steps from now on; each costs the gradient of every whole weight."""
        for matrix in self._watched:
            matrix.observe = self._observer(matrix.place.name)

    def turn_off(self) -> None:
        """Watch no longer; what has been seen stays."""
        for matrix in self._watched:
            matrix.observe = None

    def scores(self) -> dict[str, float]:
        """Return the score of each matrix that learns.

        Raises:
            TrainingError: No step was watched, or a score is not finite.
        """
        unseen = [name for name, steps in self._steps.items() if not steps]
        if unseen:
            raise TrainingError(
                f"lora_ipc.importance: no step was watched for {unseen[0]}; train at least one "
                "step with the watch on"
            )
        found = {name: float(self._score(name)) for name in self._steps}
        bad = [name for name, value in found.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(
                f"lora_ipc.importance: the score of {bad[0]} is {found[bad[0]]}; lower the "
                "learning rate"
            )
        return found

    def _observer(self, name: str) -> Observe:
        def observe(weight: Tensor, gradient: Tensor) -> None:
            self._see(name, weight.float(), gradient.float())

        return observe

    @torch.no_grad()
    def _see(self, name: str, weight: Tensor, gradient: Tensor) -> None:
        self._steps[name] += 1
        if self.rule == "fisher":
            self._add(name, (weight * gradient).square_().mean())
        elif self.rule == "gradient_norm":
            self._add(name, gradient.norm())
        else:
            self._smooth(name, (weight * gradient).abs_().mean())

    def _add(self, name: str, value: Tensor) -> None:
        """Take a value into the plain mean of all steps."""
        before = self._average.get(name, torch.zeros_like(value))
        self._average[name] = before + (value - before) / self._steps[name]

    def _smooth(self, name: str, value: Tensor) -> None:
        first, second = self.betas
        zero = torch.zeros_like(value)
        average = first * self._average.get(name, zero) + (1 - first) * value
        before = self._uncertainty.get(name, zero)
        self._average[name] = average
        self._uncertainty[name] = second * before + (1 - second) * (value - average).abs()

    def _score(self, name: str) -> Tensor:
        if self.rule == "sensitivity_uncertainty":
            return self._average[name] * self._uncertainty[name]
        return self._average[name]


def is_watched(step: int, *, steps: int, window: int) -> bool:
    """Return whether a step lies in the window that importance is taken from.

    Args:
        step: Number of the step, from 0.
        steps: Steps of the task.
        window: Length of the window at the end, 1 or more.
    """
    return step >= steps - window


def freezes_after(task: int, *, when: str, every: int = 1) -> bool:
    """Return whether matrices are frozen after a task.

    Args:
        task: Its number, from 0.
        when: One of ``WHEN``.
        every: For ``every``: after each so many tasks, 1 or more.

    Raises:
        ParameterError: ``when`` is not known, or ``every`` is below 1.
    """
    if when not in WHEN:
        raise one_of("lora_ipc.freeze.when", when, WHEN)
    if every < 1:
        raise ParameterError(f"lora_ipc.freeze.every: got {every}, expected 1 or more")
    if when == "first_task":
        return task == 0
    return when == "each_task" or (task + 1) % every == 0


def control_scores(names: Sequence[str], rule: str, *, task: int, seed: int) -> dict[str, float]:
    """Return scores that have seen nothing: drawn, or falling in the order of the layers.

    Args:
        names: Matrices that are not frozen, in the order of the layers.
        rule: One of ``CONTROLS``.
        task: Number of the task, from 0.
        seed: Of the run.

    Raises:
        ParameterError: The rule is not one of the two.
    """
    if rule not in CONTROLS:
        raise one_of("lora_ipc.importance.rule", rule, CONTROLS)
    if rule == "sequential":
        return {name: float(len(names) - place) for place, name in enumerate(names)}
    drawn = torch.rand(len(names), generator=generator_of(seed, f"lora_ipc.random_freeze.{task}"))
    return dict(zip(names, drawn.tolist(), strict=True))


def number_to_freeze(
    share: float, *, total: int, remaining: int, counted: str = "all", rounding: str = "nearest"
) -> int:
    """Return how many matrices are frozen after a task: max(1, round(share * counted)).

    Args:
        share: p, 0 to below 1; 0 freezes none.
        total: All matrices.
        remaining: Those not frozen yet; no more than these are frozen.
        counted: One of ``COUNTED``.
        rounding: One of ``ROUNDINGS``.

    Raises:
        ParameterError: The share, ``counted`` or ``rounding`` is not usable.
    """
    if not 0 <= share < 1:
        raise ParameterError(f"lora_ipc.freeze.share: got {share}, expected 0 to below 1")
    if counted not in COUNTED:
        raise one_of("lora_ipc.freeze.counted", counted, COUNTED)
    if rounding not in ROUNDINGS:
        raise one_of("lora_ipc.freeze.rounding", rounding, ROUNDINGS)
    # as the decimal that was written, so that 0.29 of 100 is 29
    wanted = Fraction(str(share)) * (total if counted == "all" else remaining)
    number = round(wanted) if rounding == "nearest" else math.floor(wanted)
    return min(max(1, number), remaining) if share else 0


def choose_matrices(scores: Mapping[str, float], number: int) -> list[str]:
    """Return exactly so many names, highest score first; ties go by the order of ``scores``.

    Args:
        scores: Name to score of the matrices that are not frozen.
        number: How many, 0 to all.
    """
    return sorted(scores, key=lambda name: -scores[name])[:number]
