from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from relearn.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    probabilities,
)


def confident(share: float, right: int, wrong: int) -> tuple[Tensor, Tensor]:
    """Return samples that give class 0 the probability ``share`` and have it ``right`` times."""
    logits = torch.tensor([[math.log(share), math.log(1 - share)]]).repeat(right + wrong, 1)
    return logits, torch.tensor([0] * right + [1] * wrong)


def both(*parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.cat([logits for logits, _ in parts]), torch.cat([labels for _, labels in parts])


def test_a_net_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    logits, labels = both(confident(0.75, 3, 1), confident(0.9, 9, 1), confident(0.6, 6, 4))

    assert expected_calibration_error(logits, labels) == pytest.approx(0.0, abs=1e-6)


def test_the_calibration_error_weighs_each_bin_by_its_samples() -> None:
    # says 0.9 and is right in half of 10, says 0.6 and is right in 24 of 30
    logits, labels = both(confident(0.9, 5, 5), confident(0.6, 24, 6))

    wanted = (10 * 0.4 + 30 * 0.2) / 40
    assert expected_calibration_error(logits, labels) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("scale", [0.3, 3.0, 100.0])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_calibration_error_equals_that_of_torchmetrics(bins: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(500, 5, generator=generator)
    labels = torch.randint(0, 5, (500,), generator=generator)

    theirs = multiclass_calibration_error(
        probabilities(logits), labels, num_classes=5, n_bins=bins, norm="l1"
    )

    found = expected_calibration_error(logits, labels, bins=bins)
    assert found == pytest.approx(float(theirs), abs=1e-6)


def test_brier_and_likelihood_by_hand() -> None:
    logits, labels = confident(0.8, 1, 1)

    assert brier_score(logits, labels) == pytest.approx((2 * 0.2**2 + 2 * 0.8**2) / 2)
    wanted = -(math.log(0.8) + math.log(0.2)) / 2
    assert negative_log_likelihood(logits, labels) == pytest.approx(wanted)


def test_the_true_probabilities_have_the_best_brier_score_and_likelihood() -> None:
    labels = confident(0.7, 70, 30)[1]
    scores = {
        told: (brier_score(logits, labels), negative_log_likelihood(logits, labels))
        for told in (0.6, 0.7, 0.8)
        for logits in (confident(told, 70, 30)[0],)
    }

    assert min(scores, key=lambda told: scores[told][0]) == 0.7
    assert min(scores, key=lambda told: scores[told][1]) == 0.7
