"""Are these images special? Reasons why a verdict may not hold elsewhere, or later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.data.randomness import generator_of

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.judging_config import SpecialConfig
    from relearn.methods.last_layer_probe.samples import Samples

_MOST = 1000
_MARGIN = 0.5


def look_at(samples: Samples, *, seed: int) -> dict[str, float]:
    """Return norm_spread, outlier_share and imbalance of the images of one seed.

    Args:
        samples: Of the seed.
        seed: Of the draw of images that are compared.
    """
    train = _some(samples.train.images, seed, "train").float().flatten(1) / 255
    held = _some(samples.validation.images, seed, "validation").float().flatten(1) / 255
    lengths = train.norm(dim=1)
    counts = torch.bincount(samples.train.labels, minlength=samples.classes).clamp_min(1)
    return {
        "norm_spread": float(lengths.std() / lengths.mean().clamp_min(1e-12)),
        "outlier_share": outlier_share(train, held),
        "imbalance": float(counts.max() / counts.min()),
    }


def outlier_share(train: Tensor, held: Tensor) -> float:
    """Return the share of held-out rows farther from all training rows than 99 % of those are.

    Args:
        train: Shape (n, d), two rows or more.
        held: Shape (m, d).
    """
    among = torch.cdist(train, train)
    among.fill_diagonal_(torch.inf)
    usual = among.min(1).values.quantile(0.99)
    return float((torch.cdist(held, train).min(1).values > usual).double().mean())


def suspicious_share(loo_scores: Tensor, labels: Tensor) -> float:
    """Return the share of training rows that a head fitted without them takes for another class.

    Ridge scores of a class are near 1 where it is sure; a margin of half counts.

    Args:
        loo_scores: Unsharpened, shape (n, classes).
        labels: int64, shape (n,).
    """
    best = loo_scores.max(1)
    own = loo_scores.gather(1, labels[:, None]).squeeze(1)
    wrong = (best.indices != labels) & (best.values - own > _MARGIN)
    return float(wrong.double().mean())


def reasons_of(
    looks: dict[str, float], config: SpecialConfig, *, suspicious: float = 0.0
) -> list[str]:
    """Return why the data are special, in words; empty where they are not.

    Args:
        looks: As from ``look_at``.
        config: Thresholds.
        suspicious: As from ``suspicious_share``.
    """
    found = []
    if looks["norm_spread"] > config.norm_spread:
        found.append(
            f"the images' lengths spread by {100 * looks['norm_spread']:.0f} % of their mean, "
            "which input_norm: global drops"
        )
    if looks["outlier_share"] > config.outlier_share:
        found.append(
            f"{100 * looks['outlier_share']:.0f} % of the validation images lie far from all "
            "training images"
        )
    if looks["imbalance"] > config.imbalance:
        found.append(f"the largest class has {looks['imbalance']:.1f} times the smallest one")
    if suspicious > config.label_noise:
        found.append(
            f"{100 * suspicious:.0f} % of the training labels look wrong to a head that has not "
            "seen them"
        )
    return found


def _some(images: Tensor, seed: int, part: str) -> Tensor:
    order = torch.randperm(
        len(images), generator=generator_of(seed, f"last_layer_probe.special.{part}")
    )
    return images[order[:_MOST]]
