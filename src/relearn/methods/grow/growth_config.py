"""What is grown, by how much, when, and what must hold before it is trained. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from relearn.strict import Strict

Factor = Annotated[float, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class WidthConfig(Strict):
    """How much wider each channel group becomes.

    Attributes:
        factor: Of every group that can be widened and is matched by no pattern; 1 = as it is.
        groups: Pattern of a group's name, such as ``blocks.2*``, to its own factor. The names are
            in the table ``grow.plan``.
        multiple_of: New widths are rounded to a multiple of this where that is exact, such as 8
            for a GPU.
    """

    factor: float = Field(ge=1)
    groups: dict[str, Factor]
    multiple_of: int = Field(ge=1, le=4096)


class DepthConfig(Strict):
    """How many layers are put in, and where.

    Attributes:
        layers: Path of a layer or container, such as ``stages.2``, to the number of new layers
            there; ``auto`` in place of a path means so many at each stage; empty = none.
        place: ``after`` the layers of these paths, or ``append`` to containers of these paths.
        kind: ``residual``: blocks x + f(x) whose last operation is zero; ``identity``: layers that
            give back what they get, for activations that may be applied twice.
        kernel: Odd size of the kernel of new convolutions, in pixels.
        norm: Whether the new layers carry batch norm.
        calibration_images: Training images on which batch norm of identity layers is calibrated.
    """

    layers: dict[str, Count]
    place: Literal["after", "append"]
    kind: Literal["residual", "identity"]
    kernel: int = Field(ge=1, le=31)
    norm: bool
    calibration_images: int = Field(ge=2)


class CopiesConfig(Strict):
    """Which units are copied, and how copies are made to differ.

    Attributes:
        mapping: ``random``; ``balanced``: each unit equally often; ``importance``: the units with
            the largest product of incoming and outgoing norm.
        symmetry: ``uneven`` shares of the outgoing weights (exact); ``zero_sum`` noise that cancels
            (exact); ``noise`` on the copies, as in the paper (not exact); ``none``; ``fresh``:
            random incoming and zero outgoing weights (exact).
        noise: Standard deviation of noise, relative to that of the weights; for ``noise`` and
            ``zero_sum``.
    """

    mapping: Literal["random", "balanced", "importance"]
    symmetry: Literal["uneven", "zero_sum", "noise", "none", "fresh"]
    noise: float = Field(gt=0, le=1)


class PlateauConfig(Strict):
    """When the teacher counts as standing still.

    Attributes:
        patience: Epochs without gain.
        smallest_gain: Rise of the best validation accuracy that counts as gain.
    """

    patience: int = Field(ge=1)
    smallest_gain: float = Field(ge=0, lt=1)


class TriggerConfig(Strict):
    """When the teacher is grown.

    Attributes:
        when: ``trained``: after all its epochs; ``plateau``: when validation accuracy stands still,
            at the latest after all its epochs; ``more_data``: after all its epochs on the first
            share of the training images, when the others arrive.
        plateau: For ``when: plateau``.
        first_share: Share of the training images that the teacher sees; for ``when: more_data``.
    """

    when: Literal["trained", "plateau", "more_data"]
    plateau: PlateauConfig
    first_share: float = Field(gt=0, lt=1)


class GateConfig(Strict):
    """What must hold before a grown net is trained; what fails stops the run.

    Attributes:
        float64_relative: Largest difference of teacher and student in float64, over the largest
            output.
        float32_factor: Largest difference in float32, over the teacher's own rounding.
        images: Validation images on which both are compared; random inputs come on top.
        noise_budget: Largest relative difference that ``copies.symmetry: noise`` may cause.
    """

    float64_relative: float = Field(gt=0, lt=1)
    float32_factor: float = Field(ge=1)
    images: int = Field(ge=2)
    noise_budget: float = Field(gt=0, lt=1)


class HeadroomConfig(Strict):
    """Whether a larger net could help at all, asked of the teacher before anything is grown.

    Attributes:
        smallest_error: Validation error below which there is nothing left to gain.
        fitted: Training accuracy from which on the teacher has fitted its images, so that more
            images help and more capacity does not.
        probe_epochs: Epochs for which fresh nets of both sizes are trained beside each other; 0
            leaves the probe out.
        probe_gain: Gain in validation accuracy of the larger fresh net that counts.
        stop: Whether advice against growing stops the run; false only reports it.
    """

    smallest_error: float = Field(ge=0, lt=1)
    fitted: float = Field(gt=0, le=1)
    probe_epochs: int = Field(ge=0)
    probe_gain: float = Field(ge=0, lt=1)
    stop: bool


class AbortConfig(Strict):
    """When a grown net is given up and the teacher is returned.

    Attributes:
        enabled: Off: training goes on whatever the validation loss says.
        evaluations: Evaluations in a row above the teacher's validation loss.
        tolerance: Loss above the teacher's that still counts as level, in nats.
        grace_steps: Steps after growth in which nothing is aborted.
    """

    enabled: bool
    evaluations: int = Field(ge=1)
    tolerance: float = Field(ge=0)
    grace_steps: int = Field(ge=0)

    @property
    def patience(self) -> int:
        """Evaluations in a row that end the training; 0 for never."""
        return self.evaluations if self.enabled else 0


class GrowthConfig(Strict):
    """All about the change from teacher to student.

    Attributes:
        width: How much wider.
        depth: How much deeper.
        copies: How copies are made.
        keep_moments: Whether the optimizer's moments are carried over, and kept by the arm
            ``teacher_continued`` too; false starts them afresh.
        trigger: When.
        gate: What must hold before training.
        headroom: Whether it can help at all.
        abort: When the teacher is returned.
    """

    width: WidthConfig
    depth: DepthConfig
    copies: CopiesConfig
    keep_moments: bool
    trigger: TriggerConfig
    gate: GateConfig
    headroom: HeadroomConfig
    abort: AbortConfig

    @model_validator(mode="after")
    def _grows(self) -> Self:
        widens = self.width.factor > 1 or any(f > 1 for f in self.width.groups.values())
        if not widens and not any(self.depth.layers.values()):
            raise ValueError(
                "width.factor: got 1 with no width.groups above 1 and no depth.layers, so that "
                "nothing would grow; raise one of them"
            )
        return self
