"""The search: Optuna proposes designs, each is grown from the best one that it contains."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from relearn.execution import Outcome, Unit
    from relearn.methods.grow.explore import Design
    from relearn.methods.grow.explore_config import GrowExploreConfig
    from relearn.methods.grow.teacher import Teacher
    from relearn.pipelines.grow.units import ArmJob, TeacherJob

_log = logging.getLogger(__name__)
FIGURES = "figures.json"


@dataclass(frozen=True)
class Tried:
    """A design that was trained.

    Attributes:
        design: What it is.
        parent: Name of the design it was grown from; empty for the teacher.
        path: Folder of its files.
        figures: What it achieves and costs.
    """

    design: Design
    parent: str
    path: Path
    figures: dict[str, float]


class Search:
    """Proposes, trains and remembers designs.

    Args:
        job: Of the teacher.
        settings: Knobs of the exploration.
        teachers: Folder of the teachers, shared with the pipeline ``grow``.
    """

    def __init__(self, job: TeacherJob, settings: GrowExploreConfig, *, teachers: Path) -> None:
        from relearn.methods.grow.explore import Design, parts_of
        from relearn.methods.grow.pair import samples_of
        from relearn.pipelines.grow.road import first_jobs, train_teachers
        from relearn.pipelines.grow.teacher_store import load_teacher

        index = train_teachers([job], teachers)
        self.first: ArmJob = first_jobs([job], index)[job.seed]
        self.settings, self.config = settings, job.config
        teacher = load_teacher(Path(self.first.teacher))
        self.samples = samples_of(job.stream, job.config, seed=job.seed)
        self.parts = parts_of(teacher, self.samples.train, settings.parts)
        self.taught = float(teacher.told["flops"])
        start = Design((0,) * settings.parts)
        figures = figures_of(teacher, self.samples, self.config)
        self.tried = {start: Tried(start, "", Path(self.first.teacher), figures)}
        self.spent = 0.0

    def run(self, folder: Path) -> pd.DataFrame:
        """Try designs until the trials or the budget are used up, and return the table.

        Args:
            folder: Where the units lie.
        """
        import optuna
        import pandas as pd

        from relearn.methods.grow.explore import pareto_front

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self.first.seed)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        while len(study.trials) < self.settings.trials and self._within_budget():
            trial = study.ask()
            found = self._try(self._proposed(trial), folder)
            study.tell(trial, [found.figures[n] for n in ("validation_accuracy", "forward_flops")])
        rows = [
            {"design": t.design.name, "parent": t.parent, **t.figures} for t in self.tried.values()
        ]
        front = pareto_front(rows, gain="validation_accuracy", price="latency_seconds")
        table = pd.DataFrame(rows).assign(on_front=front)
        told = "grow_explore: %d designs for %.1f times the teacher's training; on the front: %s"
        names = ", ".join(table[table["on_front"]]["design"])
        _log.info(told, len(rows) - 1, self.spent / self.taught, names)
        return table

    def _within_budget(self) -> bool:
        return self.spent < self.settings.budget * self.taught

    def _proposed(self, trial: optuna.Trial) -> Design:
        from relearn.methods.grow.explore import Design

        top = self.settings.levels - 1
        levels = tuple(trial.suggest_int(f"part{k}", 0, top) for k in range(self.settings.parts))
        most = self.settings.most_layers
        return Design(levels, trial.suggest_int("layers", 0, most) if most else 0)

    def _try(self, design: Design, folder: Path) -> Tried:
        """Return the design as it was tried before, or train it from its best forerunner."""
        if design in self.tried:
            return self.tried[design]
        parent = self._parent_of(design)
        outcome = train_unit(self._unit(design, parent), folder, self.first)
        figures = json.loads((outcome.path / FIGURES).read_text(encoding="utf-8"))
        self.spent += figures["train_flops"]
        found = Tried(design, parent.design.name, outcome.path, figures)
        self.tried[design] = found
        return found

    def _parent_of(self, design: Design) -> Tried:
        can = [t for t in self.tried.values() if design.grows_from(t.design)]
        # of equals the larger one: less is left to learn
        return max(
            can, key=lambda t: (t.figures["validation_accuracy"], t.figures["forward_flops"])
        )

    def _unit(self, design: Design, parent: Tried) -> Unit:
        from dataclasses import replace

        from relearn.methods.grow.explore import grown_config
        from relearn.pipelines.grow.teacher_store import CHECKPOINT
        from relearn.pipelines.grow.units import arm_unit
        from relearn.provenance import digest_file

        config = grown_config(
            self.config, self.settings, self.parts, parent=parent.design, child=design
        )
        job = replace(
            self.first,
            teacher=str(parent.path),
            teacher_digest=digest_file(parent.path / CHECKPOINT),
            config=config,
            arm="grown",
            label=design.name,
        )
        return arm_unit(job)


def train_unit(unit: Unit, folder: Path, first: ArmJob) -> Outcome:
    """Train one design, or find it trained, and return where it lies.

    Args:
        unit: The design.
        folder: Where the units lie.
        first: Says how many threads.
    """
    from relearn.execution import map_units, require_all

    execution = first.execution
    outcomes = map_units(
        run_design,
        [unit],
        folder=folder,
        workers=1,
        threads=execution.threads,
        backend=execution.backend,
        describe=f"grow_explore: {unit.key}",
    )
    require_all(outcomes, what="grow_explore")
    return outcomes[0]


def run_design(job: ArmJob, folder: Path) -> None:
    """Train one design and write it as a teacher of further ones, with its figures beside it.

    Args:
        job: What to do; its teacher is the parent.
        folder: The unit's own folder.
    """
    from relearn.atomic import write_text
    from relearn.methods.grow.explore import train_design
    from relearn.pipelines.grow.teacher_store import load_teacher, save_teacher
    from relearn.tracking import arm_run
    from relearn.training.device import device_of
    from relearn.training.memory import keep_freed_memory
    from relearn.training.resume import ResumePoint

    keep_freed_memory()
    parent = load_teacher(Path(job.teacher))
    told = job.config.growth.model_dump()
    with arm_run(job.handle, method="grow", arm=job.label, seed=job.seed, config=told) as run:
        resume = ResumePoint(folder / "resume.safetensors")
        trained, figures = train_design(
            parent,
            job.stream,
            job.config,
            seed=job.seed,
            log=run.log,
            resume=resume,
            device=device_of(job.execution, parent.checkpoint.architecture),
        )
        save_teacher(trained, folder)
        write_text(folder / FIGURES, json.dumps(figures))
        resume.clear()


def figures_of(teacher: Teacher, samples: Any, config: Any) -> dict[str, float]:
    """Return the figures of the teacher itself, in the form of a design's.

    Args:
        teacher: At rest.
        samples: Images of its seed.
        config: Says how latency is measured.
    """
    from relearn.evaluation.efficiency import forward_flops, parameter_count
    from relearn.methods.grow.forecast import median_latency
    from relearn.methods.grow.growing import inputs_of
    from relearn.methods.grow.teacher import score, shape_of
    from relearn.models.checkpoint import build

    net, shape = build(teacher.checkpoint), teacher.checkpoint.architecture
    often = config.evaluation
    batch = inputs_of(samples.validation, shape, often.latency_batch)
    return {
        "parameters": float(parameter_count(net)),
        "forward_flops": float(forward_flops(net, shape_of(shape))),
        "latency_seconds": median_latency(net, batch, repeats=often.latency_repeats),
        "validation_accuracy": score(net, samples.validation, shape)[0],
        "test_accuracy": score(net, samples.test, shape)[0],
        "train_flops": 0.0,
        "returned": 0.0,
    }
