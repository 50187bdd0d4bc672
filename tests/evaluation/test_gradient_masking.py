from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from relearn.data.ball import Ball
from relearn.errors import EvidenceError
from relearn.evaluation.gradient_masking import (
    Finding,
    MaskingChecks,
    gradient_masking,
    paced_pgd,
    require_honest,
)

if TYPE_CHECKING:
    from attacked_nets import Attacked

QUICK = MaskingChecks(queries=200, restarts=2, many_steps=30)


def findings(model: nn.Module, attacked: Attacked, ball: Ball) -> dict[str, Finding]:
    parts = (model, attacked.images, attacked.labels)
    return {f.name: f for f in gradient_masking(*parts, ball=ball, seed=0, checks=QUICK)}


class Loud(nn.Module):
    """The same decisions with logits so large that the cross-entropy has no slope in fp32."""

    def __init__(self, quiet: nn.Module) -> None:
        super().__init__()
        self.quiet = quiet

    def forward(self, pixels: Tensor) -> Tensor:
        return 1e5 * self.quiet(pixels)


@pytest.mark.parametrize("ball", [Ball("linf", 0.1), Ball("l2", 0.6)], ids=["linf", "l2"])
def test_an_honest_net_passes_all_checks(digits: Attacked, ball: Ball) -> None:
    told = findings(digits.model, digits, ball)

    assert list(told) == ["more_steps", "more_restarts", "huge_ball", "black_box"]
    assert all(finding.holds for finding in told.values())
    require_honest(tuple(told.values()))


def test_a_net_without_slopes_is_found_out(digits: Attacked) -> None:
    told = findings(Loud(digits.model), digits, Ball("linf", 0.1))

    assert not told["huge_ball"].holds
    assert not told["black_box"].holds
    with pytest.raises(
        EvidenceError, match=r"^gradient masking: huge_ball \(.*black_box"
    ) as caught:
        require_honest(tuple(told.values()))
    assert "\n" not in str(caught.value)


def test_equal_attacks_are_no_finding_and_worse_ones_are() -> None:
    from relearn.evaluation.gradient_masking import _compared

    left = torch.arange(200) % 2 == 0
    worse = left.clone()
    worse[1:41:2] = True

    assert _compared("more_steps", left, left, "").holds
    assert not _compared("more_steps", left, worse, "").holds
    assert _compared("more_steps", worse, left, "").holds


def test_the_steps_of_a_paced_attack_reach_across_the_ball() -> None:
    attack = paced_pgd(Ball("linf", 0.2), 25)

    assert attack.step_size * attack.steps == pytest.approx(2.5 * 0.2)
