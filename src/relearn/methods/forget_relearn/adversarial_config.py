"""Knobs of adversarial training: the samples, the attack, the loss, and weight perturbation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.strict import Strict


class SamplesConfig(Strict):
    """Which images an arm learns from; redrawn for each seed where they are few.

    Attributes:
        train_images: Images that train, redrawn for each seed from the stream's train, validation
            and test splits together; 0 keeps these splits as they are.
        validation_images: Images that validate, drawn likewise; the rest is the test.
        test_images: Images that test, drawn from what is left; 0 = all of it.
        label_noise: Share of the training labels that are replaced by another class.
    """

    train_images: int = Field(ge=0)
    validation_images: int = Field(ge=0)
    test_images: int = Field(ge=0)
    label_noise: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.train_images) != bool(self.validation_images):
            raise ValueError(
                f"validation_images: got {self.validation_images} with train_images="
                f"{self.train_images}; give both numbers, or 0 for both to keep the stream's splits"
            )
        return self


class AttackConfig(Strict):
    """The attack inside training (PGD, Madry et al. 2018). Pixels are in the range 0 to 1.

    Attributes:
        norm: ``linf`` bounds each pixel, ``l2`` the whole image.
        epsilon: Radius of the ball; for ``linf`` above 0 and at most 1.
        step_size: Length of one step, in the same unit.
        steps: Ascent steps.
        restarts: Random starts of which the worst counts.
        random_start: Begin at a random point of the ball; needed by more than one restart.
        batch_norm: ``batch`` uses the statistics of the batch and leaves the running ones alone;
            ``running`` uses the running ones.
    """

    norm: Literal["linf", "l2"]
    epsilon: float
    step_size: float = Field(gt=0)
    steps: int = Field(ge=1)
    restarts: int = Field(ge=1)
    random_start: bool
    batch_norm: Literal["batch", "running"]

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        largest = 1.0 if self.norm == "linf" else float("inf")
        if not 0 < self.epsilon <= largest:
            unit = "of the pixel range 0 to 1, such as 0.031 for 8 of 255 levels"
            raise ValueError(
                f"epsilon: got {self.epsilon:g}, expected above 0"
                f"{' and at most 1' if self.norm == 'linf' else ''} (in units {unit})"
            )
        if self.restarts > 1 and not self.random_start:
            raise ValueError(
                f"restarts: {self.restarts} restarts from one and the same point are one; "
                "set random_start: true"
            )
        return self


class LossConfig(Strict):
    """What adversarial training minimises.

    Attributes:
        name: ``pgd_at``: cross-entropy on attacked images; ``trades``: cross-entropy on clean
            images plus ``trades_beta`` times the divergence between clean and attacked outputs;
            ``fgsm_rs``: one step from a random start, cheap, watched by an alarm.
        trades_beta: Weight of the divergence in ``trades``.
        fgsm_step_factor: Step of ``fgsm_rs`` in units of epsilon.
        alarm_fall: Fall of the robust accuracy against several steps, from its peak, while the
            single-step accuracy holds, that counts as catastrophic overfitting.
    """

    name: Literal["pgd_at", "trades", "fgsm_rs"]
    trades_beta: float = Field(gt=0)
    fgsm_step_factor: float = Field(gt=0, le=2)
    alarm_fall: float = Field(gt=0, lt=1)


class WeightPerturbationConfig(Strict):
    """Adversarial weight perturbation, the strong rival (Wu, Xia and Wang 2020).

    Attributes:
        gamma: Size of the perturbation, relative to the norm of each weight tensor.
        warmup_epochs: Epochs before the first perturbation.
    """

    gamma: float = Field(gt=0, lt=1)
    warmup_epochs: int = Field(ge=0)


class AverageConfig(Strict):
    """The moving average of arm ``pgd_at_ema``: no forgetting, no consistency.

    Attributes:
        memory_epochs: Epochs the average remembers; decay = 1 - 1 / (memory_epochs * steps an
            epoch).
        from_epoch: Epochs done before it begins.
    """

    memory_epochs: float = Field(gt=0)
    from_epoch: int = Field(ge=0)
