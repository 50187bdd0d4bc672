"""The alarm of training against a single step: resisting that step alone is worth nothing.

References:
    Wong, Rice, Kolter, "Fast is better than free", ICLR 2020, on catastrophic overfitting.
"""

from __future__ import annotations

from collections.abc import Sequence

from relearn.errors import ParameterError


def catastrophic_overfitting(
    single_step: Sequence[float], pgd: Sequence[float], *, fall: float
) -> bool:
    """Return whether the net has learnt to resist the one step it trains with, and nothing else.

    So it is where the robust accuracy against PGD lies more than ``fall`` below its best so far
    and below that against the single step, while the latter is no lower than it was at that best.

    Args:
        single_step: Robust accuracy of training images against one step, 0 to 1, epoch by epoch.
        pgd: The same against many steps, as many epochs.
        fall: Above 0 and below 1, such as 0.2.

    Raises:
        ParameterError: ``fall`` is out of range.
        ValueError: The sequences differ in length or are empty.

    References:
        Wong, Rice, Kolter 2020, on catastrophic overfitting.
    """
    if not 0 < fall < 1:
        raise ParameterError(
            f"forget_relearn.loss.alarm_fall: got {fall}, expected above 0 and below 1"
        )
    if not pgd or len(pgd) != len(single_step):
        raise ValueError(f"got {len(single_step)} and {len(pgd)} epochs, expected equally many")
    best = max(range(len(pgd)), key=lambda epoch: pgd[epoch])
    return (
        pgd[best] - pgd[-1] > fall
        and single_step[-1] - pgd[-1] > fall
        and single_step[-1] >= single_step[best]
    )
