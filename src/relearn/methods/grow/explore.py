"""Designs grown from one teacher and from one another: what each is, from what, and at what price.

Growth composes: a design whose every part is as wide as another's or wider can be grown from that
one, trained as it is, in place of the teacher. So weights are used again between candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError
from relearn.evaluation.classification import accuracy_of, predict
from relearn.evaluation.efficiency import forward_flops, parameter_count
from relearn.evaluation.records import Log, no_log
from relearn.methods.grow.arms import GROWN, Arm
from relearn.methods.grow.forecast import median_latency
from relearn.methods.grow.growing import inputs_of
from relearn.methods.grow.pair import open_pair
from relearn.methods.grow.planning import plan
from relearn.methods.grow.spec import GrowthSpec
from relearn.methods.grow.student_run import StudentRun
from relearn.methods.grow.teacher import Teacher, score, shape_of
from relearn.models.checkpoint import build, capture
from relearn.training.device import Device, open_device

if TYPE_CHECKING:
    from relearn.data.images import Split, Stream
    from relearn.methods.grow.config import GrowConfig
    from relearn.methods.grow.explore_config import GrowExploreConfig
    from relearn.training.resume import ResumePoint

ARM = Arm("grown", GROWN)


@dataclass(frozen=True)
class Design:
    """One larger net.

    Attributes:
        levels: For each part of the net how many steps wider than the teacher.
        layers: Zero-gated blocks that each stage gets.
    """

    levels: tuple[int, ...]
    layers: int = 0

    @property
    def name(self) -> str:
        """Readable and unique, such as ``w0-2-1.d1``."""
        return f"w{'-'.join(map(str, self.levels))}.d{self.layers}"

    @property
    def is_teacher(self) -> bool:
        """Whether nothing is larger."""
        return not any(self.levels) and not self.layers

    def grows_from(self, other: Design) -> bool:
        """Return whether this design can be grown from another one.

        A stage that has got a block is no list of equal blocks any more, so that blocks are put in
        at once or not at all.
        """
        wider = all(mine >= its for mine, its in zip(self.levels, other.levels, strict=True))
        return wider and self != other and other.layers in (0, self.layers)


def parts_of(teacher: Teacher, split: Split, count: int) -> list[list[str]]:
    """Return the names of the groups that can grow, in consecutive parts of nearly equal number.

    Args:
        teacher: Whose net is divided.
        split: Two of its images are followed through the net.
        count: Number of parts.

    Raises:
        ParameterError: There are more parts than groups.
    """
    example = inputs_of(split, teacher.checkpoint.architecture, 2)
    names = [g.name for g in plan(build(teacher.checkpoint), example, GrowthSpec()).groups]
    if count > len(names):
        raise ParameterError(
            f"grow_explore.parts: got {count}, expected at most {len(names)}: the net has so many "
            "groups that can grow"
        )
    cuts = [round(k * len(names) / count) for k in range(count + 1)]
    return [names[first:last] for first, last in pairwise(cuts)]


def factors_from(
    parent: Design, child: Design, parts: Sequence[Sequence[str]], *, step: float
) -> dict[str, float]:
    """Return by how much each group of the parent must become wider for the child.

    Args:
        parent: What is there.
        child: What is wanted.
        parts: Names of the groups of each part.
        step: Difference of neighbouring factors.
    """
    return {
        name: (1 + step * wanted) / (1 + step * has)
        for names, has, wanted in zip(parts, parent.levels, child.levels, strict=True)
        for name in names
        if wanted > has
    }


def grown_config(
    config: GrowConfig,
    settings: GrowExploreConfig,
    parts: Sequence[Sequence[str]],
    *,
    parent: Design,
    child: Design,
) -> GrowConfig:
    """Return the knobs under which a parent grows to a child and is trained.

    Args:
        config: Knobs of the method.
        settings: Knobs of the exploration.
        parts: Names of the groups of each part.
        parent: What is there.
        child: What is wanted.
    """
    growth = config.growth
    groups = factors_from(parent, child, parts, step=settings.step)
    width = growth.width.model_copy(update={"factor": 1.0, "groups": groups})
    layers = {"auto": child.layers - parent.layers} if child.layers > parent.layers else {}
    depth = growth.depth.model_copy(update={"layers": layers, "kind": "residual"})
    update = {"width": width, "depth": depth}
    train = config.train.model_copy(update={"epochs": settings.epochs})
    return config.model_copy(update={"growth": growth.model_copy(update=update), "train": train})


def train_design(
    parent: Teacher,
    stream: Stream,
    config: GrowConfig,
    *,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> tuple[Teacher, dict[str, float]]:
    """Return a design grown from its parent and trained, fit to be a parent, and its figures.

    Args:
        parent: The teacher, or a design that was trained before.
        stream: Frozen data.
        config: As from ``grown_config``.
        seed: Seed of images, maps and order.
        log: Live curves.
        resume: Where training is kept while it runs; None keeps nothing.
        device: Where to train; None is the plain CPU.

    Returns:
        The design at rest; parameters, forward_flops, latency_seconds (of a batch),
        validation_accuracy, test_accuracy, train_flops (own training), returned (1 where it was
        given up for its parent).

    Raises:
        GrowthError: The parent cannot grow so.
        FunctionChangedError: The grown net computes another function.
    """
    pair = open_pair(parent, stream, config, seed=seed)
    place = device or open_device("cpu", "fp32")
    run = StudentRun(ARM, pair, config, device=place, log=log)
    run.train(resume)
    figures = _figures(run)
    told = {
        **parent.told,
        "flops": int(float(parent.told["flops"]) + figures["train_flops"]),
        "forward_flops": run.forward_flops,
        "steps": int(parent.told["steps"]) + run.steps,
        "train_accuracy": score(run.net, pair.samples.train, run.architecture)[0],
        "validation_accuracy": figures["validation_accuracy"],
        "validation_loss": score(run.net, pair.samples.validation, run.architecture)[1],
    }
    made = {**parent.checkpoint.provenance, "arm": "explored", "steps": run.steps}
    returned = run.returned_at >= 0
    state = parent.optimizer if returned else run.start.optimizer.state_dict()["state"]
    return Teacher(capture(run.net, run.architecture, made), state, told), figures


def _figures(run: StudentRun) -> dict[str, float]:
    samples, shape = run.samples, run.architecture
    often = run.config.evaluation
    batch = inputs_of(samples.validation, shape, often.latency_batch)
    logits = predict(run.net, samples.test.images, mean=shape.mean, std=shape.std)
    return {
        "parameters": float(parameter_count(run.net)),
        "forward_flops": float(forward_flops(run.net, shape_of(shape))),
        "latency_seconds": median_latency(run.net, batch, repeats=often.latency_repeats),
        "validation_accuracy": score(run.net, samples.validation, shape)[0],
        "test_accuracy": accuracy_of(logits, samples.test.labels),
        "train_flops": run.steps * run.flops_per_step,
        "returned": float(run.returned_at >= 0),
    }


def pareto_front(rows: Sequence[Mapping[str, Any]], *, gain: str, price: str) -> list[bool]:
    """Return for each row whether no other is at least as good in both and better in one.

    Args:
        rows: With both figures.
        gain: Name of the figure that is better the higher it is.
        price: Name of the figure that is better the lower it is.
    """

    def beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        level = one[gain] >= other[gain] and one[price] <= other[price]
        return bool(level and (one[gain] > other[gain] or one[price] < other[price]))

    return [not any(beats(other, row) for other in rows) for row in rows]
