"""Knobs of the modules themselves: factors, omega, orthogonality, importance and freezing.

Paper: LoRAC-IPC, arXiv 2504.13407. Its text could not be read; what is said of it comes from the
official code. Values are in ``conf/base/parameters_lora_ipc.yml``. Imports no torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from relearn.errors import near_miss
from relearn.strict import Strict

MATRIX_KINDS = ("q", "k", "v", "o", "fc1", "fc2")
"""Kinds of matrices of a block, as in ``matrices.KINDS``."""


class LoraConfig(Strict):
    """The factors A and B that each task adds to each matrix.

    Attributes:
        kinds: Kinds of matrices that get modules, separated by commas, out of q, k, v, o, fc1, fc2.
        rank: Columns of A; planned tasks times rank may not exceed the narrowest d_in.
        alpha: Modules are added with the factor s = alpha / rank.
        initialisation: Of A: ``official`` U(-1, 1) / sqrt(rank), ``fan_in`` U(-1, 1) / sqrt(d_in),
            ``orthonormal`` columns, or ``orthonormal_apart``: these, orthogonal to earlier modules
            too (where orthogonality is off, just orthonormal); B begins as zero.
        k_uses_q_mask: Repeats an error of the official code: k gets a module where q is not frozen.
    """

    kinds: str = Field(min_length=1)
    rank: int = Field(ge=1, le=4096)
    alpha: float = Field(gt=0)
    initialisation: Literal["official", "fan_in", "orthonormal", "orthonormal_apart"]
    k_uses_q_mask: bool

    @field_validator("kinds")
    @classmethod
    def _known(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        for name in names:
            if name not in MATRIX_KINDS:
                raise ValueError(
                    f"{name!r} is no kind of matrix,{near_miss(name, MATRIX_KINDS)} expected some "
                    f"of {', '.join(MATRIX_KINDS)}"
                )
        if len(set(names)) < len(names):
            raise ValueError("a kind of matrix stands there twice")
        return value

    @property
    def names(self) -> tuple[str, ...]:
        """The kinds of matrices one by one."""
        return tuple(name.strip() for name in self.kinds.split(","))


class OmegaConfig(Strict):
    """The weights of earlier tasks' modules.

    Attributes:
        enabled: Whether later tasks train them; off: they stay 1.
        rate_scale: Their learning rate over that of the factors.
    """

    enabled: bool
    rate_scale: float = Field(gt=0)


class OrthogonalityConfig(Strict):
    """How the factors A of different tasks are kept apart.

    Attributes:
        mode: ``soft``: a penalty (official code); ``hard``: A is made orthonormal, and orthogonal
            to all earlier ones, after each step; ``off``.
        weight: Factor on the penalty; read with ``soft`` only.
    """

    mode: Literal["soft", "hard", "off"]
    weight: float = Field(ge=0)


class ImportanceConfig(Strict):
    """How the importance of a matrix is measured while a task is learnt.

    Attributes:
        rule: ``sensitivity_uncertainty`` (paper), ``sensitivity``, ``fisher`` or ``gradient_norm``.
        beta1: Decay of the moving average of the sensitivity.
        beta2: Decay of the moving average of its uncertainty.
        window_steps: Last steps of a task that are looked at.
    """

    rule: Literal["sensitivity_uncertainty", "sensitivity", "fisher", "gradient_norm"]
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    window_steps: int = Field(ge=1)


class FreezeConfig(Strict):
    """How many of the most important matrices are frozen, and when.

    Attributes:
        share: Share that is frozen after a task, 0 to below 1; 0 freezes none, else at least one.
        when: ``each_task``, ``first_task`` only, or after ``every`` so many tasks.
        every: Tasks between two freezings with ``when: every``.
        counted: What the share is of: ``all`` matrices or the ``remaining`` ones.
        rounding: ``nearest`` or ``down``.
    """

    share: float = Field(ge=0, lt=1)
    when: Literal["each_task", "first_task", "every"]
    every: int = Field(ge=1)
    counted: Literal["all", "remaining"]
    rounding: Literal["nearest", "down"]


__all__ = [
    "MATRIX_KINDS",
    "FreezeConfig",
    "ImportanceConfig",
    "LoraConfig",
    "OmegaConfig",
    "OrthogonalityConfig",
]
