"""Knobs of what the method is compared with. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from relearn.strict import Strict


class RivalsConfig(Strict):
    """Settings of the arms that are not LoRAC.

    Attributes:
        shared_rank: Rank of the one module of ``shared_lora`` and ``joint``.
        full_rate: Learning rate of arms that train the whole net, over ``train.learning_rate``.
        full_loss: Classes that the cross-entropy of ``sequential_full`` is over: those of the
            present task (``local``) or all ``seen`` ones.
        held_loss: The same of ``ewc`` and ``lwf``.
        ewc_weight: Factor on the penalty of ``ewc``.
        ewc_images: Training images of a task that its Fisher information is taken of.
        lwf_weight: Factor on the distillation of ``lwf``.
        lwf_temperature: Both logits are divided by it.
        ridge_features: Random features of ``ranpac``; 0 = the backbone's own.
        ridge_penalties: Penalties, separated by commas, of which validation images choose; in units
            of the mean squared norm of the features.
    """

    shared_rank: int = Field(ge=1, le=4096)
    full_rate: float = Field(gt=0)
    full_loss: Literal["local", "seen"]
    held_loss: Literal["local", "seen"]
    ewc_weight: float = Field(gt=0)
    ewc_images: int = Field(ge=1)
    lwf_weight: float = Field(gt=0)
    lwf_temperature: float = Field(gt=0)
    ridge_features: int = Field(ge=0)
    ridge_penalties: str = Field(min_length=1)

    @field_validator("ridge_penalties")
    @classmethod
    def _positive(cls, value: str) -> str:
        try:
            values = [float(each) for each in value.split(",")]
        except ValueError:
            raise ValueError(f"got {value!r}, expected numbers separated by commas") from None
        if not all(0 < each < float("inf") for each in values):
            raise ValueError(f"got {value!r}, expected numbers above 0")
        return value

    @property
    def penalties(self) -> tuple[float, ...]:
        """The penalties one by one."""
        return tuple(float(each) for each in self.ridge_penalties.split(","))


class TrainingsConfig(Strict):
    """What is trained; one training gives several arms, which differ in how its model is read.

    Attributes:
        raw_ncm: Nearest class mean of pixels: what a backbone must beat.
        ncm: Nearest class mean of the frozen backbone's features.
        ranpac: Ridge regression on random features of the frozen backbone.
        sequential_full: The whole net, task after task.
        ewc: The same held to weights that were important (elastic weight consolidation).
        lwf: The same held to its earlier answers (learning without forgetting).
        shared_lora: One module that all tasks train on, with local cross-entropy.
        joint: One module and all classes at once: an upper bound.
        joint_full: The whole net and all classes at once.
        lorac: A module each task, composed; nothing is frozen.
        lorac_ipc: The same with the most important matrices frozen.
        lorac_ipc_random: Sham: as many matrices drawn at random are frozen.
        lorac_ipc_sequential: Control: as many are frozen in the order of the layers.
        lorac_ipc_no_ortho: Ablation: without orthogonality.
        lorac_ipc_hard: Ablation: with hard orthogonality.
        lorac_ipc_no_omega: Ablation: weights of earlier modules stay 1.
        lorac_no_ortho: Ablation: neither freezing nor orthogonality.
        lorac_no_omega: Ablation: neither freezing nor trained weights.
        shared_lora_rehearsal: ``shared_lora`` with stored images of earlier classes.
        lorac_ipc_rehearsal: ``lorac_ipc`` likewise; only to compare.
    """

    raw_ncm: bool
    ncm: bool
    ranpac: bool
    sequential_full: bool
    ewc: bool
    lwf: bool
    shared_lora: bool
    joint: bool
    joint_full: bool
    lorac: bool
    lorac_ipc: bool
    lorac_ipc_random: bool
    lorac_ipc_sequential: bool
    lorac_ipc_no_ortho: bool
    lorac_ipc_hard: bool
    lorac_ipc_no_omega: bool
    lorac_no_ortho: bool
    lorac_no_omega: bool
    shared_lora_rehearsal: bool
    lorac_ipc_rehearsal: bool


class RatesConfig(Strict):
    """Factor on ``train.learning_rate``; with tuning the middle of its grid.

    Attributes:
        full: For ``sequential_full``.
        held: For ``ewc`` and ``lwf``.
        shared: For ``shared_lora``, also with rehearsal.
        joint: For ``joint``.
        joint_full: For ``joint_full``.
        lorac: For ``lorac`` and its ablations.
        lorac_ipc: For ``lorac_ipc``, its ablations and its sham.
    """

    full: float = Field(gt=0)
    held: float = Field(gt=0)
    shared: float = Field(gt=0)
    joint: float = Field(gt=0)
    joint_full: float = Field(gt=0)
    lorac: float = Field(gt=0)
    lorac_ipc: float = Field(gt=0)


__all__ = ["RatesConfig", "RivalsConfig", "TrainingsConfig"]
