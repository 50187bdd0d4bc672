"""Made-up records and pictures of robust training: known dips, gaps and attacks, seeded noise."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relearn.reports.comparison import COLUMNS

LAST = {
    "pgd_at": 0.40,
    "pgd_at_stopped": 0.48,
    "pgd_at_ema": 0.41,
    "pgd_at_ema_stopped": 0.47,
    "awp": 0.45,
    "awp_stopped": 0.47,
    "share_zero": 0.42,
    "forget_relearn": 0.47,
    "forget_relearn_student": 0.46,
    "forget_relearn_stopped": 0.485,
    "forget_early": 0.37,
    "forget_only": 0.44,
}
FORGETTING = ("forget_relearn", "forget_relearn_student", "forget_relearn_stopped")
CORRUPTIONS = ("gaussian_noise", "shot_noise", "gaussian_blur", "motion_blur", "contrast", "fog")
CYCLES, EPOCHS, WARMUP = 14, 150, 80


def training_of(arm: str) -> str:
    """Return the training that delivers an arm."""
    names = ("forget_relearn", "forget_early", "forget_only", "share_zero", "awp", "pgd_at")
    return next(name for name in names if arm.startswith(name))


def curve_of(arm: str, epoch: int) -> tuple[float, float]:
    """Return training and validation robust accuracy of a net while it trains."""
    training = training_of(arm)
    rise = 1 - np.exp(-epoch / 9)
    train = 0.5 * rise + 0.37 * min(1.0, epoch / 140)
    validation = 0.49 * rise - 0.08 * max(0.0, (epoch - 35) / 115)
    if training != "pgd_at" and epoch > WARMUP:
        past = min(1.0, (epoch - WARMUP) / 40)
        target = {"awp": 0.45, "forget_early": 0.37, "share_zero": 0.42}.get(training, 0.465)
        validation = validation * (1 - past) + target * past
        train -= 0.1 * past
    return train, validation


def robust_records(*, seeds: int = 3, arms: tuple[str, ...] = tuple(LAST)) -> pd.DataFrame:
    """Return every task that the judge writes, for twelve arms."""
    rows: list[tuple[object, ...]] = []
    for seed in range(seeds):
        for arm in arms:
            generator = np.random.default_rng([seed, list(LAST).index(training_of(arm))])
            put = Writer(rows, arm, seed)
            write_curves(put, generator)
            write_judgement(put, float(generator.normal(0, 0.012)))
            if training_of(arm) not in ("pgd_at", "awp"):
                write_recoveries(put, generator)
    return pd.DataFrame(rows, columns=list(COLUMNS))


class Writer:
    """Appends rows of one arm and seed."""

    def __init__(self, rows: list[tuple[object, ...]], arm: str, seed: int) -> None:
        self.rows, self.arm, self.seed = rows, arm, seed

    def __call__(self, task: str, step: int, **values: float) -> None:
        for metric, value in values.items():
            row = ("forget_relearn", self.arm, self.seed, task, step, metric, float(value))
            self.rows.append(row)


def write_curves(put: Writer, generator: np.random.Generator) -> None:
    averaged = "_ema" in put.arm or put.arm in ("forget_relearn", "forget_relearn_stopped")
    for epoch in range(5, EPOCHS + 1, 5):
        train, validation = curve_of(put.arm, epoch)
        noise = generator.normal(0, 0.006)
        put(
            "curve",
            epoch,
            validation_clean_accuracy=0.86,
            validation_robust_accuracy=validation + noise + (0.012 if averaged else 0),
            student_train_robust_accuracy=train + noise,
            student_validation_robust_accuracy=validation + noise,
            phase=0 if epoch <= WARMUP or training_of(put.arm) in ("pgd_at", "awp") else 2,
        )
    alarm = 75 + 5 * put.seed if training_of(put.arm) == "pgd_at" else -1
    put("alarm", EPOCHS, robust_overfitting_epoch=alarm, peak_robust_accuracy=0.48)


def write_judgement(put: Writer, luck: float) -> None:
    robust = LAST[put.arm] + luck
    put("validation", EPOCHS, clean_accuracy=0.86 + luck, robust_accuracy=robust + 0.005)
    put("test", EPOCHS, clean_accuracy=0.87 + luck, robust_accuracy=robust, delivered_epoch=EPOCHS)
    cascade = {"after_clean": 0.87, "after_apgd_ce": robust - 0.01, "after_apgd_t": robust - 0.03}
    put("auto_attack", EPOCHS, robust_accuracy=robust - 0.03, images=200, **cascade)
    put("square", EPOCHS, robust_accuracy=robust + 0.12)
    if training_of(put.arm) != "pgd_at":
        put("transfer", EPOCHS, robust_accuracy=robust + 0.2)
    for severity in range(1, 6):
        values = {
            name: 0.88 - 0.05 * severity - 0.03 * k + luck + (robust - 0.4) / 3
            for k, name in enumerate(CORRUPTIONS)
        }
        put("corruption", severity, **values, mean_accuracy=float(np.mean(list(values.values()))))
    for number in range(10):
        put("class_robust", number, robust_accuracy=robust + 0.25 * np.sin(number) * 0.8)


def write_recoveries(put: Writer, generator: np.random.Generator) -> None:
    sham = put.arm == "share_zero"
    for cycle in range(1, CYCLES + 1):
        dip = 0.0 if sham else 0.2 * np.exp(-cycle / 9) + generator.normal(0, 0.02)
        never = not sham and generator.random() < 0.1
        rolled = put.arm == "forget_early" and cycle % 5 == 0
        put(
            "recovery",
            cycle,
            epoch=WARMUP + 5 * (cycle - 1),
            dip=dip,
            recovered=0 if never or rolled else 1,
            recovery_epochs=-1 if never or rolled else (1 if sham else generator.integers(1, 5)),
            rolled_back=1 if rolled else 0,
        )


def made_up_pictures(*, images: int = 100, classes: int = 10) -> dict[str, np.ndarray]:
    """Return the pictures of one training: clusters that blur at a forgetting and come back."""
    generator = np.random.default_rng(0)
    labels = np.arange(images) % classes
    turn = 2 * np.pi * np.arange(classes) / classes
    centres = 6 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    found = {
        "labels": labels,
        "indices": 1000 + np.arange(images),
        "axes_share": np.array([0.41, 0.22]),
    }
    for cycle in range(1, CYCLES + 1):
        for moment, shrink, hits in (
            ("before", 1.0, 0.5),
            ("forgotten", 0.5, 0.25),
            ("relearnt", 0.95, 0.55),
        ):
            spread = generator.normal(0, 1.3, (images, 2))
            found[f"cycle{cycle}.{moment}.coordinates"] = shrink * centres[labels] + spread
            for view, more in (("clean", 0.35), ("attacked", 0.0)):
                right = generator.random(images) < hits + more
                wrong = (labels + generator.integers(1, classes, images)) % classes
                found[f"cycle{cycle}.{moment}.{view}_predicted"] = np.where(right, labels, wrong)
    steps = np.arange(CYCLES)
    found["cka"] = np.stack([0.6 + 0.02 * steps, 0.85 + 0.01 * steps], axis=1)
    return found


def study_records(kind: str, *, seeds: int = 3) -> pd.DataFrame:
    """Return validation results of a study's variants beside plain adversarial training."""
    variants = {
        "layers": {
            f"layers_{g}": v
            for g, v in zip(
                ("early", "middle", "late", "head", "all"),
                (0.36, 0.43, 0.47, 0.42, 0.44),
                strict=True,
            )
        },
        "components": {
            "forget_only": 0.44,
            "stable_only": 0.42,
            "forget_stable": 0.46,
            "share_zero": 0.42,
            "forget_relearn": 0.47,
        },
        "fraction_length": {
            f"share_{s:g}_length_{n}": 0.47 - 0.2 * abs(s - 0.1) - 0.004 * abs(n - 6)
            for s in (0.025, 0.05, 0.1, 0.2)
            for n in (3, 6, 12)
        },
    }[kind]
    plain = {
        arm: LAST[arm] for arm in ("pgd_at", "pgd_at_stopped", "pgd_at_ema", "pgd_at_ema_stopped")
    }
    rows: list[tuple[object, ...]] = []
    generator = np.random.default_rng(1)
    for arm, level in (plain | variants).items():
        for seed in range(seeds):
            put = Writer(rows, arm, seed)
            put("validation", EPOCHS, robust_accuracy=level + generator.normal(0, 0.012))
    return pd.DataFrame(rows, columns=list(COLUMNS))
