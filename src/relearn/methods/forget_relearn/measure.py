"""The last word on one delivered model: test images, read once, fp32 net against fp32 attacks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.ball import Ball
from relearn.data.corruptions import corrupt, names_for
from relearn.data.images import Split
from relearn.errors import ParameterError
from relearn.evaluation.attacks.ensemble import auto_attack, run_auto_attack
from relearn.evaluation.attacks.pgd import Pgd
from relearn.evaluation.attacks.scoring import (
    attacked_pixels,
    both_masks,
    correct_at,
    correct_mask,
)
from relearn.evaluation.attacks.square import Square
from relearn.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from relearn.evaluation.gradient_masking import MaskingChecks, gradient_masking
from relearn.evaluation.robustness import (
    bf16_difference,
    class_shares,
    corruption_accuracy,
    robust_accuracy,
    share,
    transfer_mask,
)
from relearn.methods.forget_relearn.judging_config import SMALLEST_AUTO_ATTACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from relearn.evaluation.records import Recorder
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.methods.forget_relearn.samples import Samples

SEVERITIES = (1, 2, 3, 4, 5)


def require_enough_samples(samples: Samples, config: ForgetRelearnConfig) -> None:
    """Check, before anything is trained, that the judge will have images enough.

    Args:
        samples: Of one seed.
        config: Knobs of the method.

    Raises:
        ParameterError: There are too few test images for AutoAttack, or one for a batch.
    """
    judging = config.judging
    if judging.auto_attack.version != "none" and len(samples.test) < SMALLEST_AUTO_ATTACK:
        raise ParameterError(
            f"forget_relearn.judging.auto_attack.images: there are {len(samples.test)} test "
            f"images, expected {SMALLEST_AUTO_ATTACK} or more; leave more to the test "
            "(forget_relearn.samples), or set forget_relearn.judging.auto_attack.version=none"
        )
    if len(samples.train) < 2:
        raise ParameterError(
            f"forget_relearn.samples.train_images: there are {len(samples.train)} training images, "
            "expected 2 or more: batch norm needs them"
        )


@dataclass
class Judge:
    """Measures one model.

    Attributes:
        net: Takes pixels in the range 0 to 1; fp32.
        samples: Images of the pair.
        config: Knobs of the method.
        seed: Seed of the pair; attacks draw from doors of their own.
        recorder: Where the records go.
        epoch: Epochs done when the model was as it is.
    """

    net: nn.Module
    samples: Samples
    config: ForgetRelearnConfig
    seed: int
    recorder: Recorder
    epoch: int

    def __post_init__(self) -> None:
        judging = self.config.judging
        self.ball = Ball(self.config.attack.norm, self.config.attack.epsilon)
        self.attack = Pgd(judging.step_size, judging.steps, judging.restarts)

    def validation(self) -> float:
        """Write and return the robust accuracy on validation images, on which choices are made."""
        values = self._accuracies(self.samples.validation)
        self.recorder.add("validation", self.epoch, values)
        return values["robust_accuracy"]

    def everything(self, surrogate: nn.Module | None) -> Mapping[str, Tensor]:
        """Write every measure and return the predictions.

        Args:
            surrogate: Net whose attacked images are tried on this one; None measures no transfer.

        Returns:
            index, label, predicted (clean images), attacked (under the headline attack): int64,
            shape (test images,).
        """
        self.validation()
        predictions = self._test()
        self._auto_attack()
        self._square_and_transfer(surrogate)
        self._corruptions()
        self._masking()
        return predictions

    def _accuracies(self, split: Split) -> dict[str, float]:
        clean, robust = both_masks(
            self.net,
            split.images,
            split.labels,
            attack=self.attack,
            ball=self.ball,
            seed=self.seed,
        )
        return {"clean_accuracy": share(clean), "robust_accuracy": share(robust)}

    def _test(self) -> dict[str, Tensor]:
        test, classes = self.samples.test, self.samples.classes
        points = attacked_pixels(
            self.net,
            test.images,
            test.labels,
            attack=self.attack,
            ball=self.ball,
            seed=self.seed,
        )
        right = correct_mask(self.net, test.images, test.labels)
        robust = right & correct_at(self.net, points, test.labels)
        found = {"clean_accuracy": share(right), "robust_accuracy": share(robust)}
        train = self._accuracies(self.samples.train)
        gap = train["robust_accuracy"] - found["robust_accuracy"]
        self.recorder.add("train", self.epoch, {**train, "robust_gap": gap})
        if self.config.judging.bf16_images:
            few = self._first(self.config.judging.bf16_images)
            found["bf16_difference"] = bf16_difference(
                self.net,
                few.images,
                few.labels,
                attack=self.attack,
                ball=self.ball,
                seed=self.seed,
            )
        self.recorder.add("test", self.epoch, {**found, "delivered_epoch": float(self.epoch)})
        shares = class_shares(robust, test.labels, classes)
        for number, value in enumerate(shares.tolist()):
            if not math.isnan(value):  # a class without a test image has no share
                self.recorder.add("class_robust", number, {"robust_accuracy": value})
        logits = {"clean": self._logits(_pixels(test.images)), "attacked": self._logits(points)}
        self._calibration(logits, test.labels)
        return {
            "index": torch.arange(len(test)),
            "label": test.labels,
            "predicted": logits["clean"].argmax(1),
            "attacked": logits["attacked"].argmax(1),
        }

    def _calibration(self, logits: Mapping[str, Tensor], labels: Tensor) -> None:
        bins = self.config.judging.calibration_bins
        clean = logits["clean"]
        values = {
            "ece": expected_calibration_error(clean, labels, bins=bins),
            "nll": negative_log_likelihood(clean, labels),
            "brier": brier_score(clean, labels),
            "adversarial_ece": expected_calibration_error(logits["attacked"], labels, bins=bins),
        }
        self.recorder.add("calibration", self.epoch, values)

    def _auto_attack(self) -> None:
        wanted = self.config.judging.auto_attack
        if wanted.version == "none":
            return
        few = self._first(wanted.images)
        cascade = run_auto_attack(
            self.net,
            few.images,
            few.labels,
            attacks=auto_attack(wanted.version, self.samples.classes),
            ball=self.ball,
            seed=self.seed,
            minimum=SMALLEST_AUTO_ATTACK,
        )
        after = {f"after_{name}": value for name, value in cascade.accuracies.items()}
        told = {"robust_accuracy": share(cascade.robust), "images": float(len(few))}
        self.recorder.add("auto_attack", self.epoch, {**told, **after})

    def _square_and_transfer(self, surrogate: nn.Module | None) -> None:
        judging = self.config.judging
        if judging.square_images:
            few = self._first(judging.square_images)
            found = robust_accuracy(
                self.net,
                few.images,
                few.labels,
                attack=Square(judging.square_queries),
                ball=self.ball,
                seed=self.seed,
            )
            self.recorder.add("square", self.epoch, {"robust_accuracy": found})
        if surrogate is not None:
            mask = transfer_mask(
                self.net,
                surrogate,
                self.samples.test.images,
                self.samples.test.labels,
                attack=self.attack,
                ball=self.ball,
                seed=self.seed,
            )
            self.recorder.add("transfer", self.epoch, {"robust_accuracy": share(mask)})

    def _corruptions(self) -> None:
        count = self.config.judging.corruption_images
        if not count:
            return
        few = self._first(count)
        found = corruption_accuracy(
            self.net,
            few.images,
            few.labels,
            corrupt=corrupt,
            names=names_for(int(few.images.shape[1])),
            severities=SEVERITIES,
            seed=self.seed,
        )
        for severity in SEVERITIES:
            values = {name: value for (name, level), value in found.items() if level == severity}
            values["mean_accuracy"] = sum(values.values()) / len(values)
            self.recorder.add("corruption", severity, values)

    def _masking(self) -> None:
        masking = self.config.judging.masking
        if not masking.enabled:
            return
        few = self._first(masking.images)
        checks = MaskingChecks(
            many_steps=masking.steps,
            restarts=masking.restarts,
            queries=masking.queries,
            huge_epsilon=masking.huge_epsilon,
            huge_accuracy=masking.survivors,
        )
        findings = gradient_masking(
            self.net, few.images, few.labels, ball=self.ball, seed=self.seed, checks=checks
        )
        told = {found.name: found.value for found in findings}
        told |= {f"{found.name}_allowed": found.allowed for found in findings}
        self.recorder.add("masking", self.epoch, told)

    def _first(self, count: int) -> Split:
        """Return the first test images: ``redraw`` has shuffled them; 0 = all."""
        test = self.samples.test
        return Split(test.images[: count or None], test.labels[: count or None])

    @torch.no_grad()
    def _logits(self, pixels: Tensor) -> Tensor:
        device = next(self.net.parameters()).device
        return torch.cat([self.net(part.to(device)).float().cpu() for part in pixels.split(512)])


def _pixels(images: Tensor) -> Tensor:
    return images.float() / 255
