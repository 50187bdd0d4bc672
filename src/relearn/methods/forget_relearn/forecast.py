"""What a run will cost, told before it is begun: measured on a few steps, counted to the end."""

from __future__ import annotations

import heapq
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from relearn.errors import ParameterError
from relearn.methods.forget_relearn.arms import trainings_of
from relearn.methods.forget_relearn.epoch_kinds import course_of
from relearn.methods.forget_relearn.estimate import ALIVE, Estimate, estimate
from relearn.methods.forget_relearn.forecast_text import text_of
from relearn.methods.forget_relearn.timed_steps import NOTHING, Seconds, time_training
from relearn.training.device import PLAIN_CPU

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device

_BUSY = 1.3  # seconds that pass for one of the processor: more is waiting for others


def forecast(
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    seeds: int,
    workers: int,
    device: Device | None = None,
    price_per_hour: float = 0.0,
    currency: str = "",
) -> dict[str, Any]:
    """Return what the run that the configuration asks for will cost, in numbers and as a text.

    Args:
        base: Architecture and first weights; it keeps every bit.
        stream: Data of all arms.
        config: Knobs of the method.
        seeds: Pairs.
        workers: Processes side by side.
        device: Where to train; None is the plain CPU.
        price_per_hour: Of the machine; 0 shows no price.
        currency: Behind the price, such as ``EUR``.

    Returns:
        As ``extrapolate``.

    Raises:
        ParameterError: The run would be refused with these settings.
    """
    estimates = estimate(base, stream, config, device=device)
    place = device or PLAIN_CPU
    return extrapolate(
        estimates,
        config,
        seeds=seeds,
        workers=1 if place.name.startswith("cuda") else workers,
        device=place.describe(),
        price=(price_per_hour, currency),
    )


def measure_steps(
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    training: str,
    steps: int = 3,
    device: Device | None = None,
) -> dict[str, float]:
    """Return the seconds of the steps of one training, and its memory.

    Args:
        base: As for ``forecast``.
        stream: As for ``forecast``.
        config: As for ``forecast``.
        training: Its name.
        steps: Steps timed of each kind.
        device: As for ``forecast``.

    Returns:
        ``<kind>_step_seconds`` for each kind of step (``plain``, or parts joined by ``+``),
        ``gradient_seconds``, ``query_seconds`` for one image, ``peak_memory_bytes``.

    Raises:
        ParameterError: There is no such training.
    """
    found = trainings_of(config)
    if training not in found:
        raise ParameterError(
            f"forget_relearn.trainings: {training!r} is not switched on; there are "
            f"{', '.join(found)}"
        )
    kinds = course_of(found[training], config).epochs
    timed = time_training(
        base, stream, config, training=found[training], kinds=kinds, steps=steps, device=device
    )
    told = {f"{kind.name}_step_seconds": spent.wall for kind, spent in timed.steps.items()}
    return {
        **told,
        "gradient_seconds": timed.gradient.wall,
        "query_seconds": timed.query.wall,
        "peak_memory_bytes": float(timed.peak_memory_bytes),
    }


def extrapolate(
    estimates: Mapping[str, Estimate],
    config: ForgetRelearnConfig,
    *,
    seeds: int,
    workers: int,
    device: str = "cpu",
    price: tuple[float, str] = (0.0, ""),
) -> dict[str, Any]:
    """Return the cost of all units on so many workers.

    Args:
        estimates: By name of the training.
        config: Says what is tuned and confirmed besides.
        seeds: Pairs.
        workers: Processes side by side; more than the machine has cores help no further.
        device: In words.
        price: For an hour of the machine, and the currency; 0 shows none.

    Returns:
        ``trainings`` (name to epochs, steps, forgettings, seconds_per_epoch, train_seconds,
        monitor_seconds, judge_seconds, total_seconds, cpu_seconds, extra_percent over ``pgd_at``,
        peak_memory_bytes; each for one seed), ``tuning_seconds``, ``training_seconds``,
        ``judging_seconds`` and ``confirming_seconds`` on the wall, ``wall_seconds`` and
        ``cpu_seconds`` of all, ``extra_percent`` of the method, ``price`` and ``currency``,
        ``seeds``, ``workers``, ``device``, ``assumptions``, ``text``.
    """
    lanes = max(1, min(workers, (os.cpu_count() or 1) // torch.get_num_threads() or 1))
    tuned = _tuned(config)
    stages = {
        "tuning": [one.training for one in estimates.values() for _ in range(tuned)],
        "training": [one.training for _ in range(seeds) for one in estimates.values()],
        "judging": [
            one.judge for _ in range(seeds) for one in estimates.values() for _ in range(one.arms)
        ],
        "confirming": _confirmed(config, estimates),
    }
    walls = {name: makespan([unit.wall for unit in units], lanes) for name, units in stages.items()}
    whole = sum((unit for units in stages.values() for unit in units), start=NOTHING)
    told: dict[str, Any] = {
        "device": device,
        "seeds": seeds,
        "workers": workers,
        "trainings": {name: _row(name, estimates) for name in estimates},
        **{f"{name}_seconds": seconds for name, seconds in walls.items()},
        "wall_seconds": sum(walls.values()),
        "cpu_seconds": whole.cpu,
        "extra_percent": _extra_of_method(estimates),
        "price": price[0] * sum(walls.values()) / 3600,
        "currency": price[1],
        "assumptions": _assumptions(config, lanes),
    }
    waits = _waits(estimates) if device.startswith("cpu") else 1.0
    if waits > _BUSY:
        told["assumptions"].append(
            f"the machine stays as busy as it is: {waits:.1f} s passed for each second of its "
            "processor, and a quiet one takes that much less"
        )
    return {**told, "text": text_of(told)}


def makespan(seconds: list[float], lanes: int) -> float:
    """Return when the last unit ends if each free worker takes the next one, in seconds.

    Args:
        seconds: Of each unit, in order.
        lanes: Workers.
    """
    free = [0.0] * lanes
    for spent in seconds:
        heapq.heapreplace(free, free[0] + spent)
    return max(free)


def _row(name: str, estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    one = estimates[name]
    epochs = sum(one.course.epochs.values())
    judge = one.judge * one.arms
    return {
        "epochs": epochs,
        "steps": epochs * one.timed.steps_per_epoch,
        "seconds_per_epoch": one.train.wall / epochs,
        "forgettings": one.course.forgettings,
        "train_seconds": one.train.wall,
        "monitor_seconds": one.monitor.wall,
        "judge_seconds": judge.wall,
        "total_seconds": (one.training + judge).wall,
        "cpu_seconds": (one.training + judge).cpu,
        "extra_percent": _extra(name, estimates),
        "peak_memory_bytes": one.timed.peak_memory_bytes,
    }


def _extra(name: str, estimates: Mapping[str, Estimate]) -> float | None:
    """Return the training seconds over those of plain adversarial training, in percent."""
    plain = estimates.get("pgd_at")
    if plain is None or not plain.train.wall:
        return None
    return 100 * (estimates[name].train.wall / plain.train.wall - 1)


def _extra_of_method(estimates: Mapping[str, Estimate]) -> float | None:
    """Return what the method costs more: itself where it is trained, else its dearest variant."""
    if "forget_relearn" in estimates:
        return _extra("forget_relearn", estimates)
    treated = [_extra(name, estimates) for name in estimates if name != "pgd_at"]
    return max((extra for extra in treated if extra is not None), default=None)


def _waits(estimates: Mapping[str, Estimate]) -> float:
    """Return the seconds that passed for one of the processor while the steps were measured."""
    whole = sum((one.train for one in estimates.values()), start=NOTHING)
    return whole.wall / whole.cpu if whole.cpu else 1.0


def _tuned(config: ForgetRelearnConfig) -> int:
    """Return the candidates of each training, widenings not counted, times their seeds."""
    tuning = config.tuning
    if not tuning.enabled:
        return 0
    return len(tuning.schedules.names) * tuning.rate.points * tuning.seeds


def _confirmed(config: ForgetRelearnConfig, estimates: Mapping[str, Estimate]) -> list[Seconds]:
    """Return the units in which a study's winner meets the baseline; the dearest one may win."""
    if config.compare == "arms":
        return []
    variants = [one for name, one in estimates.items() if name != "pgd_at"]
    winner = max(variants, key=lambda one: one.training.wall)
    pair = [winner, *(one for name, one in estimates.items() if name == "pgd_at")]
    units = [one.training for one in pair] + [one.judge for one in pair for _ in range(one.arms)]
    return units * config.study.confirm_seeds


def _assumptions(config: ForgetRelearnConfig, lanes: int) -> list[str]:
    told = [
        f"{lanes} unit(s) at a time, each as fast as when it was measured alone",
        f"evaluating attacks work on {100 * ALIVE:g} % of the images on average",
        "starting of processes and writing of files not counted",
    ]
    if config.cycle.trigger not in ("interval", "list"):
        told.append(
            f"trigger {config.cycle.trigger} forgets as often as it may: the dearest course"
        )
    if config.tuning.enabled and config.tuning.rate.widenings:
        told.append("no grid of rates is widened")
    return told
