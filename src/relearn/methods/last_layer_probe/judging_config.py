"""What is measured besides accuracy, and by which thresholds it is judged. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from relearn.methods.last_layer_probe.bodies_config import numbers_in
from relearn.strict import Strict


def _any_numbers(text: str) -> str:
    numbers_in(text, kind=float)
    return text


class CurveConfig(Strict):
    """The learning curve: the same head on fewer images.

    Attributes:
        enabled: Whether it is measured.
        parts: The training images are divided by each of these, such as ``4 2``; all of them are
            the last point.
        rising: Standard errors by which the last doubling must gain to call the curve rising.
    """

    enabled: bool
    parts: str
    rising: float = Field(gt=0)

    @field_validator("parts")
    @classmethod
    def _above_one(cls, text: str) -> str:
        if any(part < 2 for part in numbers_in(text)):
            raise ValueError(f"expected whole numbers of 2 or more, got {text!r}")
        return text


class SensitivityConfig(Strict):
    """How much a head suffers from what field data bring along.

    Attributes:
        enabled: Whether it is measured.
        label_noise: Shares of wrong training labels, parted by blanks.
        imbalance: Ratio of the most to the least frequent class of the training images.
        shift: Corruption of the test images.
        severity: Its strength, 1 to 5.
    """

    enabled: bool
    label_noise: str
    imbalance: float = Field(ge=1)
    shift: Literal["gaussian_noise", "motion_blur", "contrast", "brightness", "pixelate"]
    severity: int = Field(ge=1, le=5)

    @field_validator("label_noise")
    @classmethod
    def _shares(cls, text: str) -> str:
        if any(share >= 1 for share in numbers_in(text, kind=float)):
            raise ValueError(f"expected shares below 1, got {text!r}")
        return text


class SpecialConfig(Strict):
    """From when on data are called special: what holds elsewhere need not hold for them.

    Attributes:
        norm_spread: Standard deviation of the images' lengths over their mean.
        outlier_share: Share of validation images farther from the training images than 99 % of
            these are from each other.
        imbalance: Ratio of the most to the least frequent class.
        label_noise: Share of training images that the kernel head takes for another class with
            large margin, leaving each out in turn.
    """

    norm_spread: float = Field(gt=0)
    outlier_share: float = Field(gt=0, le=1)
    imbalance: float = Field(gt=1)
    label_noise: float = Field(gt=0, le=1)


class VerdictConfig(Strict):
    """Thresholds of PASS, PROMISING, WEAK and FAIL. The paper gives none: all are ours.

    Attributes:
        target: Accuracy T that the application needs.
        sigmas: Standard errors by which a body must beat the linear baseline C.
        halfway: PROMISING: the rest T - s is at most this share of T - C.
        near: Gaps between neighbouring rungs below so many standard errors count as none.
        stop_on_controls: Whether the run fails where permuted labels or a body of noise do not end
            in FAIL.
    """

    target: float = Field(gt=0, le=1)
    sigmas: float = Field(gt=0)
    halfway: float = Field(gt=0, lt=1)
    near: float = Field(gt=0)
    stop_on_controls: bool


class DepthReportConfig(Strict):
    """What is said about depth before anything is trained.

    Attributes:
        deepest: Layers up to which the correlation of two inputs is followed.
        correlation: Of the two inputs at the start.
        images: Training images whose kernel gives the effective rank.
        smallest_rank: Effective rank over images below which a warning is given.
        collapsed: Warn where two such inputs end closer than this to 1, or to 0.
    """

    deepest: int = Field(ge=1, le=4096)
    correlation: float = Field(ge=0, lt=1)
    images: int = Field(ge=8)
    smallest_rank: float = Field(gt=0, lt=1)
    collapsed: float = Field(gt=0, lt=0.5)


class WidthLawConfig(Strict):
    """The law ||k_w - kappa|| ~ 1/sqrt(r), measured.

    Attributes:
        enabled: Whether it is measured.
        images: Training images whose kernels are compared.
        draws: Random bodies a seed over which the squared error is averaged; the arm's own is the
            first of them.
        delta: Probability of failure for which the theorem's width is shown beside the measured
            error.
    """

    enabled: bool
    images: int = Field(ge=8)
    draws: int = Field(ge=1)
    delta: float = Field(gt=0, lt=1)


class InitialisationConfig(Strict):
    """The normalised initialisation of the base net, checked, and swept in its own study.

    Attributes:
        images: Training images on which E s^2 of every layer is measured.
        gains: Factors on the normalised standard deviation, for ``compare: initialisation``.
        betas: Shares of the bias there; 0 is always among them.
    """

    images: int = Field(ge=8)
    gains: str
    betas: str

    _checked = field_validator("gains", "betas")(_any_numbers)

    @model_validator(mode="after")
    def _below_one(self) -> Self:
        if any(share >= 1 for share in numbers_in(self.betas, kind=float)):
            raise ValueError(f"betas: expected shares below 1, got {self.betas!r}")
        return self


class RecheckConfig(Strict):
    """The small set on which a body is measured again when its digest has changed.

    Attributes:
        images: Validation images of it.
        sigmas: Standard errors that count as a change.
    """

    images: int = Field(ge=8)
    sigmas: float = Field(gt=0)
